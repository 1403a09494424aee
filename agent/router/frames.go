package router

// frames follows the frame boundaries of one direction of a WebSocket (RFC 6455 §5.2), so that a
// frame of the router's own can be put between two others. It looks at headers only.
type frames struct {
	head []byte // the header bytes seen so far, at most 14
	left uint64 // payload bytes until the next header
}

// newFrames returns what follows a WebSocket, or nil for other protocols.
func newFrames(upgrade string) *frames {
	if !isWebSocket(upgrade) {
		return nil
	}
	return &frames{head: make([]byte, 0, 14)}
}

// between reports whether a frame may be inserted now.
func (f *frames) between() bool { return f != nil && f.left == 0 && len(f.head) == 0 }

// pass notes bytes that were sent.
func (f *frames) pass(p []byte) {
	if f == nil {
		return
	}
	for len(p) > 0 {
		if f.left > 0 {
			n := min(f.left, uint64(len(p)))
			f.left -= n
			p = p[n:]
			continue
		}
		f.head = append(f.head, p[0])
		p = p[1:]
		if size, length, ok := frameHead(f.head); ok && len(f.head) == size {
			f.left = length
			f.head = f.head[:0]
		}
	}
}

// frameHead returns the size of the header that h begins and the length of its payload; ok is
// false while h is too short to tell.
func frameHead(h []byte) (size int, length uint64, ok bool) {
	if len(h) < 2 {
		return 0, 0, false
	}
	size = 2
	length = uint64(h[1] & 0x7f)
	wide := 0
	switch length {
	case 126:
		wide = 2
	case 127:
		wide = 8
	}
	if len(h) < size+wide {
		return 0, 0, false
	}
	if wide > 0 {
		length = 0
		for _, b := range h[2 : 2+wide] {
			length = length<<8 | uint64(b)
		}
	}
	size += wide
	if h[1]&0x80 != 0 {
		size += 4
	}
	return size, length, true
}

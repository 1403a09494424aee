package bubble

import (
	"archive/tar"
	"compress/gzip"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"slipway/api"
)

// TestLargeSourceTakesNoMemory uploads half a gigabyte, whose manifest comes last, and begins a
// build of it. Client and server share the heap that is watched.
func TestLargeSourceTakesNoMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("writes half a gigabyte")
	}
	const size, bound = 500 * api.MiB, 64 * api.MiB
	inBubble(t, []string{"n1"}, func(r *rack) {
		c := newConvox(r)
		defer c.http.CloseIdleConnections()
		r.must(r.CreateApp(r.ctx, "shop"))
		heap := watchHeap()
		source := largeSource(int64(size), heap.look)
		defer source.Close()
		req, err := http.NewRequestWithContext(r.ctx, "POST", "https://"+httpAddr+"/apps/shop/objects/tmp/large.tgz", source)
		if err != nil {
			t.Fatal(err)
		}
		req.SetBasicAuth("convox", c.tokens["deploy"])
		status, text := c.plain(req)
		m := regexp.MustCompile(`"url":"(object://shop/sha256:[0-9a-f]{64})"`).FindStringSubmatch(text)
		if status != http.StatusOK || m == nil {
			t.Fatalf("upload: %d %s", status, text)
		}
		stop := heap.poll()
		c.do(ask{row: "POST /apps/{app}/builds", path: "/apps/shop/builds", form: url.Values{"url": {m[1]}, "description": {"large"}}, want: `"id":"B[A-Z]{10}"`})
		stop()
		if grown := heap.grown(); grown > bound {
			t.Errorf("the heap grew by %s", grown)
		} else {
			t.Logf("the heap grew by %s", grown)
		}
	})
}

// largeSource is a compressed tar of so many random bytes and a manifest; it is made as it is read.
// look is called now and then.
func largeSource(size int64, look func()) io.ReadCloser {
	out, in := io.Pipe()
	go func() {
		z, err := gzip.NewWriterLevel(in, gzip.NoCompression)
		if err != nil {
			panic(err) // the level is right
		}
		w := tar.NewWriter(z)
		write := func(name string, size int64, from io.Reader) {
			if err == nil {
				err = w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: size, Typeflag: tar.TypeReg})
			}
			for ; err == nil && size > 0; size -= 8 << 20 {
				_, err = io.CopyN(w, from, min(size, 8<<20))
				look()
			}
		}
		write("./data", size, rand.NewChaCha8([32]byte{}))
		write("./convox.yml", int64(len(shop)), strings.NewReader(shop))
		if err == nil {
			err = w.Close()
		}
		if err == nil {
			err = z.Close()
		}
		in.CloseWithError(err)
	}()
	return out
}

// heapWatch knows the most that was ever in use.
type heapWatch struct{ before, most uint64 }

func watchHeap() *heapWatch {
	runtime.GC()
	h := &heapWatch{}
	h.look()
	h.before = h.most
	return h
}

// look compares what is in use now, garbage included.
func (h *heapWatch) look() {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	h.most = max(h.most, m.HeapInuse)
}

// poll looks until stop is called.
func (h *heapWatch) poll() (stop func()) {
	ending, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			h.look()
			select {
			case <-ending:
				return
			case <-time.After(time.Millisecond): // virtual time: passes when everything waits
			}
		}
	}()
	return func() {
		close(ending)
		<-ended
	}
}

func (h *heapWatch) grown() api.Bytes { return api.Bytes(h.most - h.before) }

package raftstore

import (
	"bufio"
	"bytes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"golang.org/x/crypto/argon2"
	"golang.org/x/crypto/chacha20poly1305"

	"slipway/api"
)

// The form of a sealed file: a head, then chunks of ChaCha20-Poly1305, each of chunkSize bytes
// but for the last. The head is magic, version (1), passes (1), memory in KiB (4), lanes (1),
// salt (16), check (16) and the first 8 bytes of a SHA-256 of all that. Key and check are drawn
// from the passphrase by Argon2id; the check tells a wrong passphrase from a damaged file. The
// nonce of a chunk is its number and whether it is the last, and each chunk is bound to the head:
// no chunk can be altered, moved, left out or added.
const (
	sealMagic   = "slipway-backup\n"
	sealVersion = 1
	saltSize    = 16
	checkSize   = 16
	headSumSize = 8
	chunkSize   = 64 << 10

	bareHead = len(sealMagic) + 1 + 1 + 4 + 1 + saltSize + checkSize
	headSize = bareHead + headSumSize
)

// kdf is how much work it takes to try a passphrase.
type kdf struct {
	passes uint8
	memory uint32 // KiB
	lanes  uint8
}

// sealCost is the second choice of RFC 9106, for machines that do not have 2 GiB to spare.
var sealCost = kdf{passes: 3, memory: 64 << 10, lanes: 4}

// sealMost bounds what a file may ask of the machine that reads it.
var sealMost = kdf{passes: 16, memory: 1 << 20, lanes: 16}

func (k kdf) derive(passphrase string, salt []byte) (key, check []byte) {
	b := argon2.IDKey([]byte(passphrase), salt, uint32(k.passes), k.memory, k.lanes, chacha20poly1305.KeySize+checkSize)
	return b[:chacha20poly1305.KeySize], b[chacha20poly1305.KeySize:]
}

// sealer encrypts what is written to it.
type sealer struct {
	w    io.Writer
	aead cipher.AEAD
	head []byte
	buf  []byte // plain text of the chunk in the making
	n    uint64 // of that chunk
}

// newSealer writes the head. Close writes the last chunk and must be called.
func newSealer(w io.Writer, passphrase string, cost kdf) (*sealer, error) {
	if passphrase == "" {
		return nil, api.Errorf(api.CodeInvalid, "a backup needs a passphrase: it holds the keys of the rack")
	}
	salt := make([]byte, saltSize)
	rand.Read(salt)
	key, check := cost.derive(passphrase, salt)
	aead, err := chacha20poly1305.New(key)
	if err != nil {
		return nil, fmt.Errorf("seal backup: %w", err)
	}
	head := append([]byte(sealMagic), sealVersion, cost.passes)
	head = append(binary.BigEndian.AppendUint32(head, cost.memory), cost.lanes)
	head = append(append(head, salt...), check...)
	sum := sha256.Sum256(head)
	head = append(head, sum[:headSumSize]...)
	if _, err := w.Write(head); err != nil {
		return nil, fmt.Errorf("write backup: %w", err)
	}
	return &sealer{w: w, aead: aead, head: head, buf: make([]byte, 0, chunkSize)}, nil
}

// Write adds plain text.
func (s *sealer) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		if len(s.buf) == chunkSize { // more follows, so this chunk is not the last
			if err := s.flush(false); err != nil {
				return 0, err
			}
		}
		m := copy(s.buf[len(s.buf):chunkSize], p)
		s.buf, p = s.buf[:len(s.buf)+m], p[m:]
	}
	return n, nil
}

// Close writes the last chunk; it does not close the writer below.
func (s *sealer) Close() error { return s.flush(true) }

func (s *sealer) flush(last bool) error {
	sealed := s.aead.Seal(nil, chunkNonce(s.n, last), s.buf, s.head)
	if _, err := s.w.Write(sealed); err != nil {
		return fmt.Errorf("write backup: %w", err)
	}
	s.buf, s.n = s.buf[:0], s.n+1
	return nil
}

func chunkNonce(n uint64, last bool) []byte {
	nonce := make([]byte, chacha20poly1305.NonceSize)
	binary.BigEndian.PutUint64(nonce, n)
	if last {
		nonce[len(nonce)-1] = 1
	}
	return nonce
}

// opener decrypts what a sealer wrote. It returns only what is genuine, and io.EOF only behind
// the last chunk.
type opener struct {
	r    *bufio.Reader
	aead cipher.AEAD
	head []byte
	rest []byte // plain text that was not read yet
	n    uint64
	last bool
}

// newOpener reads the head and checks the passphrase.
func newOpener(r io.Reader, passphrase string) (*opener, error) {
	o := &opener{r: bufio.NewReaderSize(r, chunkSize+chacha20poly1305.Overhead), head: make([]byte, headSize)}
	if _, err := io.ReadFull(o.r, o.head); err != nil {
		return nil, damaged("it ends within its head")
	}
	if !bytes.HasPrefix(o.head, []byte(sealMagic)) {
		return nil, api.Errorf(api.CodeInvalid, "the file is not a backup of a rack; give the path of a file that slipway wrote as a backup")
	}
	b := o.head[len(sealMagic):]
	if b[0] != sealVersion {
		return nil, api.Errorf(api.CodeInvalid, "the backup has version %d, this program reads %d; use the slipwayd that wrote it, or a newer one", b[0], sealVersion)
	}
	sum := sha256.Sum256(o.head[:bareHead])
	if !bytes.Equal(sum[:headSumSize], o.head[bareHead:]) {
		return nil, damaged("its head does not match its checksum")
	}
	cost := kdf{passes: b[1], memory: binary.BigEndian.Uint32(b[2:]), lanes: b[6]}
	if cost.passes == 0 || cost.lanes == 0 || cost.passes > sealMost.passes || cost.memory > sealMost.memory || cost.lanes > sealMost.lanes {
		return nil, damaged("its head asks for impossible parameters")
	}
	key, check := cost.derive(passphrase, b[7:7+saltSize])
	if subtle.ConstantTimeCompare(check, b[7+saltSize:7+saltSize+checkSize]) != 1 {
		return nil, api.Errorf(api.CodeDenied, "the passphrase does not fit this backup; give the one it was made with")
	}
	aead, err := chacha20poly1305.New(key)
	if err != nil {
		return nil, fmt.Errorf("open backup: %w", err)
	}
	o.aead = aead
	return o, nil
}

// Read returns plain text.
func (o *opener) Read(p []byte) (int, error) {
	for len(o.rest) == 0 {
		if o.last {
			return 0, io.EOF
		}
		if err := o.next(); err != nil {
			return 0, err
		}
	}
	n := copy(p, o.rest)
	o.rest = o.rest[n:]
	return n, nil
}

// next opens one chunk.
func (o *opener) next() error {
	sealed := make([]byte, chunkSize+chacha20poly1305.Overhead)
	n, err := io.ReadFull(o.r, sealed)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read backup: %w", err)
	}
	_, err = o.r.Peek(1)
	o.last = errors.Is(err, io.EOF)
	if o.rest, err = o.aead.Open(sealed[:0], chunkNonce(o.n, o.last), sealed[:n], o.head); err != nil {
		return damaged(fmt.Sprintf("it was altered or cut off within the %d bytes at %d", n, int64(headSize)+int64(o.n)*int64(len(sealed))))
	}
	o.n++
	return nil
}

// damaged is the error of a file that is not as it was written.
func damaged(how string) error {
	return api.Errorf(api.CodeInvalid, "the backup is damaged: %s; nothing of it was used, take another copy of it", how)
}

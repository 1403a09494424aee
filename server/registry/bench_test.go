package registry

import (
	"io"
	"net/http"
	"testing"
)

// BenchmarkPull reads a layer of 64 MiB over TLS: from the server that has it, through one that
// has to fetch it, and as Replicate does without a client.
func BenchmarkPull(b *testing.B) {
	const size = 64 << 20
	c := newCluster(b, 2, nil)
	img := bigImage(b, size)
	digest := c.push(b, c.members[0], "hello:v1", img)
	path, _ := layerPath(b, img)
	read := func(m *member) {
		resp, err := c.get(b.Context(), m, http.MethodGet, path, "")
		if err != nil {
			b.Fatal(err)
		}
		defer resp.Body.Close()
		if n, err := io.Copy(io.Discard, resp.Body); err != nil || n < size || resp.StatusCode != http.StatusOK {
			b.Fatalf("%s, %d bytes, %v", resp.Status, n, err)
		}
	}
	empty := func() {
		b.StopTimer()
		if _, err := c.members[1].GC(b.Context(), func(string) map[string]bool { return map[string]bool{} }); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
	b.Run("here", func(b *testing.B) {
		b.SetBytes(size)
		for b.Loop() {
			read(c.members[0])
		}
	})
	b.Run("through", func(b *testing.B) {
		b.SetBytes(size)
		for b.Loop() {
			empty()
			read(c.members[1])
		}
	})
	b.Run("replicate", func(b *testing.B) {
		b.SetBytes(size)
		for b.Loop() {
			empty()
			if err := c.members[1].Replicate(b.Context(), "hello", digest); err != nil {
				b.Fatal(err)
			}
		}
	})
}

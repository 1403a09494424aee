// Package durable replaces files so that a crash of the program or of the machine leaves the old
// content or the new one, and the new one once the call has returned. Libraries that rename do
// not wait for the directory, so that a key which was handed out could be gone after a power cut.
// It imports nothing of ours and starts no goroutine.
package durable

// Package images makes the base images that tests and `make up` build on, out of what the
// machine already has, and pushes them to a rack's registry. It needs no other registry.
//
// Busybox holds the machine's static busybox; Golang adds its Go toolchain; FromBinary holds
// one static program. The same input gives the same digest: entries are sorted, owned by root
// and carry one fixed time.
package images

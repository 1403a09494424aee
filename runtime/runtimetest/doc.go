// Package runtimetest is the suite that every container engine passes. Run checks what package
// runtime promises of any engine; Confine checks what only a kernel can keep: users, mounts,
// limits, hostile images. Package fake runs the first part, package containerd both.
//
// A new engine needs no tests of its own for what is checked here: it implements Harness.
package runtimetest

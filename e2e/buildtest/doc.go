// Package buildtest tests agent/build against server/registry: real builds, which need root, a
// kernel with overlayfs, runc and nft. It holds nothing but tests.
package buildtest

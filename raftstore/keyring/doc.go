// Package keyring encrypts what must not stand in the Raft log in plain text: environments and
// commands. The keys live in one file of each server, mode 0600, and never enter the log.
//
// A sealed value is: version (1 byte) key ID (4) nonce (12) AES-256-GCM ciphertext. The
// additional data binds it to what it belongs to, so that a value cannot be moved to another
// object.
package keyring

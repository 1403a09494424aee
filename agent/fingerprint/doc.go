// Package fingerprint finds out what a machine is and has: the facts that an agent registers
// and that constraints can use.
package fingerprint

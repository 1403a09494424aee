// Package tidy checks the rules of the house that a compiler does not: who may import whom,
// what pure packages may not touch, one package comment each, and the size of functions and
// files.
package tidy

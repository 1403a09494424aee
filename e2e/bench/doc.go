// Package bench holds the rows of `make bench`: figures, each beside a peer or a limit of the same
// run. Tests of any package may import it, and no program does.
package bench

//go:build !linux

package boltlog

import "os"

// Servers run on Linux. Elsewhere one runs only inside of the CLI's tests, which need no more
// than this.

func reserveBlocks(*os.File, int64) error { return nil }

func syncData(f *os.File) error { return f.Sync() }

package boltlog

import (
	"os"
	"syscall"
)

const keepSize = 1 // FALLOC_FL_KEEP_SIZE: blocks beyond the end of the file are fine

// reserveBlocks holds the blocks of a file up to a size. A file system that cannot is no error.
func reserveBlocks(f *os.File, size int64) error {
	if err := syscall.Fallocate(int(f.Fd()), keepSize, 0, size); err != syscall.EOPNOTSUPP {
		return err
	}
	return nil
}

// syncData calls fdatasync: the length of the file is synced with it where it matters.
func syncData(f *os.File) error {
	for {
		if err := syscall.Fdatasync(int(f.Fd())); err != syscall.EINTR {
			return err
		}
	}
}

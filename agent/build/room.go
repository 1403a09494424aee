package build

import (
	"context"
	"syscall"
	"time"

	"github.com/moby/buildkit/client"

	"slipway/api"
)

const (
	// freeMax is kept free on the disk, at the price of the cache, and freePart on a small disk.
	freeMax  = 2 * api.GiB
	freePart = 10
	roomMax  = time.Minute
	// leftMax bounds the wait for what goes by itself, leftPause is between two looks.
	leftMax   = 2 * time.Second
	leftPause = 50 * time.Millisecond
)

// freeMin is how much of the disk of dir the cache leaves free, and free what is now, in bytes.
func freeMin(dir string) (least, free int64) {
	var s syscall.Statfs_t
	if err := syscall.Statfs(dir, &s); err != nil {
		return 0, 0
	}
	return min(int64(freeMax), int64(s.Blocks)*s.Bsize/freePart), int64(s.Bavail) * s.Bsize
}

// makeRoom takes from the cache until enough of the disk is free: first what steps keep for
// themselves, which may be what has filled it, then what was used least recently. It comes after
// a build, for while one fills the disk the whole cache would go in vain.
func (b *Builder) makeRoom(ctx context.Context) {
	least, free := freeMin(b.config.engineDir())
	if free >= least || ctx.Err() != nil { // the next build does it
		return
	}
	ctx, cancel := context.WithTimeout(ctx, roomMax)
	defer cancel()
	lease, release, err := b.engine(ctx)
	if err != nil {
		b.config.Logger.Warn("build cache not made smaller", "err", err)
		return
	}
	defer release()
	err = b.prune(ctx, lease.client, least)
	_, now := freeMin(b.config.engineDir())
	b.config.Logger.Info("build cache made smaller", "freed_bytes", now-free, "err", err)
}

func (b *Builder) prune(ctx context.Context, engine *client.Client, least int64) error {
	keep := client.WithKeepOpt(0, 0, 0, least)
	// What a failed build has left goes a moment after it; a prune of nothing hastens that.
	for end := time.Now().Add(leftMax); time.Now().Before(end); time.Sleep(leftPause) {
		if err := engine.Prune(ctx, nil, keep, client.WithFilter([]string{"id==none"})); err != nil {
			return err
		}
		if _, free := freeMin(b.config.engineDir()); free >= least {
			return nil
		}
	}
	if err := engine.Prune(ctx, nil, keep, client.PruneAll, client.WithFilter([]string{"type==exec.cachemount"})); err != nil {
		return err
	}
	return engine.Prune(ctx, nil, keep, client.PruneAll)
}

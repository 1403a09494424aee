package agent

import (
	"context"
	"time"
)

// unusedMax is how long an image stays on the node after the last process that ran it: a
// rollback within that time need not pull it again. The rack's registry keeps it longer.
const unusedMax = 3 * time.Hour

// collectImages removes the images that no process of the node has used for a while. It counts
// from when it first saw them unused, so that a restart grants them all their time anew. It runs
// where new processes are taken on: none can begin to use an image meanwhile.
func (a *Agent) collectImages(ctx context.Context) {
	used := map[string]bool{}
	for _, as := range a.Assignments() {
		used[as.Image.Ref()] = true
	}
	containers, err := a.cfg.Runtime.List(ctx)
	if err != nil {
		a.log.Warn("images not collected", "err", err)
		return
	}
	for _, c := range containers {
		used[c.Image] = true
	}
	images, err := a.cfg.Runtime.ListImages(ctx)
	if err != nil {
		a.log.Warn("images not collected", "err", err)
		return
	}
	unused := map[string]time.Time{}
	for _, image := range images {
		since, known := a.unused[image.Ref]
		switch {
		case used[image.Ref]:
			continue
		case !known:
			since = a.now()
		case a.now().Sub(since) >= unusedMax:
			if err := a.cfg.Runtime.RemoveImage(ctx, image.Ref); err != nil {
				a.log.Warn("image not removed", "image", image.Ref, "err", err)
				break
			}
			a.log.Info("image removed", "image", image.Ref, "unused_since", since)
			continue
		}
		unused[image.Ref] = since
	}
	a.unused = unused
}

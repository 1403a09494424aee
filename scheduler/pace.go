package scheduler

import "time"

// A slot whose process ended by itself is tried again at once; after the second end in a row
// it waits 1 s, then 2 s, 4 s … up to backoffMax. A process that lasted longer than
// backoffReset starts the count anew.
const (
	backoffFirst = time.Second
	backoffMax   = time.Minute
	backoffReset = 10 * time.Minute
)

// retryAt is when a slot may have its next process; zero for now.
func retryAt(h past) time.Time {
	if h.failures < 2 {
		return time.Time{}
	}
	wait := backoffMax
	if n := h.failures - 2; n < 6 {
		wait = min(backoffMax, backoffFirst<<n)
	}
	return h.last.Observed.Finished.Add(wait)
}

package rollout

import "slipway/api"

// bounds limits the copies of a service while they are replaced.
type bounds struct {
	n       int // copies that are wanted in the end
	surge   int // copies beyond n that are allowed beside those that are on their way out
	missing int // ready copies below n that are allowed
}

// boundsOf derives the bounds from the manifest's percentages. The rounding is that of
// Kubernetes: what may be surplus is rounded up, what may be missing is rounded down, so that
// one copy at 50/200 starts the new one first.
func boundsOf(spec *api.ServiceSpec, n int) bounds {
	b := bounds{n: n, surge: (n*max(0, spec.Maximum-100) + 99) / 100, missing: n * (100 - spec.Minimum) / 100}
	switch {
	case spec.Singleton:
		b.surge, b.missing = 0, n
	case b.surge == 0 && b.missing == 0:
		b.surge = 1 // otherwise nothing could ever move
	}
	return b
}

// next says how many new copies and how many old ones should be alive. fresh counts new copies
// that are alive, ready those of them that serve, old those that are to be replaced, leaving those
// that drain or stop already. As in Kubernetes, the maximum does not count the leaving: a request
// that lasts for minutes does not hold a deployment up. Without any surge it does: who allows no
// copy more has no room for one.
func (b bounds) next(fresh, ready, old, leaving int) (wantNew, wantOld int) {
	held := old
	if b.surge == 0 {
		held += leaving
	}
	// New copies fill what the old ones leave free.
	wantNew = min(b.n, max(fresh, b.n+b.surge-held))
	// Old copies go as far as the ready ones stay above the minimum.
	if ready < b.n {
		wantOld = max(0, b.n-b.missing-ready)
	}
	return wantNew, wantOld
}

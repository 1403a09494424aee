package bench

import (
	"cmp"
	"encoding/json"
	"os"
	"slices"
	"testing"
)

// row is one figure.
type row struct {
	Name         string  `json:"name"`
	Value        float64 `json:"value"`
	Unit         string  `json:"unit"`
	Against      string  `json:"against"`
	AgainstValue float64 `json:"against_value"`
	Ratio        float64 `json:"ratio"` // 0 where there is nothing to divide by
	Note         string  `json:"note"`
}

// Report collects the figures of one test.
type Report struct{ rows []row }

// To skips a test unless a variable of the environment names a file; there the report goes when
// the test has passed.
func To(t *testing.T, variable string) *Report {
	t.Helper()
	file := os.Getenv(variable)
	if file == "" {
		t.Skipf("set %s to a file, or run: make bench", variable)
	}
	r := new(Report)
	t.Cleanup(func() {
		if t.Failed() {
			return
		}
		b, err := json.MarshalIndent(r.rows, "", "  ")
		if err == nil {
			err = os.WriteFile(file, b, 0o644)
		}
		if err != nil {
			t.Error(err)
		}
		for _, x := range r.rows {
			t.Logf("%s %.3f %s, %.3f of %s %.3f: %s", x.Name, x.Value, x.Unit, x.Ratio, x.Against, x.AgainstValue, x.Note)
		}
	})
	return r
}

// Add adds a figure and what it is held against, both in the same unit.
func (r *Report) Add(name string, value float64, unit, against string, peer float64, note string) {
	x := row{Name: name, Value: value, Unit: unit, Against: against, AgainstValue: peer, Note: note}
	if peer != 0 {
		x.Ratio = value / peer
	}
	r.rows = append(r.rows, x)
}

// Median returns the middle one of values, the upper of two. It panics where there are none.
func Median[T cmp.Ordered](values []T) T {
	values = slices.Sorted(slices.Values(values))
	return values[len(values)/2]
}

package bench

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestReportIsWrittenWhenItsTestHasPassed(t *testing.T) {
	file := filepath.Join(t.TempDir(), "rows.json")
	t.Setenv("SLIPWAY_BENCH_BENCH", file)
	t.Run("report", func(t *testing.T) {
		r := To(t, "SLIPWAY_BENCH_BENCH")
		r.Add("deploy_s", 3, "s", "limit", 2, "of one app")
		r.Add("lost", 1, "lines", "written", 0, "")
		if _, err := os.Stat(file); err == nil {
			t.Error("the report is there before the test has ended")
		}
	})
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var rows []row
	if err := json.Unmarshal(b, &rows); err != nil {
		t.Fatal(err)
	}
	want := row{"deploy_s", 3, "s", "limit", 2, 1.5, "of one app"}
	if len(rows) != 2 || rows[0] != want || rows[1].Ratio != 0 {
		t.Errorf("rows are %+v, want %+v and one without a ratio", rows, want)
	}
}

func TestNoFileNoReport(t *testing.T) {
	t.Setenv("SLIPWAY_BENCH_BENCH", "")
	t.Run("report", func(t *testing.T) {
		defer func() {
			if !t.Skipped() {
				t.Error("a test without a file for its report is not skipped")
			}
		}()
		To(t, "SLIPWAY_BENCH_BENCH")
	})
}

func TestMedianLeavesValuesInOrder(t *testing.T) {
	values := []time.Duration{3, 1, 2, 4}
	if m := Median(values); m != 3 {
		t.Errorf("median %d, want 3", m)
	}
	if values[0] != 3 || values[3] != 4 {
		t.Errorf("values are %v", values)
	}
}

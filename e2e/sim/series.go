package sim

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"slipway/api"
)

// Series is what a run looked like, a point each simulated minute.
type Series struct {
	w      *World
	began  time.Time
	counts map[string]int // events since the last point
	Total  map[string]int // events, by type
	Points []Point
}

// Point is one minute.
type Point struct {
	Placed  int     // copies that got a node
	Lost    int     // processes that their node lost
	Ready   int     // copies that serve
	Wanted  int     // copies that are wanted
	Waiting int     // services of which copies have no place
	Share   float64 // of the wanted copies that serve, at most 1
}

const pointEvery = time.Minute

// newSeries begins to take points.
func newSeries(w *World) *Series {
	s := &Series{w: w, began: w.Now, counts: map[string]int{}, Total: map[string]int{}}
	s.plan()
	return s
}

func (s *Series) plan() {
	s.w.after(pointEvery, func() {
		s.take()
		s.plan()
	})
}

// count counts an event. A nil Series counts nothing.
func (s *Series) count(kind string) {
	if s != nil {
		s.counts[kind]++
		s.Total[kind]++
	}
}

func (s *Series) take() {
	p := Point{Placed: s.counts["process.assigned"], Lost: s.counts["process.lost"]}
	clear(s.counts)
	v := s.w.State.View()
	for svc := range v.AllServices() {
		for _, w := range svc.Want {
			p.Wanted += w.Count
		}
	}
	for q := range v.LiveProcesses() {
		if q.Kind == api.KindService && q.Ready {
			p.Ready++
		}
	}
	for range v.WaitingServices() {
		p.Waiting++
	}
	p.Share = 1
	if p.Wanted > 0 {
		p.Share = min(1, float64(p.Ready)/float64(p.Wanted))
	}
	s.Points = append(s.Points, p)
}

// Text is the series in numbers.
func (s *Series) Text() string {
	share, worst := 0.0, 1.0
	for _, p := range s.Points {
		share += p.Share
		worst = min(worst, p.Share)
	}
	if n := len(s.Points); n > 0 {
		share /= float64(n)
	}
	return fmt.Sprintf("placements %d, processes lost %d, deployments %d succeeded and %d failed; of the wanted copies %.1f %% served on average, %.1f %% at worst\n",
		s.Total["process.assigned"], s.Total["process.lost"], s.Total["deployment.succeeded"], s.Total["deployment.failed"], 100*share, 100*worst)
}

// Pictures draws the series as SVG files: name and content.
func (s *Series) Pictures() map[string]string {
	pick := func(f func(Point) float64) []float64 {
		out := make([]float64, len(s.Points))
		for i, p := range s.Points {
			out[i] = f(p)
		}
		return out
	}
	return map[string]string{
		"placements.svg":   chart("Placements per minute", pick(func(p Point) float64 { return float64(p.Placed) })),
		"moves.svg":        chart("Processes lost per minute", pick(func(p Point) float64 { return float64(p.Lost) })),
		"availability.svg": chart("Share of the wanted copies that serve", pick(func(p Point) float64 { return p.Share })),
		"queue.svg":        chart("Services that wait for room", pick(func(p Point) float64 { return float64(p.Waiting) })),
	}
}

// The size of a chart and of its margins, in pixels.
const (
	chartWidth, chartHeight = 900, 240
	chartLeft, chartTop     = 60, 30
)

// chart draws one line over the hours.
func chart(title string, values []float64) string {
	most := 1.0
	if len(values) > 0 {
		most = max(most, slices.Max(values))
	}
	var line strings.Builder
	w, h := float64(chartWidth-chartLeft-20), float64(chartHeight-chartTop-30)
	for i, v := range values {
		x := float64(chartLeft) + w*float64(i)/float64(max(1, len(values)-1))
		fmt.Fprintf(&line, "%.1f,%.1f ", x, float64(chartTop)+h*(1-v/most))
	}
	bottom := chartTop + int(h)
	return fmt.Sprintf(`<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="sans-serif" font-size="12">
<rect width="100%%" height="100%%" fill="white"/>
<text x="%d" y="18" font-size="14">%s</text>
<path d="M%d %dV%dH%d" stroke="#888" fill="none"/>
<text x="%d" y="%d" text-anchor="end">%g</text><text x="%d" y="%d" text-anchor="end">0</text>
<text x="%d" y="%d" text-anchor="end">%.1f h</text>
<polyline points="%s" fill="none" stroke="#1565c0" stroke-width="1"/>
</svg>
`, chartWidth, chartHeight, chartLeft, title, chartLeft, chartTop, bottom, chartWidth-20,
		chartLeft-6, chartTop+8, most, chartLeft-6, bottom, chartWidth-20, bottom+18, float64(len(values))/60, strings.TrimSpace(line.String()))
}

// Page is a page of Markdown with the summary of a run and its pictures.
func (r Result) Page() string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Simulation, seed %d\n\n```\n%s```\n\n", r.Seed, r.Text())
	for _, name := range []string{"placements", "moves", "availability", "queue"} {
		fmt.Fprintf(&b, "![%s](%s.svg)\n\n", name, name)
	}
	return b.String()
}

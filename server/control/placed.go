package control

import (
	"fmt"
	"strings"
	"time"

	"slipway/api"
)

// placed tells what a process holds of its node, and how the scheduler rates that node now.
func (w *story) placed(p *api.Process) {
	n, ok := w.view.Node(p.Node)
	if !ok {
		return
	}
	text := fmt.Sprintf("holds %s and %s of node %s", p.Ask.CPU, p.Ask.Memory, n.Name)
	if p.Grant != nil {
		for _, port := range p.Grant.HostPorts {
			text += fmt.Sprintf(", %s", port.Name())
		}
		for _, device := range p.Grant.Devices {
			text += ", device " + device
		}
	}
	if !p.Live() {
		text = strings.Replace(text, "holds", "held", 1)
	}
	w.add(time.Time{}, string(p.ID), "%s (pool %s)%s", text, n.Pool, w.rating(p))
}

// rating says what one more copy beside a live one would score. The score of the copy itself is
// not kept: it depended on what else was there at that moment.
func (w *story) rating(p *api.Process) string {
	k := p.Key()
	s, ok := w.view.Service(k)
	if !ok || len(s.Want) == 0 || s.Want[0].Release != p.Release || p.Kind != api.KindService || !p.Live() || p.Desired != api.DesiredRun {
		return ""
	}
	r, err := w.scheduler.WhyNot(w.view, k, p.Node)
	switch {
	case err != nil:
		return ""
	case len(r.Reasons) > 0:
		return "; one more copy would not fit there: " + r.Reasons[0].Text
	case r.Score == nil || r.Best == nil:
		return ""
	}
	var parts []string
	for _, part := range r.Score.Parts {
		if part.Points != 0 {
			parts = append(parts, fmt.Sprintf("%s %+d", part.Name, part.Points))
		}
	}
	text := fmt.Sprintf("; one more copy there would score %d", r.Score.Total)
	if len(parts) > 0 {
		text += " (" + strings.Join(parts, ", ") + ")"
	}
	if r.Best.Node != p.Node {
		text += fmt.Sprintf(", the best node is %s with %d", w.node(r.Best.Node), r.Best.Total)
	}
	return text
}

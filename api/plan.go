package api

// Plan is the scheduler's answer. It is a value: applying it is somebody else's work, and
// Apply checks it again.
type Plan struct {
	Place []Process `json:"place,omitempty"` // complete, with node and ID
	Stop  []Stop    `json:"stop,omitempty"`
	// Waiting gives, for each service looked at, the sentence that says why copies are not
	// placed; "" when all are.
	Waiting map[ServiceKey]string `json:"-"`
	// Pending gives, for each pending one-off or build that found no node, the reason.
	Pending map[ProcessID]string `json:"-"`
}

// Empty reports whether the plan changes nothing.
func (p *Plan) Empty() bool { return len(p.Place) == 0 && len(p.Stop) == 0 }

// Stop takes one process out of service.
type Stop struct {
	Process ProcessID `json:"process"`
	Reason  string    `json:"reason"`
}

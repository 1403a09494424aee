package api

// Plan is the scheduler's answer. It is a value: applying it is somebody else's work, and
// Apply checks it again.
type Plan struct {
	// Place creates copies of services.
	Place []Group `json:"place,omitempty"`
	// Assign gives pending processes their node.
	Assign []Assign `json:"assign,omitempty"`
	Stop   []Stop   `json:"stop,omitempty"`
	// Waiting gives, for each service looked at, the sentence that says why copies are not
	// placed; "" when all are.
	Waiting map[ServiceKey]string `json:"-"`
	// Pending gives, for each pending one-off or build that found no node, the reason.
	Pending map[ProcessID]string `json:"-"`
}

// Empty reports whether the plan changes nothing.
func (p *Plan) Empty() bool { return len(p.Place)+len(p.Assign)+len(p.Stop) == 0 }

// Placed counts the copies and pending processes that get a node.
func (p *Plan) Placed() int {
	n := len(p.Assign)
	for i := range p.Place {
		n += len(p.Place[i].Copies)
	}
	return n
}

// Group is new copies of one release of a service, which ask for the same.
type Group struct {
	Key     ServiceKey `json:"key"`
	Release ReleaseID  `json:"release"`
	Ask     Amount     `json:"ask"`
	Copies  []Copy     `json:"copies"`
}

// Copy is one new process of a group.
type Copy struct {
	ID   ProcessID `json:"id"`
	Slot int       `json:"slot"`
	Node NodeID    `json:"node"`
	// Attempt and Cause are those of Process.
	Attempt int    `json:"attempt,omitempty"`
	Cause   string `json:"cause,omitempty"`
	Grant   *Grant `json:"grant,omitempty"`
}

// Assign gives a pending process a node.
type Assign struct {
	Process ProcessID `json:"process"`
	Node    NodeID    `json:"node"`
	Grant   *Grant    `json:"grant,omitempty"`
}

// Stop takes one process out of service.
type Stop struct {
	Process ProcessID `json:"process"`
	Reason  string    `json:"reason"`
}

package manifest

import (
	"slices"
	"strconv"
	"strings"

	"slipway/api"
)

// Timer is a cron entry: it runs a command in a service's image.
type Timer struct {
	Name    api.TimerName   `json:"name"`
	Service api.ServiceName `json:"service"`
	// Schedule has five fields, as cron(8) reads them: minute, hour, day of the month, month,
	// day of the week from 0 = Sunday. Or it is one word such as "@daily".
	Schedule string `json:"schedule"`
	// Timezone is a name of the tz database; empty is UTC.
	Timezone string `json:"timezone,omitempty"`
	// Command may hold values of the environment and is never printed; Source is the same as
	// it stands in the text.
	Command []string `json:"-"`
	Source  string   `json:"command"`
	// Concurrency is allow, forbid or replace.
	Concurrency string `json:"concurrency"`
	// Parallel is how many processes each run starts.
	Parallel int `json:"parallel"`

	node *node
}

func (l *loader) timer(f field) Timer {
	l.checkName("timer", f)
	n := f.value
	t := Timer{
		Name:        api.TimerName(f.name),
		Service:     api.ServiceName(n.get("service").string("")),
		Timezone:    n.get("timezone").string(""),
		Command:     l.command(n.get("command")),
		Source:      written(n.get("command")),
		Concurrency: strings.ToLower(n.get("concurrency").string("allow")),
		Parallel:    n.get("parallelCount").number(1),
		node:        n,
	}
	if len(t.Command) == 0 {
		l.problem(n, "timer %s has no command", short(f.name)).hint("add command:")
	}
	if t.Service == "" {
		l.problem(n, "timer %s has no service", short(f.name)).hint("add service: with the name of one of services")
	}
	if n.get("schedule") == nil {
		l.problem(n, "timer %s has no schedule", short(f.name)).hint("add schedule: \"0 3 * * *\"")
		return t
	}
	t.Schedule = l.schedule(n.get("schedule"))
	return t
}

// cronField is one field of a schedule.
type cronField struct {
	what      string
	low, high int
	names     []string // from low
}

var cronFields = []cronField{
	{"minute", 0, 59, nil},
	{"hour", 0, 23, nil},
	{"day of the month", 1, 31, nil},
	{"month", 1, 12, []string{"JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"}},
	{"day of the week", 0, 7, []string{"SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"}},
}

var cronWords = []string{"@hourly", "@daily", "@midnight", "@weekly", "@monthly", "@yearly", "@annually"}

// schedule reads five fields, or the six of AWS, whose last is a year and where "?" stands for
// "*".
func (l *loader) schedule(n *node) string {
	if slices.Contains(cronWords, n.string("")) {
		return n.text
	}
	fields := strings.Fields(n.string(""))
	if len(fields) != 5 && len(fields) != 6 || hasControl(n.text) {
		l.problem(n, "invalid schedule expression: %s", short(n.source)).
			hint("write the five fields of cron, such as 0 3 * * *, or a word such as @daily")
		return ""
	}
	if len(fields) == 6 {
		if fields[5] != "*" && fields[5] != "?" {
			l.warn(n, "%s: the sixth field, a year, is ignored", n.path)
		}
		if strings.ContainsAny(fields[4], "1234567") {
			l.warn(n, "%s: AWS counts the days of the week from 1 = SUN, we from 0 = SUN: write their names", n.path)
		}
		fields = fields[:5]
	}
	for i, f := range cronFields {
		if fields[i] == "?" {
			fields[i] = "*"
		}
		if strings.Contains(fields[i], "?") {
			l.problem(n, "timer %s invalid, schedule cannot contain ?", n.timerName()).
				hint("? may only stand for a whole field; write * or values")
			return ""
		}
		if !f.accepts(fields[i]) {
			l.problem(n, "invalid schedule expression: %s (the %s must be *, or values from %d to %d with , - and /)", short(n.source), f.what, f.low, f.high)
			return ""
		}
	}
	return strings.Join(fields, " ")
}

// timerName returns the name in a path "timers.NAME.schedule".
func (n *node) timerName() string {
	return strings.TrimSuffix(strings.TrimPrefix(n.path, "timers."), ".schedule")
}

// accepts reports whether s is a list of *, values, ranges and steps.
func (f cronField) accepts(s string) bool {
	for part := range strings.SplitSeq(s, ",") {
		span, step, stepped := strings.Cut(part, "/")
		if v, err := strconv.Atoi(step); stepped && (err != nil || v < 1 || v > f.high || step[0] == '+') {
			return false
		}
		if span == "*" {
			continue
		}
		first, last, ranged := strings.Cut(span, "-")
		low, ok := f.value(first)
		if !ok {
			return false
		}
		if ranged {
			if high, ok := f.value(last); !ok || high < low {
				return false
			}
		}
	}
	return true
}

func (f cronField) value(s string) (int, bool) {
	if i := slices.Index(f.names, strings.ToUpper(s)); i >= 0 {
		return f.low + i, true
	}
	v, err := strconv.ParseUint(s, 10, 8)
	return int(v), err == nil && int(v) >= f.low && int(v) <= f.high
}

package api

import (
	"fmt"
	"regexp"
	"strings"
)

// The typed names and identifiers. Names are chosen by users, IDs are minted by the server
// that proposes a command; neither is ever reused for another kind of object.
type (
	// AppName names an app, unique in a rack.
	AppName string
	// ServiceName names a process type, unique in its app.
	ServiceName string
	// ResourceName names a backing service, unique in its app.
	ResourceName string
	// TimerName names a cron entry, unique in its app.
	TimerName string
	// PoolName names a group of nodes.
	PoolName string
	// NodeID identifies a node for its whole life; it survives a change of address.
	NodeID string
	// BuildID is "B" and ten letters.
	BuildID string
	// ReleaseID is "R" and ten letters.
	ReleaseID string
	// DeploymentID is "D" and ten letters.
	DeploymentID string
	// ProcessID is "p" and ten lower-case letters.
	ProcessID string
	// RequestID makes a write idempotent: a command with a known request ID is not applied
	// again, its first result is returned.
	RequestID string
)

// ServiceKey identifies a service in the rack.
type ServiceKey struct {
	App     AppName
	Service ServiceName
}

// String returns "app/service".
func (k ServiceKey) String() string { return string(k.App) + "/" + string(k.Service) }

// MarshalText writes "app/service", which makes the key usable as the key of a document.
func (k ServiceKey) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText reads "app/service".
func (k *ServiceKey) UnmarshalText(b []byte) error {
	app, service, ok := strings.Cut(string(b), "/")
	if !ok {
		return Errorf(CodeInvalid, "service key %q is not of the form app/service", b)
	}
	k.App, k.Service = AppName(app), ServiceName(service)
	return nil
}

// NameMax is the longest app or service name in bytes. Both become DNS labels.
const NameMax = 63

var nameRule = regexp.MustCompile(`^[a-z][a-z0-9-]*$`)

// CheckName reports why s cannot name an object of the given kind ("app", "service"), or nil.
func CheckName(kind, s string) error {
	switch {
	case s == "":
		return Errorf(CodeInvalid, "%s name is empty", kind)
	case len(s) > NameMax:
		return Errorf(CodeInvalid, "%s name %q is %d bytes long, the limit is %d", kind, s[:16]+"…", len(s), NameMax)
	case !nameRule.MatchString(s) || s[len(s)-1] == '-':
		return Errorf(CodeInvalid, "%s name %q invalid, must contain only lowercase alphanumeric and dashes, start with a letter and not end with a dash", kind, s)
	}
	return nil
}

// IDs mints identifiers from a seed. It is a splitmix64 generator (Steele, Lea, Flood:
// "Fast splittable pseudorandom number generators", 2014): the same seed gives the same IDs,
// so that a decision that mints them stays a pure function of its arguments.
type IDs struct {
	state uint64
	last  uint64 // process ID as a number; 0 before the first
}

// NewIDs returns a source of IDs. The proposer draws the seed at random.
func NewIDs(seed uint64) *IDs { return &IDs{state: seed} }

// Uint64 returns the next random number.
func (s *IDs) Uint64() uint64 {
	s.state += 0x9e3779b97f4a7c15
	z := s.state
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9
	z = (z ^ (z >> 27)) * 0x94d049bb133111eb
	return z ^ (z >> 31)
}

func (s *IDs) letters(prefix, first byte) string {
	b := make([]byte, 11)
	b[0] = prefix
	n := s.Uint64()
	for i := 1; i < len(b); i++ {
		b[i] = first + byte(n%26)
		n /= 26
	}
	return string(b)
}

// Build mints a build ID.
func (s *IDs) Build() BuildID { return BuildID(s.letters('B', 'A')) }

// Release mints a release ID.
func (s *IDs) Release() ReleaseID { return ReleaseID(s.letters('R', 'A')) }

// Deployment mints a deployment ID.
func (s *IDs) Deployment() DeploymentID { return DeploymentID(s.letters('D', 'A')) }

// processIDs is how many process IDs there are, and processStep the most that lie between two of
// one source.
const (
	processIDs  = 26 * 26 * 26 * 26 * 26 * 26 * 26 * 26 * 26 * 26
	processStep = 1<<14 - 1
)

// Process mints a process ID. Those of one source ascend from a random one by random steps, so
// that the processes of a plan stand side by side in every table that is sorted by ID.
func (s *IDs) Process() ProcessID {
	if s.last == 0 {
		s.last = s.Uint64()
	} else {
		s.last += 1 + s.Uint64()%processStep
	}
	s.last %= processIDs
	b := [11]byte{'p'}
	for i, n := len(b)-1, s.last; i > 0; i-- {
		b[i] = 'a' + byte(n%26)
		n /= 26
	}
	return ProcessID(b[:])
}

// Token mints the ID of an access token: "T" and ten letters.
func (s *IDs) Token() string { return s.letters('T', 'A') }

// Request mints a request ID.
func (s *IDs) Request() RequestID {
	return RequestID(fmt.Sprintf("%016x%016x", s.Uint64(), s.Uint64()))
}

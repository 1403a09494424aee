package main

import (
	"bytes"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"slipway/api/client"
	"slipway/api/machine"
	"slipway/raftstore/state"
	"slipway/server/auth"
)

// newAuthority makes one that the control service can add; its key is of no use.
func (r *testRack) newAuthority() (state.Authority, error) {
	ca, err := auth.NewCA("test", time.Now())
	if err != nil {
		return state.Authority{}, err
	}
	return record(ca), nil
}

func record(ca *auth.CA) state.Authority {
	return state.Authority{Fingerprint: ca.Fingerprint(), Cert: ca.PEM(), Key: []byte("sealed"), Created: time.Now()}
}

// rotating runs the command with a configuration, and returns its exit code and all that it printed.
func rotating(t *testing.T, conf string, args ...string) (int, string) {
	t.Helper()
	var out bytes.Buffer
	code := run(t.Context(), args, strings.NewReader(""), &out, &out, []string{"SLIPWAY_CONFIG=" + conf})
	return code, out.String()
}

// remembered writes a configuration that knows the rack.
func remembered(t *testing.T, r *testRack) (conf string) {
	t.Helper()
	conf = filepath.Join(t.TempDir(), "config.json")
	s := newShell(nil, nil, nil, []string{"SLIPWAY_CONFIG=" + conf})
	err := s.saveConfig(config{Current: "test", Racks: map[string]client.Context{"test": {Addr: r.addr, CA: string(r.ca.PEM()), Token: r.tokens["admin"]}}})
	if err != nil {
		t.Fatal(err)
	}
	return conf
}

// The day of an administrator who replaces the authority, with a node that is away.
func TestRotateAuthority(t *testing.T) {
	r := startRack(t)
	first := record(r.ca)
	first.Active = true
	if res, err := r.store.Propose(t.Context(), state.Entry{At: time.Now(), Actor: "rack", Command: state.PutAuthority{Authority: first}}); err != nil || res.Err != nil {
		t.Fatal(err, res.Err)
	}
	conf := remembered(t, r)
	for _, c := range []struct {
		args string
		code int
		says []string
	}{
		{"rack ca", 0, []string{"AUTHORITY     STAGE    SINCE", first.Fingerprint[:12] + "  signing"}},
		{"rack ca rotate --force", 3, []string{"no machine is waited for"}},
		{"rack ca rotate", 0, []string{"Adding a new authority... OK", "  added", "node/n1  node1  waited for  has not told yet whom it trusts"}},
		{"rack ca rotate", 3, []string{"is being replaced already; see: slipway rack ca"}},
		{"rack ca rotate --force", 0, []string{"left behind, to join anew: node/n1 (node1): has not told yet whom it trusts", "Going on without node/n1... OK"}},
		{"rack ca --json", 0, []string{`"machine": "node/n1"`, `"waited": false`}},
	} {
		code, out := rotating(t, conf, strings.Fields(c.args)...)
		if code != c.code {
			t.Errorf("%s: exit code %d, want %d:\n%s", c.args, code, c.code, out)
		}
		for _, want := range c.says {
			if !strings.Contains(out, want) {
				t.Errorf("%s: does not say %q:\n%s", c.args, want, out)
			}
		}
	}
}

// A context follows the authority that the servers list: beside the old one first, then alone. A new
// one that nobody known vouches for is refused, and changes nothing.
func TestContextFollowsAuthority(t *testing.T) {
	r := startRack(t)
	conf := remembered(t, r)
	next, err := auth.NewCA("test", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	cross, err := r.ca.Vouch(next)
	if err != nil {
		t.Fatal(err)
	}
	stranger, err := auth.NewCA("test", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		signer *auth.CA
		lists  [][]byte // beside the signer
		code   int
		trusts []*auth.CA
	}{
		{"added", r.ca, [][]byte{next.PEM()}, 0, []*auth.CA{r.ca, next}},
		{"a stranger", stranger, [][]byte{cross}, 6, []*auth.CA{r.ca, next}},
		{"removed", next, [][]byte{cross}, 0, []*auth.CA{next}},
		{"removed, again", next, [][]byte{cross}, 0, []*auth.CA{next}},
		{"the old one, from its grave", r.ca, [][]byte{cross}, 6, []*auth.CA{next}},
	} {
		key, request, err := machine.NewRequest()
		if err != nil {
			t.Fatal(err)
		}
		chain, err := c.signer.Machine(time.Now(), time.Hour, machine.Name{Cluster: "c1", Role: machine.RoleServer, ID: "s1"}, nil, request)
		if err != nil {
			t.Fatal(err)
		}
		if err := r.self.Replace(key, append(chain, bytes.Join(c.lists, nil)...), c.signer.PEM()); err != nil {
			t.Fatal(err)
		}
		if code, out := rotating(t, conf, "apps"); code != c.code {
			t.Fatalf("%s: exit code %d, want %d: %s", c.name, code, c.code, out)
		}
		s := newShell(nil, nil, nil, []string{"SLIPWAY_CONFIG=" + conf})
		now, err := s.loadConfig()
		if err != nil {
			t.Fatal(err)
		}
		missing := slices.ContainsFunc(c.trusts, func(ca *auth.CA) bool { return !strings.Contains(now.Racks["test"].CA, string(ca.PEM())) })
		if n := strings.Count(now.Racks["test"].CA, "BEGIN"); missing || n != len(c.trusts) {
			t.Fatalf("%s: remembers %d authorities, want %d", c.name, n, len(c.trusts))
		}
	}
}

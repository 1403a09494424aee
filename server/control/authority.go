package control

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"slices"
	"strings"

	"slipway/api"
	"slipway/api/pb"
	"slipway/raftstore/state"
)

// ListAuthorities describes the rack's certificate authorities, the one that signs first.
func (s *Server) ListAuthorities(ctx context.Context, _ *pb.ListAuthoritiesRequest) (*pb.Documents, error) {
	v, err := s.read(ctx)
	if err != nil {
		return nil, pb.Error(err)
	}
	return docs(authorities(v), nil)
}

// RotateAuthority begins to replace the authority that signs, or goes on without some machines.
func (s *Server) RotateAuthority(ctx context.Context, r *pb.RotateAuthorityRequest) (*pb.Documents, error) {
	v, err := s.read(ctx)
	if err != nil {
		return nil, pb.Error(err)
	}
	req := s.request(ctx, r.GetRequestId())
	var cmd state.Command = state.LeaveBehind{Machines: r.GetLeave()}
	if len(r.GetLeave()) > 0 {
		err = leavable(v, r.GetLeave())
	} else {
		cmd, err = s.rotation(v)
	}
	if err == nil {
		_, err = s.propose(ctx, req, "authority", cmd)
	}
	if err != nil {
		return nil, pb.Error(err)
	}
	return docs(authorities(s.cfg.Store.View()), nil)
}

// rotation makes the authority that is to take over.
func (s *Server) rotation(v *state.View) (state.Command, error) {
	if s.cfg.NewAuthority == nil {
		return nil, api.Errorf(api.CodeUnavailable, "this server makes no authorities")
	}
	if _, _, under := v.Replacing(); under {
		return nil, api.Errorf(api.CodeConflict, "the rack's authority is being replaced already; see: slipway rack ca")
	}
	next, err := s.cfg.NewAuthority()
	return state.PutAuthority{Authority: next}, err
}

// leavable reports why a replacement cannot go on without some machines: it waits for no such ones,
// or the servers that are left could decide nothing.
func leavable(v *state.View, leave []string) error {
	waited, lost := map[string]bool{}, map[string]bool{}
	for _, l := range v.Laggards() {
		waited[l.Machine] = true
		lost[l.Machine] = !l.Waited
	}
	for _, m := range leave {
		if !waited[m] {
			return api.Errorf(api.CodeConflict, "no replacement of the rack's authority waits for %.80q; see: slipway rack ca", m)
		}
		lost[m] = true
	}
	servers, left := 0, 0
	for one := range v.Servers() {
		servers++
		if !lost["server/"+one.ID] {
			left++
		}
	}
	if servers > 0 && 2*left <= servers {
		return api.Errorf(api.CodeConflict, "without %s only %d of %d servers would be left, too few to decide anything; start them, and see: slipway rack servers", strings.Join(leave, ", "), left, servers)
	}
	return nil
}

// authorities describes the rack's authorities, the one that signs first. Whom a replacement waits
// for stands with the authority that comes.
func authorities(v *state.View) (out []api.Authority) {
	comes, _, _ := v.Replacing()
	for a := range v.Authorities() {
		one := api.Authority{Fingerprint: a.Fingerprint, Stage: a.Stage(), Created: a.Created, Since: a.Since, Certificate: string(a.Cert)}
		if block, _ := pem.Decode(a.Cert); block != nil {
			if cert, err := x509.ParseCertificate(block.Bytes); err == nil {
				one.Until = cert.NotAfter
			}
		}
		if comes != nil && comes.Fingerprint == a.Fingerprint {
			one.Behind = v.Laggards()
		}
		out = append(out, one)
	}
	order := []api.AuthorityStage{api.AuthoritySigning, api.AuthorityAdded, api.AuthorityLeaving}
	slices.SortStableFunc(out, func(a, b api.Authority) int {
		return slices.Index(order, a.Stage) - slices.Index(order, b.Stage)
	})
	return out
}

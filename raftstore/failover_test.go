package raftstore

import (
	"testing"
	"time"
)

// TestClaimsAreOrdered: of two servers with different claims, exactly one can agree with the other.
func TestClaimsAreOrdered(t *testing.T) {
	claims := []Claim{ // from the weakest to the strongest
		{Server: "s9", LastTerm: 1, Last: 9},
		{Server: "s1", LastTerm: 2, Last: 7},
		{Server: "s2", LastTerm: 2, Last: 7},
		{Server: "s0", LastTerm: 2, Last: 8},
	}
	for i, a := range claims {
		for k, b := range claims {
			if a.before(b) != (i < k) {
				t.Errorf("%+v before %+v: %t", a, b, a.before(b))
			}
		}
	}
}

// TestOneWordAtATime: a server that has agreed with a claim agrees with no other one, and makes none, for a
// while.
func TestOneWordAtATime(t *testing.T) {
	var f failover
	now := time.Now()
	if !f.free("s1", now) || !f.promise("s2", now) || !f.promise("s2", now) {
		t.Fatal("a server does not give its word")
	}
	if f.free("s1", now.Add(heirFor-1)) || f.promise("s3", now.Add(heirFor-1)) {
		t.Error("a server gives its word to two")
	}
	if !f.free("s1", now.Add(heirFor)) || !f.promise("s3", now.Add(heirFor)) {
		t.Error("a server keeps its word forever")
	}
}

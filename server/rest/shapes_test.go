package rest

import (
	"reflect"
	"slices"
	"strings"
	"testing"
)

// TestAnswersHaveTheNamesOfConvox looks for the fields that clients of Convox read. Those of things
// that this rack does not have are not there.
func TestAnswersHaveTheNamesOfConvox(t *testing.T) {
	for names, v := range map[string]any{
		"generation locked name parameters release router status":                                                    app{},
		"id app description entrypoint git-sha logs manifest process release reason repository status started ended": build{},
		"id app build env manifest description created":                                                              release{},
		"id app command cpu host image instance memory name ports release started status":                            process{},
		"count cpu domain memory name ports nlb":                                                                     service{},
		"balancer container certificate":                                                                             servicePort{},
		"id agent cpu memory private-ip public-ip processes status started cpu-capacity cpu-allocatable":             instance{},
		"count domain name outputs parameters provider rack-domain region status type version":                       system{},
		"cluster-cpu cluster-memory process-count process-cpu process-memory":                                        capacity{},
		"name status": rackName{},
		"url":         object{},
		"token":       jwt{},
	} {
		var have []string
		for f := range reflect.TypeOf(v).Fields() {
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			have = append(have, name)
		}
		for name := range strings.FieldsSeq(names) {
			if !slices.Contains(have, name) {
				t.Errorf("%T has no %s, but %q", v, name, have)
			}
		}
	}
}

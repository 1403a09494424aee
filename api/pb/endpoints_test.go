package pb

import (
	"net/netip"
	"slices"
	"testing"
)

func TestEndpoints(t *testing.T) {
	list := []netip.AddrPort{netip.MustParseAddrPort("10.1.2.3:0"), netip.MustParseAddrPort("10.1.2.3:8080"), netip.MustParseAddrPort("255.255.255.255:65535")}
	packed := PackEndpoints(list)
	if got, err := UnpackEndpoints(packed); err != nil || !slices.Equal(got, list) {
		t.Errorf("%v, %v", got, err)
	}
	if got, err := UnpackEndpoints(nil); err != nil || len(got) != 0 {
		t.Errorf("%v, %v of nothing", got, err)
	}
	if got, err := UnpackEndpoints(packed[1:]); err == nil {
		t.Errorf("%v of half an endpoint", got)
	}
}

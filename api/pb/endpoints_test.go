package pb

import (
	"net/netip"
	"slices"
	"testing"

	"slipway/api"
)

func TestEndpoints(t *testing.T) {
	var list []netip.AddrPort
	for _, text := range []string{"0.0.0.0:0", "10.1.2.3:0", "10.1.2.3:8080", "10.1.7.3:8080", "10.1.7.4:8080", "10.1.7.5:80", "255.255.255.255:65535"} {
		list = append(list, netip.MustParseAddrPort(text))
	}
	packed := PackEndpoints(list)
	if got, err := UnpackEndpoints(packed); err != nil || !slices.Equal(got, list) {
		t.Errorf("%v, %v", got, err)
	}
	mixed := slices.Clone(list)
	slices.Reverse(mixed)
	if got, err := UnpackEndpoints(PackEndpoints(mixed)); err != nil || !slices.Equal(got, list) || mixed[0] != list[len(list)-1] {
		t.Errorf("%v, %v of a list in another order, which is %v now", got, err, mixed)
	}
	if got, err := UnpackEndpoints(nil); err != nil || len(got) != 0 {
		t.Errorf("%v, %v of nothing", got, err)
	}
	for what, b := range map[string][]byte{
		"half an endpoint":             packed[:len(packed)-1],
		"an address that is too large": {0xff, 0xff, 0xff, 0xff, 0x1f, 0, 0, 0x02},
		"a distance that is too large": {0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01},
		"a number that does not end":   {0x80},
	} {
		if got, err := UnpackEndpoints(b); api.CodeOf(err) != api.CodeInvalid {
			t.Errorf("%v, %v of %s", got, err, what)
		}
	}
}

// FuzzEndpoints: whatever is read is written again as it was read.
func FuzzEndpoints(f *testing.F) {
	f.Add(PackEndpoints([]netip.AddrPort{netip.MustParseAddrPort("10.1.2.3:80"), netip.MustParseAddrPort("10.1.9.3:80")}))
	f.Fuzz(func(t *testing.T, b []byte) {
		list, err := UnpackEndpoints(b)
		if err != nil {
			return
		}
		if again, err := UnpackEndpoints(PackEndpoints(list)); err != nil || !slices.Equal(again, slices.SortedFunc(slices.Values(list), netip.AddrPort.Compare)) {
			t.Errorf("%v is read again as %v, %v", list, again, err)
		}
	})
}

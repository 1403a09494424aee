package pb

import (
	"encoding/binary"
	"net/netip"

	"slipway/api"
)

// endpointSize is the length of a packed endpoint.
const endpointSize = 6

// PackEndpoints writes IPv4 addresses and ports one after the other, 6 bytes each: the address, then
// the port, in network byte order. The port is 0 where none is known. Many nodes are told of many
// endpoints; as text they are three times as long and cost ten times as much to read.
func PackEndpoints(list []netip.AddrPort) []byte {
	if len(list) == 0 {
		return nil
	}
	out := make([]byte, 0, endpointSize*len(list))
	for _, e := range list {
		ip := e.Addr().As4()
		out = append(out, ip[:]...)
		out = binary.BigEndian.AppendUint16(out, e.Port())
	}
	return out
}

// UnpackEndpoints reads what PackEndpoints wrote. An error is of code invalid.
func UnpackEndpoints(b []byte) ([]netip.AddrPort, error) {
	if len(b)%endpointSize != 0 {
		return nil, api.Errorf(api.CodeInvalid, "%d bytes are not endpoints of %d bytes each", len(b), endpointSize)
	}
	out := make([]netip.AddrPort, 0, len(b)/endpointSize)
	for ; len(b) > 0; b = b[endpointSize:] {
		out = append(out, netip.AddrPortFrom(netip.AddrFrom4([4]byte(b)), binary.BigEndian.Uint16(b[4:])))
	}
	return out, nil
}

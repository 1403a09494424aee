package pb

import (
	"encoding/binary"
	"math"
	"net/netip"
	"slices"

	"slipway/api"
)

// PackEndpoints writes IPv4 addresses and ports, in their order: of each the distance of its address from the
// one before as a varint, times two, plus one if its port is another one, which follows then in network byte
// order. The first follows 0.0.0.0:0, and a port is 0 where none is known. Many nodes are told of many
// endpoints: those of a service take two bytes each if it has a copy on every fifth node, a third of what
// they have, and a tenth of what they are as text.
func PackEndpoints(list []netip.AddrPort) []byte {
	if len(list) == 0 {
		return nil
	}
	if !slices.IsSortedFunc(list, netip.AddrPort.Compare) {
		list = slices.SortedFunc(slices.Values(list), netip.AddrPort.Compare)
	}
	out := make([]byte, 0, 2*len(list)+8)
	var addr uint32
	var port uint16
	for _, e := range list {
		ip := e.Addr().As4()
		at := binary.BigEndian.Uint32(ip[:])
		head := uint64(at-addr) << 1
		if addr = at; e.Port() == port {
			out = binary.AppendUvarint(out, head)
			continue
		}
		port = e.Port()
		out = binary.BigEndian.AppendUint16(binary.AppendUvarint(out, head|1), port)
	}
	return out
}

// UnpackEndpoints reads what PackEndpoints wrote. An error is of code invalid.
func UnpackEndpoints(b []byte) ([]netip.AddrPort, error) {
	out := make([]netip.AddrPort, 0, len(b)/2)
	var addr uint64
	var port uint16
	for len(b) > 0 {
		head, n := binary.Uvarint(b)
		if n <= 0 {
			return nil, api.Errorf(api.CodeInvalid, "endpoint %d of a list is cut off", len(out)+1)
		}
		b = b[n:]
		if addr += head >> 1; head>>1 > math.MaxUint32 || addr > math.MaxUint32 {
			return nil, api.Errorf(api.CodeInvalid, "endpoint %d of a list has no IPv4 address", len(out)+1)
		}
		if head&1 != 0 {
			if len(b) < 2 {
				return nil, api.Errorf(api.CodeInvalid, "endpoint %d of a list is cut off", len(out)+1)
			}
			port, b = binary.BigEndian.Uint16(b), b[2:]
		}
		var ip [4]byte
		binary.BigEndian.PutUint32(ip[:], uint32(addr))
		out = append(out, netip.AddrPortFrom(netip.AddrFrom4(ip), port))
	}
	return out, nil
}

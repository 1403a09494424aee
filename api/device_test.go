package api

import "testing"

func TestDeviceAskSuits(t *testing.T) {
	a100 := &Device{Kind: "gpu", Vendor: "nvidia", Model: "a100", Attributes: map[string]string{"memory": "40960"}, Instances: []string{"/dev/nvidia0"}}
	for _, c := range []struct {
		ask  DeviceAsk
		suit bool
		name string
	}{
		{DeviceAsk{Kind: "gpu", Count: 1}, true, "gpu"},
		{DeviceAsk{Kind: "gpu", Vendor: "nvidia", Model: "a100", Count: 1}, true, "nvidia gpu a100"},
		{DeviceAsk{Kind: "gpu", Vendor: "amd", Count: 1}, false, "amd gpu"},
		{DeviceAsk{Kind: "gpu", Model: "h100", Count: 1}, false, "gpu h100"},
		{DeviceAsk{Kind: "kvm", Count: 1}, false, "kvm"},
		{DeviceAsk{Kind: "gpu", Constraints: []Constraint{{Attribute: "memory", Operator: ">=", Value: "40960"}}}, true, "gpu"},
		{DeviceAsk{Kind: "gpu", Constraints: []Constraint{{Attribute: "memory", Operator: ">", Value: "40960"}}}, false, "gpu"},
		{DeviceAsk{Kind: "gpu", Constraints: []Constraint{{Attribute: "nvlink", Operator: "is_set"}}}, false, "gpu"},
	} {
		if got := c.ask.Suits(a100); got != c.suit {
			t.Errorf("%+v suits: %v", c.ask, got)
		}
		if got := c.ask.String(); got != c.name {
			t.Errorf("%+v is called %q, want %q", c.ask, got, c.name)
		}
	}
}

func TestUsage(t *testing.T) {
	web := &Grant{HostPorts: []HostPort{{Host: 80, Port: 8080, Protocol: TCP}}, Devices: []string{"/dev/kvm"}}
	dns := &Grant{HostPorts: []HostPort{{Host: 53, Port: 53, Protocol: UDP}}}
	ask := Amount{CPU: 100, Memory: MiB}
	u := Usage{}.Add(ask, web).Add(ask, dns).Add(ask, nil)
	if want := (Amount{CPU: 300, Memory: 3 * MiB}); u.Amount != want || len(u.HostPorts) != 2 || len(u.Devices) != 1 {
		t.Fatalf("usage %+v", u)
	}
	for collision, g := range map[string]*Grant{
		"host port 80/tcp": {HostPorts: []HostPort{{Host: 80, Port: 1, Protocol: TCP}}},
		"host port 53/udp": dns,
		"device /dev/kvm":  {Devices: []string{"/dev/fuse", "/dev/kvm"}},
		"":                 {HostPorts: []HostPort{{Host: 80, Port: 80, Protocol: UDP}}, Devices: []string{"/dev/fuse"}},
	} {
		if got := u.Collides(g); got != collision {
			t.Errorf("%+v collides with %q, want %q", g, got, collision)
		}
	}
	before := Usage{}.Add(ask, dns).Add(ask, nil).Add(ask, web)
	if !u.Same(before) {
		t.Errorf("%+v and %+v are the same in another order", u, before)
	}
	less := u.Sub(ask, web)
	if less.Same(u) || u.Collides(web) == "" || less.Collides(web) != "" {
		t.Errorf("%+v less %+v is %+v", u, web, less)
	}
	if left := less.Sub(ask, dns).Sub(ask, nil); !left.Empty() {
		t.Errorf("%+v is left", left)
	}
}

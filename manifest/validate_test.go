package manifest_test

import (
	"testing"

	"slipway/manifest"
)

// Each text has the one problem that is named; the texts are those of Convox, as far as it has
// one for the case.
func TestProblems(t *testing.T) {
	t.Parallel()
	nlb := func(entries string) string { return "services: {web: {nlb: [" + entries + "]}}" }
	tests := []struct{ text, want string }{
		{"services: {web: {environment: [ZED, A, ZED=1]}}", "required env: A, ZED"},
		{"services: {Web: {}}", "service name Web invalid, must contain only lowercase alphanumeric and dashes"},
		{"services: {web: {agent: true, nlb: [{port: 80}]}}", "service web: agent mode is incompatible with nlb ports"},
		{nlb("{port: 0}"), "service web: nlb port 0 out of range"},
		{nlb("{port: 80, containerPort: 65536}"), "service web: nlb containerPort 65536 out of range"},
		{nlb("{port: 80, protocol: udp, certificate: x}"), `service web nlb port 80: protocol must be tcp or tls, got "udp"`},
		{nlb("{port: 80, protocol: tls}"), "service web nlb port 80: protocol tls requires a certificate (provide an ACM ARN; run 'convox certs list' to see them)"},
		{nlb("{port: 80, certificate: x}"), "service web nlb port 80: certificate is only valid with protocol: tls"},
		{nlb("{port: 80, protocol: tls, certificate: x}"), `service web nlb port 80: certificate must be a full ACM or IAM server-certificate ARN, got "x"`},
		{nlb("{port: 80, scheme: x}"), `service web nlb port 80: scheme must be public or internal, got "x"`},
		{nlb("{port: 80, allow_cidr: [x]}"), `service web nlb port 80: allow_cidr entry "x" is not a valid IPv4 CIDR`},
		{nlb("{port: 80, allow_cidr: [10.0.0.1/8]}"), `service web nlb port 80: allow_cidr entry "10.0.0.1/8" is not canonical; use "10.0.0.0/8" instead`},
		{nlb("{port: 80, allow_cidr: [10.0.0.0/8, 10.0.0.0/8]}"), "service web nlb port 80: allow_cidr contains duplicate entry: 10.0.0.0/8"},
		{nlb("{port: 80}, {port: 80, containerPort: 81}"), "service web: nlb port 80 declared with conflicting containerPort values"},
		{nlb("{port: 80}, {port: 80}"), "service web: duplicate nlb port 80"},
		{nlb("{port: 80}, {port: 81, containerPort: 80}"), "service web: nlb containerPort 80 used by multiple nlb listeners"},
		{"services: {a: {nlb: [{port: 80}]}, b: {nlb: [{port: 80}]}}", "nlb port 80 declared by services a and b; rack NLB listener is shared, so each port must belong to one service"},
		{"resources: {db: {}}\nservices: {web: {links: [web]}}", "resource type can not be blank"},
		{"services: {web: {}}\ntimers: {t: {service: web, command: x, schedule: '* * *'}}", "invalid schedule expression: * * *"},
		{"services: {web: {}}\nbalancers: {b: {service: web}}", "balancer b has no ports"},
		{"balancers: {b: {ports: {80: 81}}}", "balancer b has blank service"},
		{"balancers: {b: {service: x, ports: {80: 81}}}", "balancer b refers to unknown service x"},
		{"services: {web: {}}\nbalancers: {b: {service: web, ports: {80: 81}, whitelist: 1.2.3}}", "balancer b whitelist 1.2.3 is not a valid cidr range"},
		{"resources: {a_b: {type: x, image: x}}", "resource name a_b invalid, must contain only lowercase alphanumeric and dashes"},
		{"resources: {db: {type: ''}}", `resource "db" has blank type`},
		{"services: {web: {deployment: {minimum: -1}}}", "service web deployment minimum can not be less than 0"},
		{"services: {web: {deployment: {minimum: 101}}}", "service web deployment minimum can not be greater than 100"},
		{"services: {web: {deployment: {maximum: 99}}}", "service web deployment maximum can not be less than 100"},
		{"services: {web: {deployment: {maximum: 201}}}", "service web deployment maximum can not be greater than 200"},
		{"services: {web: {internal: true, internalRouter: true}}", "service web can not have both internal and internalRouter set as true"},
		{"services: {web: {resources: [db]}}", "service web references a resource that does not exist: db"},
		{"services: {web: {scale: {min: 3, max: 2}}}", "service web: scale.max must be >= scale.min"},
		{"services: {web: {}}\ntimers: {T: {service: web, command: x, schedule: '* * * * *'}}", "timer name T invalid, must contain only lowercase alphanumeric and dashes"},
		{"timers: {t: {service: web, command: x, schedule: '* * * * *'}}", "timer t references a service that does not exist: web"},
		{"services: {web: {}}\ntimers: {t: {service: web, command: x, schedule: '* * 1? * *'}}", "timer t invalid, schedule cannot contain ?"},
		{"services: {web: {configMounts: [{id: x, dir: /a, filename: b}]}}", "config id: 'x' not found"},
		{"labels: {app: x}", "reserved label key 'app' is not allowed"},
		{"services: {web: {scale: {cpu: 500, limit: {cpu: 400}}}}", "cpu limit can not be less cpu request"},
		{"services: {web: {ports: [80/sctp]}}", "could not parse port: 80/sctp"},
		{"services: {web: {port: 3000/http}}", "invalid port: 3000/http (must be a number from 1 to 65535, or scheme:number)"},
		{"services: {web: {build: 5}}", "unknown type for service build: int"},
		{"services: {web: {command: {a: b}}}", "unknown type for service command: map[interface {}]interface {}"},
		{"services: {web: {command: true}}", "unknown type for service command: bool"},
		{"services: {web: {domain: 1.5}}", "unknown type for service domain: float64"},
		{"services: {web: {health: [a]}}", "unknown type for service health: []interface {}"},
		{"services: {web: {scale: [1]}}", "unknown type for service scale: []interface {}"},
		{"services: {web: {environment: {A: b}}}", "unknown type for service environment: map[interface {}]interface {}"},
	}
	for _, tt := range tests {
		problems := refuse(t, tt.text, nil)
		if len(problems.List) != 1 || problems.List[0].Message != tt.want || problems.List[0].Line == 0 {
			t.Errorf("%s\ngot:  %v\nwant: %s", tt.text, problems.List, tt.want)
		}
	}
}

func TestEnvironmentNamesAreChecked(t *testing.T) {
	t.Parallel()
	for _, env := range []map[string]string{{"A=B": "x"}, {"A\nB": "x"}, {"": "x"}, {"1A": "x"}, {"A": "x\x00"}} {
		problems := refuse(t, "services: {}", env)
		if len(problems.List) != 1 {
			t.Errorf("%q: %v", env, problems.List)
		}
	}
}

func TestAllowPrivileged(t *testing.T) {
	t.Parallel()
	m, err := manifest.Load("services: {web: {privileged: true}}", manifest.Options{AllowPrivileged: true})
	if err != nil || !m.Specs()[0].Privileged || len(m.Warnings) != 1 {
		t.Fatalf("got %+v, %v", m, err)
	}
}

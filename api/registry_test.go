package api

import "testing"

func TestRegistryServer(t *testing.T) {
	for text, want := range map[string]string{
		"registry.example.com":        "registry.example.com",
		"Registry.Example.com:5000":   "registry.example.com:5000",
		"https://ghcr.io/":            "ghcr.io",
		"https://index.docker.io/v1/": "docker.io",
		"registry-1.docker.io":        "docker.io",
		"docker.io":                   "docker.io",
		"localhost":                   "localhost",
		"localhost:5000":              "localhost:5000",
		"10.1.2.3:5000":               "10.1.2.3:5000",
		"notdocker.io":                "notdocker.io",
		"":                            "",
		"registry":                    "", // would be the first part of a repository
		"http://registry.example.com": "",
		"registry.example.com/team":   "",
		"user@registry.example.com":   "",
		"registry.example.com:0":      "",
		"registry..example.com":       "",
		"a b.example.com":             "",
		RackHost:                      "",
	} {
		if got, err := RegistryServer(text); got != want || (err == nil) != (want != "") {
			t.Errorf("%q is %q, %v; want %q", text, got, err, want)
		}
	}
}

// What the hosts of one registry are called makes no difference, and no other gets its login.
func TestLoginFor(t *testing.T) {
	logins := []RegistryLogin{{"docker.io", "ann", "one"}, {"r.example.com", "bob", "two"}}
	for host, want := range map[string]string{
		"registry-1.docker.io": "one", "index.docker.io": "one", "r.example.com": "two", "r.example.com:5000": "", "example.com": "", "r.example.com.evil.test": "", "": "",
	} {
		if got, ok := LoginFor(logins, host); got.Password != want || ok != (want != "") {
			t.Errorf("%q gets %+v", host, got)
		}
	}
}

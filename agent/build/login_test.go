package build

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/moby/buildkit/session/auth"

	"slipway/api"
)

// private is a registry that asks for a login, at each request or by tokens.
func private(t *testing.T, image, challenge string) *to {
	t.Helper()
	r := registryInMemory()
	img, err := random.Image(100, 1)
	if err != nil {
		t.Fatal(err)
	}
	r.push(t, image, img)
	inner := r.handler
	r.handler = http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		user, password, _ := req.BasicAuth()
		known := user == "ann" && password == "pass word"
		switch {
		case req.URL.Path == "/token" && known:
			fmt.Fprint(w, `{"token": "good"}`)
		case req.URL.Path != "/token" && (known && strings.HasPrefix(challenge, "Basic") || req.Header.Get("Authorization") == "Bearer good"):
			inner.ServeHTTP(w, req)
		default:
			w.Header().Set("WWW-Authenticate", challenge)
			w.WriteHeader(http.StatusUnauthorized)
		}
	})
	r.seen = nil
	return r
}

// TestMirrorLogsIn pulls from registries that ask for a login.
func TestMirrorLogsIn(t *testing.T) {
	t.Parallel()
	right := api.RegistryLogin{Server: "r.example.com:5000", Username: "ann", Password: "pass word"}
	wrong, elsewhere := right, right
	wrong.Password, elsewhere.Server = "canary", "other.example.com"
	hub := right
	hub.Server = "docker.io"
	for _, tt := range []struct {
		name, image string
		login       api.RegistryLogin
		want        string
	}{
		{"right", "r.example.com:5000/team/app:1", right, ""},
		{"Docker Hub", "team/app:1", hub, ""},
		{"wrong", "r.example.com:5000/team/app:1", wrong, "registry r.example.com:5000 refuses it to user ann, whose password may be wrong; give the rack a login that may pull it: slipway registries add r.example.com:5000 USER"},
		{"of another", "r.example.com:5000/team/app:1", elsewhere, "does not exist, or needs a login"},
	} {
		for _, challenge := range []string{`Basic realm="r"`, `Bearer realm="https://r.example.com:5000/token",service="r"`} {
			up, rack := private(t, tt.image, challenge), registryInMemory()
			_, err := copyImage(t.Context(), "hello", tt.image, rack, foreign{up, []api.RegistryLogin{tt.login}})
			if tt.want == "" {
				if err != nil || len(rack.tags(t)) == 0 {
					t.Errorf("%s, %s: %v", tt.name, challenge, err)
				}
				continue
			}
			err = mirrorError(t.Context(), "image x", err)
			if api.CodeOf(err) != api.CodeInvalid || !strings.Contains(fmt.Sprint(err), tt.want) || strings.Contains(fmt.Sprint(err), tt.login.Password) {
				t.Errorf("%s, %s: %v, want %q", tt.name, challenge, err, tt.want)
			}
			for _, req := range up.seen {
				if tt.name == "of another" && req.Header.Get("Authorization") != "" {
					t.Errorf("%s %s got the login of another registry", req.Method, req.URL)
				}
			}
		}
	}
}

// A login goes to its registry alone, and by https only.
func TestLoginStaysWithItsRegistry(t *testing.T) {
	t.Parallel()
	image := "localhost:5000/team/app:1"
	up, rack := private(t, image, `Basic realm="r"`), registryInMemory()
	_, err := copyImage(t.Context(), "hello", image, rack, foreign{up, []api.RegistryLogin{{Server: "localhost:5000", Username: "ann", Password: "pass word"}}})
	plain := base64.StdEncoding.EncodeToString([]byte("ann:pass word"))
	for _, req := range append(up.seen, rack.seen...) {
		if strings.Contains(req.Header.Get("Authorization"), plain) && (req.URL.Scheme != "https" || req.URL.Host != "localhost:5000") {
			t.Errorf("%s %s got the login", req.Method, req.URL)
		}
	}
	if err != nil && !strings.Contains(err.Error(), "does not speak https") {
		t.Error(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://localhost:5000/v2/", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	req.SetBasicAuth("ann", "pass word")
	if resp, err := (foreign{RoundTripper: up}).RoundTrip(req); err == nil {
		resp.Body.Close()
		t.Error("a login was sent in the clear")
	}
}

// The engine asks for the logins by the hosts that it speaks to.
func TestEngineIsToldLogins(t *testing.T) {
	t.Parallel()
	l := &logins{all: []api.RegistryLogin{{Server: "docker.io", Username: "ann", Password: "one"}}}
	for host, want := range map[string]string{"registry-1.docker.io": "one", "r.example.com": "", api.RackHost: ""} {
		got, err := l.Credentials(t.Context(), &auth.CredentialsRequest{Host: host})
		if err != nil || got.GetSecret() != want {
			t.Errorf("%s: %v, %v", host, got, err)
		}
	}
}

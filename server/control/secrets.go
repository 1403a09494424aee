package control

import (
	"encoding/json"
	"fmt"

	"slipway/api"
	"slipway/raftstore/state"
)

// Keyring encrypts what the state holds of secrets; raftstore/keyring has one. The additional
// data binds a sealed value to the object that holds it.
type Keyring interface {
	Seal(plain, aad []byte) []byte
	Open(sealed, aad []byte) ([]byte, error)
	// Digest returns a keyed digest: equal digests mean equal contents.
	Digest(plain []byte) string
}

// Secrets seals and opens the secret parts of nouns. It alone knows their form: JSON, bound to
// the kind and the ID of the noun.
type Secrets struct{ keyring Keyring }

// NewSecrets returns the Secrets of a keyring.
func NewSecrets(k Keyring) *Secrets { return &Secrets{keyring: k} }

// Release opens the secrets of a release.
func (s *Secrets) Release(r *api.Release) (api.ReleaseSecrets, error) {
	secrets, err := open[api.ReleaseSecrets](s.keyring, r.Sealed, "release/"+string(r.ID))
	if secrets.Env == nil {
		secrets.Env = map[string]string{}
	}
	return secrets, err
}

// SealRelease sets the sealed part of a release, and the digest of its environment.
func (s *Secrets) SealRelease(r *api.Release, secrets api.ReleaseSecrets) error {
	plain, err := json.Marshal(secrets.Env) // in order of names: equal environments have equal digests
	if err != nil {
		return fmt.Errorf("release %s: encode the environment: %w", r.ID, err)
	}
	r.EnvDigest = s.keyring.Digest(plain)
	r.Sealed, err = seal(s.keyring, secrets, "release/"+string(r.ID))
	return err
}

// Build opens the secrets of a build.
func (s *Secrets) Build(b *api.Build) (api.BuildSecrets, error) {
	secrets, err := open[api.BuildSecrets](s.keyring, b.Sealed, "build/"+string(b.ID))
	if secrets.Env == nil {
		secrets.Env = map[string]string{}
	}
	return secrets, err
}

// SealBuild sets the sealed part of a build, and moves the arguments there.
func (s *Secrets) SealBuild(b *api.Build, env map[string]string) error {
	secrets := api.BuildSecrets{Env: env, Args: b.Options.Args}
	b.Options.Args = nil
	var err error
	b.Sealed, err = seal(s.keyring, secrets, "build/"+string(b.ID))
	return err
}

// Command opens the command of a one-off; empty keeps the image's.
func (s *Secrets) Command(p *api.Process) ([]string, error) {
	if p.Run == nil {
		return nil, nil
	}
	return open[[]string](s.keyring, p.Run.Sealed, "process/"+string(p.ID))
}

// SealCommand sets the sealed part of a one-off.
func (s *Secrets) SealCommand(p *api.Process, command []string) error {
	var err error
	p.Run.Sealed, err = seal(s.keyring, command, "process/"+string(p.ID))
	return err
}

// Registry opens the login of a registry.
func (s *Secrets) Registry(r *state.Registry) (api.RegistryLogin, error) {
	password, err := open[string](s.keyring, r.Sealed, "registry/"+r.Server)
	return api.RegistryLogin{Server: r.Server, Username: r.Username, Password: password}, err
}

// SealRegistry sets the sealed part of the login of a registry.
func (s *Secrets) SealRegistry(r *state.Registry, password string) error {
	var err error
	r.Sealed, err = seal(s.keyring, password, "registry/"+r.Server)
	return err
}

func seal(k Keyring, noun any, about string) ([]byte, error) {
	plain, err := json.Marshal(noun)
	if err != nil {
		return nil, fmt.Errorf("%s: encode secrets: %w", about, err)
	}
	return k.Seal(plain, []byte(about)), nil
}

// open opens what seal made; nothing opens to the zero noun.
func open[T any](k Keyring, sealed []byte, about string) (T, error) {
	var noun T
	if len(sealed) == 0 {
		return noun, nil
	}
	plain, err := k.Open(sealed, []byte(about))
	if err != nil {
		return noun, fmt.Errorf("%s: decrypt secrets: %w", about, err)
	}
	if err := json.Unmarshal(plain, &noun); err != nil {
		return noun, fmt.Errorf("%s: decode secrets: %w", about, err)
	}
	return noun, nil
}

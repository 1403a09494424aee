package keyring

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"slipway/api"
	"slipway/durable"
)

const (
	sealedVersion = 1
	headSize      = 1 + 4
	keySize       = 32
)

// Key is one AES-256 key.
type Key struct {
	ID     uint32 `json:"id"`
	Secret []byte `json:"secret"`
}

// Keyring seals with its newest key and opens with any. It is safe for concurrent use.
type Keyring struct {
	path string

	mu   sync.RWMutex
	keys []Key // oldest first
}

// Open reads the keyring of a data directory and makes one on first use.
func Open(dir string) (*Keyring, error) {
	k := &Keyring{path: filepath.Join(dir, "keyring.json")}
	b, err := os.ReadFile(k.path)
	if errors.Is(err, fs.ErrNotExist) {
		return k, k.Rotate()
	}
	if err != nil {
		return nil, fmt.Errorf("read keyring: %w", err)
	}
	if err := json.Unmarshal(b, &k.keys); err != nil {
		return nil, fmt.Errorf("read keyring %s: %w", k.path, err)
	}
	for _, key := range k.keys {
		if len(key.Secret) != keySize {
			return nil, fmt.Errorf("read keyring %s: key %d has %d bytes, want %d", k.path, key.ID, len(key.Secret), keySize)
		}
	}
	if len(k.keys) == 0 {
		return nil, fmt.Errorf("read keyring %s: it holds no key", k.path)
	}
	return k, nil
}

// Rotate adds a key that is used from now on. Old keys stay, to open what they sealed.
func (k *Keyring) Rotate() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	key := Key{ID: 1, Secret: make([]byte, keySize)}
	if n := len(k.keys); n > 0 {
		key.ID = k.keys[n-1].ID + 1
	}
	rand.Read(key.Secret)
	keys := append(append([]Key(nil), k.keys...), key)
	b, err := json.Marshal(keys)
	if err != nil {
		return fmt.Errorf("write keyring: %w", err)
	}
	if err := durable.WriteFile(k.path, b); err != nil {
		return fmt.Errorf("write keyring: %w", err)
	}
	k.keys = keys
	return nil
}

// Seal encrypts plain, bound to aad.
func (k *Keyring) Seal(plain, aad []byte) []byte {
	k.mu.RLock()
	key := k.keys[len(k.keys)-1]
	k.mu.RUnlock()
	aead := key.aead()
	out := make([]byte, headSize+aead.NonceSize(), headSize+aead.NonceSize()+len(plain)+aead.Overhead())
	out[0] = sealedVersion
	binary.BigEndian.PutUint32(out[1:], key.ID)
	nonce := out[headSize:]
	rand.Read(nonce)
	return aead.Seal(out, nonce, plain, aad)
}

// Open decrypts what Seal made, with the same aad.
func (k *Keyring) Open(sealed, aad []byte) ([]byte, error) {
	if len(sealed) < headSize || sealed[0] != sealedVersion {
		return nil, api.Errorf(api.CodeInternal, "open sealed value: not a sealed value of version %d", sealedVersion)
	}
	id := binary.BigEndian.Uint32(sealed[1:])
	key, ok := k.key(id)
	if !ok {
		return nil, api.Errorf(api.CodeInternal, "open sealed value: key %d is not in the keyring of this server", id)
	}
	aead := key.aead()
	if len(sealed) < headSize+aead.NonceSize() {
		return nil, api.Errorf(api.CodeInternal, "open sealed value: cut short")
	}
	plain, err := aead.Open(nil, sealed[headSize:headSize+aead.NonceSize()], sealed[headSize+aead.NonceSize():], aad)
	if err != nil {
		return nil, api.Errorf(api.CodeInternal, "open sealed value: damaged, or it belongs to another object")
	}
	return plain, nil
}

// Digest is a keyed digest (HMAC-SHA-256, hex) that is stable over rotations: equal digests
// mean equal data, and nobody without the keyring can guess the data from it.
func (k *Keyring) Digest(data []byte) string {
	k.mu.RLock()
	m := hmac.New(sha256.New, k.keys[0].Secret)
	k.mu.RUnlock()
	m.Write(data)
	return hex.EncodeToString(m.Sum(nil))
}

func (k *Keyring) key(id uint32) (Key, bool) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	for _, key := range k.keys {
		if key.ID == id {
			return key, true
		}
	}
	return Key{}, false
}

// aead cannot fail: the size of the key was checked when it was read.
func (k Key) aead() cipher.AEAD {
	block, err := aes.NewCipher(k.Secret)
	if err != nil {
		panic(err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic(err)
	}
	return aead
}

// Export returns all keys, for another server of the rack or a backup.
func (k *Keyring) Export() ([]byte, error) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	b, err := json.Marshal(k.keys)
	if err != nil {
		return nil, fmt.Errorf("export keyring: %w", err)
	}
	return b, nil
}

// Import makes the keyring of a data directory from what Export returned, and opens it. A
// directory that has one is an error of code conflict: what its keys sealed would be lost.
func Import(dir string, doc []byte) (*Keyring, error) {
	path := filepath.Join(dir, "keyring.json")
	if _, err := os.Stat(path); err == nil {
		return nil, api.Errorf(api.CodeConflict, "import keyring: %s exists already", path)
	}
	if err := durable.WriteFile(path, doc); err != nil {
		return nil, fmt.Errorf("import keyring: %w", err)
	}
	return Open(dir)
}

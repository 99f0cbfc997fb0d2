package trust

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"net/netip"
	"strings"
)

// tokenPrefix begins every token; the number is the form's version.
const tokenPrefix = "cw1-"

// Token is what a new host joins with.
type Token struct {
	// ID names the token in the records.
	ID string
	// Secret lets its holder join; the records have its hash alone.
	Secret [16]byte
	// Pin is that of the authority.
	Pin [sha256.Size]byte
	// Addrs are where to ask, in turn.
	Addrs []netip.AddrPort
}

// NewToken makes a token with a new ID and secret.
func NewToken(pin [sha256.Size]byte, addrs []netip.AddrPort) Token {
	t := Token{Pin: pin, Addrs: addrs}
	id := make([]byte, idBytes)
	_, _ = rand.Read(id) // never fails
	_, _ = rand.Read(t.Secret[:])
	t.ID = hex.EncodeToString(id)
	return t
}

const idBytes = 4

// Hash is what the records keep of the secret.
func (t Token) Hash() string { return HashSecret(t.Secret[:]) }

// HashSecret is for who was sent a secret.
func HashSecret(secret []byte) string {
	sum := sha256.Sum256(secret)
	return hex.EncodeToString(sum[:])
}

// SameHash compares in constant time.
func SameHash(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }

// String is the token as users copy it.
func (t Token) String() string {
	id, _ := hex.DecodeString(t.ID)
	data := append([]byte{}, id...)
	data = append(data, t.Secret[:]...)
	data = append(data, t.Pin[:]...)
	for i, addr := range t.Addrs {
		if i > 0 {
			data = append(data, ',')
		}
		data = append(data, addr.String()...)
	}
	data = binary.BigEndian.AppendUint32(data, crc32.ChecksumIEEE(data))
	return tokenPrefix + base64.RawURLEncoding.EncodeToString(data)
}

// errMangled says that a token is not as it was printed.
var errMangled = errors.New("the token is mangled: copy the whole of it, it begins with " + tokenPrefix)

// ParseToken reads a token. The error says what to do about one that was cut or
// mistyped.
func ParseToken(text string) (Token, error) {
	var t Token
	encoded, ok := strings.CutPrefix(strings.TrimSpace(text), tokenPrefix)
	if !ok {
		return t, errMangled
	}
	data, err := base64.RawURLEncoding.DecodeString(encoded)
	const fixed = idBytes + len(t.Secret) + len(t.Pin)
	if err != nil || len(data) < fixed+crc32.Size {
		return t, errMangled
	}
	data, sum := data[:len(data)-crc32.Size], binary.BigEndian.Uint32(data[len(data)-crc32.Size:])
	if crc32.ChecksumIEEE(data) != sum {
		return t, errMangled
	}
	t.ID = hex.EncodeToString(data[:idBytes])
	copy(t.Secret[:], data[idBytes:])
	copy(t.Pin[:], data[idBytes+len(t.Secret):])
	for addr := range strings.SplitSeq(string(data[fixed:]), ",") {
		parsed, err := netip.ParseAddrPort(addr)
		if err != nil {
			return t, fmt.Errorf("the token names %q, which is no address", addr)
		}
		t.Addrs = append(t.Addrs, parsed)
	}
	return t, nil
}

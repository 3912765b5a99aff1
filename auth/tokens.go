package auth

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// ClockLeeway is how far the clocks of a signer and of a hub may be apart.
const ClockLeeway = 60 * time.Second

// Errors of Verify and Sign.
var (
	// ErrTokenInvalid: the token is malformed, not signed with a key that is known, for another audience, not
	// valid yet, or without an expiry. The text says which, and names the claim.
	ErrTokenInvalid = errors.New("token is invalid")
	// ErrTokenExpired: the token was good, but its time is over.
	ErrTokenExpired = errors.New("token is expired")
	// ErrClaimInvalid: the token is good, but a name, role or label in it breaks a rule or has the wrong type. The
	// text says which claim.
	ErrClaimInvalid = errors.New("claim is invalid")
)

// errKeyUnknown: no key fits what a token's header says.
var errKeyUnknown = errors.New("no such key")

// Tokens verifies client tokens (JWT, RFC 7519). The algorithm belongs to the key: an HS256 signature is checked with our
// secrets only, and every other one only with public keys of that algorithm. What else a token's header says of keys
// (`jwk`, `jku`, `x5u`) is never looked at; `kid` only tells which of our keys to try.
type Tokens struct {
	// Static after NewTokens.
	secrets []jwt.VerificationKey
	set     *KeySet     // nil: none
	parser  *jwt.Parser // without the audience, which differs from call to call
}

// NewTokens verifies what any of these keys has signed: our own (HS256), or one of a set of public keys, which may be nil.
func NewTokens(set *KeySet, keys ...*TokenKey) *Tokens {
	t := &Tokens{
		set: set,
		parser: jwt.NewParser(
			jwt.WithValidMethods(append([]string{jwt.SigningMethodHS256.Alg()}, publicAlgorithms...)),
			jwt.WithExpirationRequired(),
			jwt.WithIssuedAt(),
			jwt.WithLeeway(ClockLeeway),
			jwt.WithStrictDecoding(),
		),
	}
	for _, k := range keys {
		t.secrets = append(t.secrets, k.secret)
	}
	return t
}

// Format hides the keys from every verb of package fmt.
func (t *Tokens) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("auth.Tokens(redacted)")) }

// Verify checks a token's signature, audience and times, with a leeway of ClockLeeway, and returns what
// it says. `webpubsub.group` and `role` may be one name or a list. When the token names a public key that is not known, it
// may wait until the set of keys was read again, or ctx is done. Errors: ErrTokenInvalid, ErrTokenExpired, ErrClaimInvalid.
func (t *Tokens) Verify(ctx context.Context, token, audience string) (Claims, error) {
	return t.VerifyAround(token, audience, func(wait func(context.Context)) { wait(ctx) })
}

// VerifyAround is Verify for a caller that has to know when it waits for the set of keys. VerifyAround calls around then, once at
// most, and around must call wait, with a context that ends the wait.
func (t *Tokens) VerifyAround(token, audience string, around func(wait func(context.Context))) (Claims, error) {
	raw, err := t.parse(token)
	if errors.Is(err, errKeyUnknown) {
		renewed := false
		around(func(ctx context.Context) { renewed = t.set.renew(ctx) })
		if renewed {
			raw, err = t.parse(token)
		}
	}
	if err != nil {
		return Claims{}, explain(err)
	}
	audiences, err := raw.GetAudience()
	if err != nil {
		return Claims{}, err
	}
	if !slices.ContainsFunc(audiences, func(named string) bool { return sameAudience(named, audience) }) {
		return Claims{}, fmt.Errorf("%w: %s: wrong audience", ErrTokenInvalid, claimAudience)
	}
	return raw.claims()
}

// parse checks signature and times.
func (t *Tokens) parse(token string) (*tokenClaims, error) {
	raw := &tokenClaims{}
	parsed, err := t.parser.ParseWithClaims(token, raw, t.candidates)
	if err != nil {
		return nil, err
	}
	// RFC 7515 §4.1.11: who does not understand a critical extension must refuse the token. We
	// understand none.
	if _, critical := parsed.Header["crit"]; critical {
		return nil, fmt.Errorf("%w: critical header extension", ErrTokenInvalid)
	}
	return raw, nil
}

// candidates are the keys with which a token may have been signed, all of its own algorithm.
func (t *Tokens) candidates(token *jwt.Token) (any, error) {
	if token.Method.Alg() == jwt.SigningMethodHS256.Alg() {
		return jwt.VerificationKeySet{Keys: t.secrets}, nil
	}
	kid, _ := token.Header["kid"].(string)
	keys := t.set.candidates(token.Method.Alg(), kid)
	if len(keys) == 0 {
		return nil, errKeyUnknown
	}
	return jwt.VerificationKeySet{Keys: keys}, nil
}

// explain turns an error of the JWT library into ours. The library's own text is dropped: it quotes
// pieces of the token.
func explain(err error) error {
	if wrong, ok := errors.AsType[*claimError](err); ok {
		return wrong
	}
	switch {
	case errors.Is(err, ErrTokenInvalid):
		return err
	case errors.Is(err, jwt.ErrTokenMalformed):
		return fmt.Errorf("%w: malformed", ErrTokenInvalid)
	case errors.Is(err, errKeyUnknown):
		return fmt.Errorf("%w: signed with a key that is not known", ErrTokenInvalid)
	case errors.Is(err, jwt.ErrTokenSignatureInvalid), errors.Is(err, jwt.ErrTokenUnverifiable):
		return fmt.Errorf("%w: wrong signature or algorithm", ErrTokenInvalid)
	case errors.Is(err, jwt.ErrTokenRequiredClaimMissing):
		return fmt.Errorf("%w: %s: missing", ErrTokenInvalid, claimExpires)
	case errors.Is(err, jwt.ErrTokenNotValidYet):
		return fmt.Errorf("%w: %s: not valid yet", ErrTokenInvalid, claimNotBefore)
	case errors.Is(err, jwt.ErrTokenUsedBeforeIssued):
		return fmt.Errorf("%w: %s: issued in the future", ErrTokenInvalid, claimIssuedAt)
	case errors.Is(err, jwt.ErrTokenExpired):
		return ErrTokenExpired
	default:
		return fmt.Errorf("%w: not acceptable", ErrTokenInvalid)
	}
}

package auth

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// ClockLeeway is the largest difference that is allowed between the clocks of an issuer and of a
// hub.
const ClockLeeway = 60 * time.Second

// Errors of Verify and Sign.
var (
	// ErrTokenInvalid: the token is malformed, has no signature by a known key, is for a different
	// audience, is not valid yet, or has no expiry. The text gives the reason and names the claim.
	ErrTokenInvalid = errors.New("token is invalid")
	// ErrTokenExpired: the token was valid, but it has expired.
	ErrTokenExpired = errors.New("token is expired")
	// ErrClaimInvalid: the token is valid, but a name, role or label in it breaks a rule or has the
	// wrong type. The text names the claim.
	ErrClaimInvalid = errors.New("claim is invalid")
)

// errKeyUnknown: no public key has the algorithm and the `kid` of a token's header.
var errKeyUnknown = errors.New("no such key")

// Tokens verifies client tokens (JWT, RFC 7519). The algorithm belongs to the key: an HS256
// signature is checked only with our secrets, any further algorithm only with public keys of that
// algorithm. A key or its address in a token's header (`jwk`, `jku`, `x5u`) is ignored; `kid`
// selects among known keys. Tokens is safe for concurrent use.
type Tokens struct {
	// Fixed at NewTokens.
	secrets   []jwt.VerificationKey // of HS256
	set       *KeySet               // public keys; nil: none
	validator *jwt.Validator        // of times: the audience differs between calls
}

// NewTokens returns a verifier for tokens signed with any of the keys (HS256), or with a key of the
// set of public keys, which may be nil.
func NewTokens(set *KeySet, keys ...*TokenKey) *Tokens {
	t := &Tokens{
		set: set,
		validator: jwt.NewValidator(
			jwt.WithExpirationRequired(), jwt.WithIssuedAt(), jwt.WithLeeway(ClockLeeway)),
	}
	for _, k := range keys {
		t.secrets = append(t.secrets, k.secret)
	}
	return t
}

// Format hides the keys from every verb of package fmt.
func (t *Tokens) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("auth.Tokens(redacted)")) }

// Verify checks a token's signature, audience and times, with a leeway of ClockLeeway, and returns
// its claims. `webpubsub.group` and `role` may be a string or a list. If the token names an unknown
// public key, Verify may wait for a refresh of the KeySet, until ctx is done. Errors:
// ErrTokenInvalid, ErrTokenExpired, ErrClaimInvalid.
func (t *Tokens) Verify(ctx context.Context, token, audience string) (Claims, error) {
	return t.VerifyAround(token, audience, func(wait func(context.Context)) { wait(ctx) })
}

// VerifyAround is Verify for a caller that limits or counts the waits for the KeySet. If the token
// names an unknown public key, VerifyAround calls around once. Then around must call wait, with a
// context that ends the wait.
func (t *Tokens) VerifyAround(
	token, audience string, around func(wait func(context.Context)),
) (Claims, error) {
	raw, err := t.parseToken(token)
	if errors.Is(err, errKeyUnknown) {
		refreshed := false
		around(func(ctx context.Context) { refreshed = t.set.awaitNewKeys(ctx) })
		if refreshed {
			raw, err = t.parseToken(token)
		}
	}
	if err != nil {
		return Claims{}, translateError(err)
	}
	audiences, err := raw.GetAudience()
	if err != nil {
		return Claims{}, err
	}
	isOurs := func(named string) bool { return sameAudience(named, audience) }
	if !slices.ContainsFunc(audiences, isOurs) {
		return Claims{}, fmt.Errorf("%w: %s: wrong audience", ErrTokenInvalid, claimAudience)
	}
	return raw.toClaims()
}

// parseToken checks the signature and the times of a token.
//
// It does the work of jwt.Parser, whose maps and second looks at the JSON cost more than the check
// of an HS256 signature. Signatures and times are checked by package jwt.
func (t *Tokens) parseToken(token string) (*tokenClaims, error) {
	segments, err := splitToken(token)
	if err != nil {
		return nil, err
	}
	head, err := parseHeader(segments.header)
	if err != nil {
		return nil, err
	}
	claims := &tokenClaims{}
	if err := claims.parsePayload(segments.payload); err != nil {
		return nil, err
	}
	if err := t.verifySignature(head, segments); err != nil {
		return nil, err
	}
	if err := t.validator.Validate(claims); err != nil {
		return nil, err //nolint:wrapcheck // translateError looks at it
	}
	// A token with an unknown critical extension must be rejected (RFC 7515 §4.1.11), and no
	// extension is known here.
	if head.critical {
		return nil, fmt.Errorf("%w: critical header extension", ErrTokenInvalid)
	}
	return claims, nil
}

// verifySignature returns nil if a key of the algorithm in the header has signed the token.
func (t *Tokens) verifySignature(head tokenHeader, s tokenSegments) error {
	method := jwt.GetSigningMethod(head.algorithm)
	var keys []jwt.VerificationKey
	switch {
	case method == jwt.SigningMethodHS256:
		keys = t.secrets
	case slices.Contains(publicAlgorithms, head.algorithm):
		if keys = t.set.findKeys(head.algorithm, head.keyID); len(keys) == 0 {
			return errKeyUnknown
		}
	}
	for _, key := range keys {
		if method.Verify(s.signed, s.signature, key) == nil {
			return nil
		}
	}
	return jwt.ErrTokenSignatureInvalid
}

// translateError turns an error of the JWT library into ours. It drops the library's text, which
// quotes parts of the token.
func translateError(err error) error {
	if problem, ok := errors.AsType[*claimError](err); ok {
		return problem
	}
	switch {
	case errors.Is(err, ErrTokenInvalid):
		return err
	case errors.Is(err, jwt.ErrTokenMalformed):
		return fmt.Errorf("%w: malformed", ErrTokenInvalid)
	case errors.Is(err, errKeyUnknown):
		return fmt.Errorf("%w: signed with an unknown key", ErrTokenInvalid)
	case errors.Is(err, jwt.ErrTokenSignatureInvalid):
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

package auth

import (
	"crypto"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/connhub/connhub/internal/testkit"
)

// BenchmarkVerify measures the check of a client's token, for each algorithm.
func BenchmarkVerify(b *testing.B) {
	i := newIssuer()
	set := keySetOf(b, testkit.JWK(b, i.rsa.Public(), "r"), testkit.JWK(b, i.ec.Public(), "e"),
		testkit.JWK(b, i.ed.Public(), "o"))
	tokens := NewTokens(set, newTestKey(b, testSecret))
	claims := jwt.MapClaims{
		"aud": testAudience, "exp": time.Now().Add(24 * time.Hour).Unix(), "sub": "ann",
		"webpubsub.group": []string{"red"}, "role": "webpubsub.sendToGroup.red",
	}
	for _, c := range []struct {
		method jwt.SigningMethod
		key    crypto.PrivateKey
		id     string
	}{
		{jwt.SigningMethodHS256, []byte(testSecret), ""},
		{jwt.SigningMethodRS256, i.rsa, "r"},
		{jwt.SigningMethodES256, i.ec, "e"},
		{jwt.SigningMethodEdDSA, i.ed, "o"},
	} {
		b.Run(c.method.Alg(), func(b *testing.B) {
			token := jwt.NewWithClaims(c.method, claims)
			token.Header["kid"] = c.id
			text, err := token.SignedString(c.key)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := tokens.Verify(b.Context(), text, testAudience); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkParseKeys measures the decoding of a set of three keys.
func BenchmarkParseKeys(b *testing.B) {
	i := newIssuer()
	set := []byte(testkit.JWKSet(testkit.JWK(b, i.rsa.Public(), "r"),
		testkit.JWK(b, i.ec.Public(), "e"), testkit.JWK(b, i.ed.Public(), "o")))
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := parseKeys(set); err != nil {
			b.Fatal(err)
		}
	}
}

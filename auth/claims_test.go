package auth

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// The error for a bad claim names the claim and the expected form, and shows nothing of its value.
func TestErrorsOfTokensNameTheClaim(t *testing.T) {
	now := time.Now().Unix()
	const oneOrList = "want a string or a list of strings"
	const seconds = "want a number of seconds since 1970 (RFC 7519 §2)"
	const half = "half of a surrogate pair is escaped, which is no character"
	for claims, want := range map[string]string{
		`"webpubsub.group":["a","\ud800b"]`:     "claim is invalid: webpubsub.group: " + half,
		`"webpubsub.group":["a",""]`:            "claim is invalid: webpubsub.group[1]: empty name",
		`"role":"webpubsub.sendToGroup.\udfff"`: "claim is invalid: role: " + half,
		`"role":["x","webpubsub.sendToGroups.*\\"]`: "claim is invalid: role[1]: " +
			`a \ that is not followed by \, * or ?`,

		`"sub":42`:                                "claim is invalid: sub: want a string",
		`"sub":["ann"]`:                           "claim is invalid: sub: want a string",
		`"sub":true`:                              "claim is invalid: sub: want a string",
		`"sub":"\ud83d"`:                          "claim is invalid: sub: " + half,
		`"sub":"a\nb"`:                            "claim is invalid: sub: control character",
		`"exp":"tomorrow"`:                        "token is invalid: exp: " + seconds,
		`"exp":[1]`:                               "token is invalid: exp: " + seconds,
		`"exp":{"a":1}`:                           "token is invalid: exp: " + seconds,
		`"exp":null`:                              "token is invalid: exp: missing",
		`"nbf":"secret-yesterday"`:                "token is invalid: nbf: " + seconds,
		fmt.Sprintf(`"nbf":%d`, now+1000):         "token is invalid: nbf: not valid yet",
		`"iat":true`:                              "token is invalid: iat: " + seconds,
		fmt.Sprintf(`"iat":%d`, now+1000):         "token is invalid: iat: issued in the future",
		`"aud":42`:                                "token is invalid: aud: " + oneOrList,
		`"aud":["` + testAudience + `",42]`:       "token is invalid: aud: " + oneOrList,
		`"aud":{"a":"` + testAudience + `"}`:      "token is invalid: aud: " + oneOrList,
		`"aud":null`:                              "token is invalid: aud: wrong audience",
		`"aud":"elsewhere"`:                       "token is invalid: aud: wrong audience",
		`"aud":["` + testAudience + `","\udc00"]`: "token is invalid: aud: " + half,
		`"webpubsub.group":7`: "claim is invalid: webpubsub.group: " +
			oneOrList,
		`"role":7`: "claim is invalid: role: " + oneOrList,

		`"labels":["a"]`:          "claim is invalid: labels: want an object of strings",
		`"labels":{"a":1}`:        "claim is invalid: labels: want an object of strings",
		`"labels":{"\ud800":"a"}`: "claim is invalid: labels: " + half,

		// Claims that a hub does not use, and null, which is the same as a missing claim.
		`"SUB":42,"name":"\ud83d","Exp":"x","AUD":[]`:                                       "",
		`"sub":null,"nbf":null,"webpubsub.group":null,"role":null,"labels":null,"iat":null`: "",
		`"sub":"\ud83d\ude42","webpubsub.group":"\\ud800"`:                                  "",
	} {
		all := claims
		for name, good := range map[string]string{
			"exp": fmt.Sprint(now + 1000), "aud": `"` + testAudience + `"`,
		} {
			if !strings.Contains(claims, `"`+name+`"`) {
				all += fmt.Sprintf(",%q:%s", name, good)
			}
		}
		_, err := verifier(t, testSecret).Verify(t.Context(),
			forge(testSecret, `{"alg":"HS256"}`, "{"+all+"}"), testAudience)
		have := ""
		if err != nil {
			have = err.Error()
		}
		if have != want ||
			err != nil && !errors.Is(err, ErrTokenInvalid) && !errors.Is(err, ErrClaimInvalid) {
			t.Errorf("%s:\nhave %q\nwant %q", claims, have, want)
		}
		// The error for a token with a wrong signature tells nothing of its claims.
		_, err = verifier(t, strings.Repeat("x", 32)).Verify(t.Context(),
			forge(testSecret, `{"alg":"HS256"}`, "{"+all+"}"), testAudience)
		if err == nil || err.Error() != "token is invalid: wrong signature or algorithm" {
			t.Errorf("%s, wrong key: %v", claims, err)
		}
	}
}

package auth

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/connhub/connhub/internal/names"
)

const (
	testSecret   = "0123456789abcdef0123456789abcdef"
	testAudience = "https://hub.example/client/hubs/default"
)

func newTestKey(t testing.TB, secret string) *TokenKey {
	t.Helper()
	k, err := NewTokenKey([]byte(secret))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// verifier returns Tokens with keys of these secrets.
func verifier(t testing.TB, secrets ...string) *Tokens {
	t.Helper()
	keys := make([]*TokenKey, 0, len(secrets))
	for _, s := range secrets {
		keys = append(keys, newTestKey(t, s))
	}
	return NewTokens(nil, keys...)
}

// forge signs any header and payload, also those that our Sign would refuse.
func forge(secret, header, payload string) string {
	text := base64.RawURLEncoding.EncodeToString([]byte(header)) + "." +
		base64.RawURLEncoding.EncodeToString([]byte(payload))
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(text))
	return text + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

func TestVerifyReturnsTheClaimsThatSignWrote(t *testing.T) {
	key := newTestKey(t, testSecret)
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.StringMatching(`[^\p{Cc}]{1,40}`)
		labelName := rapid.StringMatching(`[^\p{Cc}]{1,10}`)
		labelValue := rapid.StringMatching(`[^\p{Cc}]{0,20}`)
		ttl := time.Duration(rapid.IntRange(1, 1e6).Draw(t, "ttl")) * time.Second
		want := Claims{
			User:    rapid.OneOf(rapid.Just(""), name).Draw(t, "user"),
			Groups:  rapid.SliceOfN(name, 0, MaxGroups).Draw(t, "groups"),
			Roles:   drawRoles(t),
			Labels:  rapid.MapOfN(labelName, labelValue, 0, MaxLabels).Draw(t, "labels"),
			Expires: time.Now().Add(ttl).Truncate(time.Second),
		}
		token, err := key.Sign(testAudience, want)
		if err != nil {
			t.Fatal(err)
		}
		have, err := NewTokens(nil, key).Verify(t.Context(), token, testAudience)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, have, cmpopts.EquateEmpty(), sameRoles); diff != "" {
			t.Fatal(diff)
		}
	})
}

// sameRoles compares Roles by their pointers: equal Roles are shared.
var sameRoles = cmp.Comparer(func(a, b *Roles) bool { return a == b })

func TestTokenIsGoodForOneAudienceAndOneKey(t *testing.T) {
	key := newTestKey(t, testSecret)
	token, err := key.Sign(testAudience, Claims{User: "ann", Expires: time.Now().Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	_, err = NewTokens(nil, key).Verify(t.Context(), token,
		"https://hub.example/client/hubs/other")
	if !errors.Is(err, ErrTokenInvalid) {
		t.Errorf("other namespace: %v", err)
	}
	_, err = verifier(t, strings.Repeat("x", 32)).Verify(t.Context(), token, testAudience)
	if !errors.Is(err, ErrTokenInvalid) {
		t.Errorf("other key: %v", err)
	}
}

func TestTokenTimesAreHeldWithTheLeeway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		key := newTestKey(t, testSecret)
		now := time.Now().Unix()
		times := func(exp, nbf, iat int64) string {
			return forge(testSecret, `{"alg":"HS256"}`,
				fmt.Sprintf(`{"aud":%q,"exp":%d,"nbf":%d,"iat":%d}`, testAudience, exp, nbf, iat))
		}
		leeway := int64(ClockLeeway / time.Second)
		for _, c := range []struct {
			name          string
			exp, nbf, iat int64
			want          error
		}{
			{"in its time", now + 1, now, now, nil},
			{"over, within the leeway", now - leeway + 1, now - 100, now - 100, nil},
			{"over", now - leeway, now - 100, now - 100, ErrTokenExpired},
			{"to come, within the leeway", now + 1000, now + leeway, now, nil},
			{"to come", now + 1000, now + leeway + 1, now, ErrTokenInvalid},
			{"issued in the future, within the leeway", now + 1000, now, now + leeway, nil},
			{"issued in the future", now + 1000, now, now + leeway + 1, ErrTokenInvalid},
		} {
			_, err := NewTokens(nil, key).Verify(t.Context(), times(c.exp, c.nbf, c.iat),
				testAudience)
			if !errors.Is(err, c.want) {
				t.Errorf("%s: have %v, want %v", c.name, err, c.want)
			}
		}
	})
}

func TestVerifyRefusesBadTokens(t *testing.T) {
	key := newTestKey(t, testSecret)
	exp := time.Now().Add(time.Hour).Unix()
	good := fmt.Sprintf(`{"aud":%q,"exp":%d}`, testAudience, exp)
	with := func(claim string) string {
		return forge(testSecret, `{"alg":"HS256"}`,
			fmt.Sprintf(`{"aud":%q,"exp":%d,%s}`, testAudience, exp, claim))
	}
	many, _ := json.Marshal(strings.Split(strings.Repeat("g,", MaxGroups)+"g", ","))
	for _, c := range []struct {
		name, token string
		want        error
	}{
		{"empty", "", ErrTokenInvalid},
		{"not a token", "a.b", ErrTokenInvalid},
		{"not base64", "!.!.!", ErrTokenInvalid},
		{
			"alg none",
			base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`)) + "." +
				base64.RawURLEncoding.EncodeToString([]byte(good)) + ".", ErrTokenInvalid,
		},
		{
			"alg HS512 over the same key", forge(testSecret, `{"alg":"HS512"}`, good),
			ErrTokenInvalid,
		},
		{"alg unknown", forge(testSecret, `{"alg":"XS1"}`, good), ErrTokenInvalid},
		{"no alg", forge(testSecret, `{}`, good), ErrTokenInvalid},
		{
			"critical extension",
			forge(testSecret, `{"alg":"HS256","crit":["b64"],"b64":false}`, good), ErrTokenInvalid,
		},
		{
			"signature altered", forge(testSecret, `{"alg":"HS256"}`, good)[:80] + "AAAA",
			ErrTokenInvalid,
		},
		{"payload null", forge(testSecret, `{"alg":"HS256"}`, `null`), ErrTokenInvalid},
		{"payload a list", forge(testSecret, `{"alg":"HS256"}`, `[]`), ErrTokenInvalid},
		{
			"no expiry",
			forge(testSecret, `{"alg":"HS256"}`, fmt.Sprintf(`{"aud":%q}`, testAudience)),
			ErrTokenInvalid,
		},
		{
			"expiry null",
			forge(testSecret, `{"alg":"HS256"}`,
				fmt.Sprintf(`{"aud":%q,"exp":null}`, testAudience)), ErrTokenInvalid,
		},
		{
			"no audience", forge(testSecret, `{"alg":"HS256"}`, fmt.Sprintf(`{"exp":%d}`, exp)),
			ErrTokenInvalid,
		},
		{
			"wrong key and expired",
			forge(strings.Repeat("y", 32), `{"alg":"HS256"}`,
				fmt.Sprintf(`{"aud":%q,"exp":1}`, testAudience)), ErrTokenInvalid,
		},
		{
			"wrong key and bad group",
			forge(strings.Repeat("y", 32), `{"alg":"HS256"}`,
				fmt.Sprintf(`{"aud":%q,"exp":%d,"webpubsub.group":1}`, testAudience, exp)),
			ErrTokenInvalid,
		},
		{"group is a number", with(`"webpubsub.group":1`), ErrClaimInvalid},
		{"group in a list is a number", with(`"webpubsub.group":["a",1]`), ErrClaimInvalid},
		{"group empty", with(`"webpubsub.group":""`), ErrClaimInvalid},
		{"group empty in a list", with(`"webpubsub.group":["a",""]`), ErrClaimInvalid},
		{"group with a control character", with(`"webpubsub.group":"a\u0085"`), ErrClaimInvalid},
		{
			"group too long",
			with(`"webpubsub.group":"` + strings.Repeat("g", names.MaxBytes+1) + `"`),
			ErrClaimInvalid,
		},
		{"too many groups", with(`"webpubsub.group":` + string(many)), ErrClaimInvalid},
		{"role with an empty group", with(`"role":"webpubsub.sendToGroup."`), ErrClaimInvalid},
		{
			"role with a control character", with(`"role":["webpubsub.joinLeaveGroup.a\nb"]`),
			ErrClaimInvalid,
		},
		{
			"role with six stars", with(`"role":["x","webpubsub.joinLeaveGroups.***.***"]`),
			ErrClaimInvalid,
		},
		{
			"role that ends in an escape", with(`"role":"webpubsub.joinLeaveGroups.a\\"`),
			ErrClaimInvalid,
		},
		{"role is a number", with(`"role":5`), ErrClaimInvalid},
		{
			"too many roles", with(`"role":["` + strings.Repeat(`r","`, MaxRoles) + `r"]`),
			ErrClaimInvalid,
		},
		{"labels are a list", with(`"labels":["a"]`), ErrClaimInvalid},
		{"a label is a number", with(`"labels":{"a":1}`), ErrClaimInvalid},
		{"a label without name", with(`"labels":{"":"a"}`), ErrClaimInvalid},
		{
			"a label with a long name",
			with(`"labels":{"` + strings.Repeat("n", MaxLabelNameBytes+1) + `":"a"}`),
			ErrClaimInvalid,
		},
		{
			"a label with a long value",
			with(`"labels":{"a":"` + strings.Repeat("v", MaxLabelValueBytes+1) + `"}`),
			ErrClaimInvalid,
		},
		{"a label with a control character", with(`"labels":{"a":"\u0000"}`), ErrClaimInvalid},
		{"too many labels", with(`"labels":{` + manyLabels(MaxLabels+1) + `}`), ErrClaimInvalid},
		{"user with a control character", with(`"sub":"a\nb"`), ErrClaimInvalid},
		{
			"user too long", with(`"sub":"` + strings.Repeat("u", names.MaxBytes+1) + `"`),
			ErrClaimInvalid,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := NewTokens(nil, key).Verify(t.Context(), c.token, testAudience)
			if !errors.Is(err, c.want) {
				t.Fatalf("have %v, want %v", err, c.want)
			}
			holdNoSecret(t, err.Error(), c.token)
		})
	}
}

func manyLabels(n int) string {
	pairs := make([]string, n)
	for i := range pairs {
		pairs[i] = fmt.Sprintf(`"l%d":"v"`, i)
	}
	return strings.Join(pairs, ",")
}

func TestVerifyTakesOneGroupOrAListAndAudiencesLikewise(t *testing.T) {
	key := newTestKey(t, testSecret)
	exp := time.Now().Add(time.Hour).Unix()
	limit := strings.Repeat("ü", names.MaxBytes/2)
	for _, c := range []struct {
		name, claims string
		want         []string
	}{
		{"none", `"aud":"` + testAudience + `"`, nil},
		{"null", `"aud":"` + testAudience + `","webpubsub.group":null`, nil},
		{"one", `"aud":"` + testAudience + `","webpubsub.group":"red"`, []string{"red"}},
		{
			"list", `"aud":["elsewhere","` + testAudience + `"],"webpubsub.group":["red","blue"]`,
			[]string{"red", "blue"},
		},
		{
			"longest name", `"aud":"` + testAudience + `","webpubsub.group":"` + limit + `"`,
			[]string{limit},
		},
	} {
		have, err := NewTokens(nil, key).Verify(t.Context(),
			forge(testSecret, `{"alg":"HS256","typ":"JWT"}`,
				fmt.Sprintf(`{%s,"exp":%d}`, c.claims, exp)), testAudience)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		if diff := cmp.Diff(c.want, have.Groups, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%s: %s", c.name, diff)
		}
	}
}

func TestSignRefusesClaimsThatVerifyWouldRefuse(t *testing.T) {
	key := newTestKey(t, testSecret)
	expires := time.Now().Add(time.Hour)
	for _, c := range []struct {
		name   string
		claims Claims
	}{
		{"no expiry", Claims{}},
		{"user not UTF-8", Claims{User: "\xff", Expires: expires}},
		{"group empty", Claims{Groups: []string{""}, Expires: expires}},
		{"too many groups", Claims{Groups: make([]string, MaxGroups+1), Expires: expires}},
	} {
		if _, err := key.Sign(testAudience, c.claims); !errors.Is(err, ErrClaimInvalid) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// holdNoSecret fails if text has 8 or more consecutive characters of secret, plain or in hex.
func holdNoSecret(t *testing.T, text, secret string) {
	t.Helper()
	for i := 0; i+8 <= len(secret); i++ {
		piece := secret[i : i+8]
		if strings.Contains(text, piece) || strings.Contains(text, fmt.Sprintf("%x", piece)) {
			t.Fatalf("%q shows a piece of the secret", text)
		}
	}
}

func FuzzVerify(f *testing.F) {
	key := newTestKey(f, testSecret)
	good, err := key.Sign(testAudience, Claims{
		User: "ann", Groups: []string{"red"}, Expires: time.Now().Add(1e6 * time.Hour),
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good, []byte(`{"alg":"HS256"}`),
		[]byte(`{"aud":"a","exp":1e300,"nbf":-1,"webpubsub.group":["x",2]}`))
	f.Add("..", []byte(`{"alg":null}`), []byte(`null`))
	f.Add(" ", []byte(`{"alg":"HS256","crit":1}`), []byte(`{"sub":"\u0000","aud":[1]}`))
	f.Fuzz(func(t *testing.T, token string, header, payload []byte) {
		for _, token := range []string{token, forge(testSecret, string(header), string(payload))} {
			claims, err := NewTokens(nil, key).Verify(t.Context(), token, testAudience)
			if err != nil {
				if !errors.Is(err, ErrTokenInvalid) && !errors.Is(err, ErrTokenExpired) &&
					!errors.Is(err, ErrClaimInvalid) {
					t.Fatalf("not one of our errors: %v", err)
				}
				continue
			}
			// Sign and Verify have the same rules, so Sign accepts the claims that Verify accepted.
			again, err := key.Sign(testAudience, claims)
			if err != nil {
				t.Fatalf("verified %+v but can't sign it: %v", claims, err)
			}
			have, err := NewTokens(nil, key).Verify(t.Context(), again, testAudience)
			if err != nil || have.User != claims.User {
				t.Fatalf("signed again: %+v, %v", have, err)
			}
		}
	})
}

// The header and the claims, in this order, were observed in a token of @azure/web-pubsub 1.2.0.
func TestATokenOfMicrosoftsServerSDKIsAccepted(t *testing.T) {
	now := time.Now().Unix()
	token := forge(testSecret, `{"alg":"HS256","typ":"JWT"}`, fmt.Sprintf(
		`{"role":["webpubsub.joinLeaveGroup","webpubsub.sendToGroup.g1"],"webpubsub.group":["g1"],`+
			`"iat":%d,"exp":%d,"aud":"http://127.0.0.1:8080/client/hubs/Chat","sub":"u1"}`,
		now, now+3600))
	public := &url.URL{Scheme: "ws", Host: "127.0.0.1:8080"}
	have, err := verifier(t, testSecret).Verify(t.Context(), token, Audience(public, "chat"))
	if err != nil {
		t.Fatal(err)
	}
	want := Claims{
		User: "u1", Groups: []string{"g1"}, Expires: time.Unix(now+3600, 0),
		Roles: mustRoles(t, "webpubsub.joinLeaveGroup", "webpubsub.sendToGroup.g1"),
	}
	if diff := cmp.Diff(want, have, sameRoles); diff != "" {
		t.Error(diff)
	}
}

func TestEachKeyVerifiesUntilItIsTakenOut(t *testing.T) {
	old, young := newTestKey(t, testSecret), newTestKey(t, strings.Repeat("n", MinKeyBytes))
	claims := Claims{User: "ann", Expires: time.Now().Add(time.Hour)}
	for _, c := range []struct {
		name   string
		tokens *Tokens
		signer *TokenKey
		ok     bool
	}{
		{"before", NewTokens(nil, old, young), young, true},
		{"between", NewTokens(nil, young, old), old, true},
		{"after", NewTokens(nil, young), old, false},
		{"no key at all", NewTokens(nil), old, false},
	} {
		token, err := c.signer.Sign(testAudience, claims)
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.tokens.Verify(t.Context(), token, testAudience)
		if (err == nil) != c.ok || err != nil && !errors.Is(err, ErrTokenInvalid) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestClaimsAreTakenByTheirExactNames(t *testing.T) {
	exp := time.Now().Add(time.Hour).Unix()
	token := forge(testSecret, `{"alg":"HS256"}`, fmt.Sprintf(
		`{"aud":%q,"exp":%d,"sub":"ann","SUB":"root","Role":"webpubsub.sendToGroup",`+
			`"WebPubSub.Group":"staff","LABELS":{"a":"b"}}`, testAudience, exp))
	have, err := verifier(t, testSecret).Verify(t.Context(), token, testAudience)
	if err != nil {
		t.Fatal(err)
	}
	diff := cmp.Diff(Claims{User: "ann", Expires: time.Unix(exp, 0)}, have, sameRoles)
	if diff != "" {
		t.Error(diff)
	}
	_, err = verifier(t, testSecret).Verify(t.Context(),
		forge(testSecret, `{"alg":"HS256"}`, fmt.Sprintf(`{"aud":%q,"EXP":%d}`, testAudience, exp)),
		testAudience)
	if !errors.Is(err, ErrTokenInvalid) {
		t.Errorf("EXP for exp: %v", err)
	}
}

func TestATokenHasASingleSpelling(t *testing.T) {
	if _, err := splitToken("e30.e30.AAAA"); err != nil {
		t.Fatal(err)
	}
	for _, token := range []string{
		"e30.e30.AA\r\nAA\n", "e3\n0.e30.AAAA", "e30.e30\r.AAAA", "e30=.e30.AAAA", "e31.e30.AAAA",
	} {
		if s, err := splitToken(token); err == nil {
			t.Errorf("%q is a token with the signature %x", token, s.signature)
		}
	}
}

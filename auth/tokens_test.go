package auth

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"
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

// forge signs any header and payload, as a stranger's library would.
func forge(secret, header, payload string) string {
	text := base64.RawURLEncoding.EncodeToString([]byte(header)) + "." + base64.RawURLEncoding.EncodeToString([]byte(payload))
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(text))
	return text + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

func TestTokenSaysWhatWasSigned(t *testing.T) {
	key := newTestKey(t, testSecret)
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.StringMatching(`[^\p{Cc}]{1,40}`)
		want := Claims{
			User:    rapid.OneOf(rapid.Just(""), name).Draw(t, "user"),
			Groups:  rapid.SliceOfN(name, 0, MaxGroups).Draw(t, "groups"),
			Expires: time.Now().Add(time.Duration(rapid.IntRange(1, 1e6).Draw(t, "ttl")) * time.Second).Truncate(time.Second),
		}
		token, err := key.Sign(testAudience, want)
		if err != nil {
			t.Fatal(err)
		}
		have, err := key.Verify(token, testAudience)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, have, cmpopts.EquateEmpty()); diff != "" {
			t.Fatal(diff)
		}
	})
}

func TestTokenIsGoodForOneAudienceAndOneKey(t *testing.T) {
	key := newTestKey(t, testSecret)
	token, err := key.Sign(testAudience, Claims{User: "ann", Expires: time.Now().Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := key.Verify(token, "https://hub.example/client/hubs/other"); !errors.Is(err, ErrTokenInvalid) {
		t.Errorf("other namespace: %v", err)
	}
	if _, err := newTestKey(t, strings.Repeat("x", 32)).Verify(token, testAudience); !errors.Is(err, ErrTokenInvalid) {
		t.Errorf("other key: %v", err)
	}
}

func TestTokenTimesAreHeldWithTheLeeway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		key := newTestKey(t, testSecret)
		now := time.Now().Unix()
		times := func(exp, nbf int64) string {
			return forge(testSecret, `{"alg":"HS256"}`, fmt.Sprintf(`{"aud":%q,"exp":%d,"nbf":%d}`, testAudience, exp, nbf))
		}
		leeway := int64(ClockLeeway / time.Second)
		for _, c := range []struct {
			name     string
			exp, nbf int64
			want     error
		}{
			{"in its time", now + 1, now, nil},
			{"over, within the leeway", now - leeway + 1, now - 100, nil},
			{"over", now - leeway, now - 100, ErrTokenExpired},
			{"to come, within the leeway", now + 1000, now + leeway, nil},
			{"to come", now + 1000, now + leeway + 1, ErrTokenInvalid},
		} {
			if _, err := key.Verify(times(c.exp, c.nbf), testAudience); !errors.Is(err, c.want) {
				t.Errorf("%s: have %v, want %v", c.name, err, c.want)
			}
		}
	})
}

func TestVerifyRefusesWhatItMust(t *testing.T) {
	key := newTestKey(t, testSecret)
	exp := time.Now().Add(time.Hour).Unix()
	good := fmt.Sprintf(`{"aud":%q,"exp":%d}`, testAudience, exp)
	with := func(claim string) string {
		return forge(testSecret, `{"alg":"HS256"}`, fmt.Sprintf(`{"aud":%q,"exp":%d,%s}`, testAudience, exp, claim))
	}
	many, _ := json.Marshal(strings.Split(strings.Repeat("g,", MaxGroups)+"g", ","))
	for _, c := range []struct {
		name, token string
		want        error
	}{
		{"empty", "", ErrTokenInvalid},
		{"not a token", "a.b", ErrTokenInvalid},
		{"not base64", "!.!.!", ErrTokenInvalid},
		{"alg none", base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`)) + "." + base64.RawURLEncoding.EncodeToString([]byte(good)) + ".", ErrTokenInvalid},
		{"alg HS512 over the same key", forge(testSecret, `{"alg":"HS512"}`, good), ErrTokenInvalid},
		{"alg unknown", forge(testSecret, `{"alg":"XS1"}`, good), ErrTokenInvalid},
		{"no alg", forge(testSecret, `{}`, good), ErrTokenInvalid},
		{"critical extension", forge(testSecret, `{"alg":"HS256","crit":["b64"],"b64":false}`, good), ErrTokenInvalid},
		{"signature altered", forge(testSecret, `{"alg":"HS256"}`, good)[:80] + "AAAA", ErrTokenInvalid},
		{"payload null", forge(testSecret, `{"alg":"HS256"}`, `null`), ErrTokenInvalid},
		{"payload a list", forge(testSecret, `{"alg":"HS256"}`, `[]`), ErrTokenInvalid},
		{"no expiry", forge(testSecret, `{"alg":"HS256"}`, fmt.Sprintf(`{"aud":%q}`, testAudience)), ErrTokenInvalid},
		{"expiry null", forge(testSecret, `{"alg":"HS256"}`, fmt.Sprintf(`{"aud":%q,"exp":null}`, testAudience)), ErrTokenInvalid},
		{"no audience", forge(testSecret, `{"alg":"HS256"}`, fmt.Sprintf(`{"exp":%d}`, exp)), ErrTokenInvalid},
		{"wrong key and expired", forge(strings.Repeat("y", 32), `{"alg":"HS256"}`, fmt.Sprintf(`{"aud":%q,"exp":1}`, testAudience)), ErrTokenInvalid},
		{"wrong key and bad group", forge(strings.Repeat("y", 32), `{"alg":"HS256"}`, fmt.Sprintf(`{"aud":%q,"exp":%d,"webpubsub.group":1}`, testAudience, exp)), ErrTokenInvalid},
		{"group is a number", with(`"webpubsub.group":1`), ErrClaimInvalid},
		{"group in a list is a number", with(`"webpubsub.group":["a",1]`), ErrClaimInvalid},
		{"group empty", with(`"webpubsub.group":""`), ErrClaimInvalid},
		{"group empty in a list", with(`"webpubsub.group":["a",""]`), ErrClaimInvalid},
		{"group with a control character", with(`"webpubsub.group":"a\u0085"`), ErrClaimInvalid},
		{"group too long", with(`"webpubsub.group":"` + strings.Repeat("g", MaxNameBytes+1) + `"`), ErrClaimInvalid},
		{"too many groups", with(`"webpubsub.group":` + string(many)), ErrClaimInvalid},
		{"user with a control character", with(`"sub":"a\nb"`), ErrClaimInvalid},
		{"user too long", with(`"sub":"` + strings.Repeat("u", MaxNameBytes+1) + `"`), ErrClaimInvalid},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := key.Verify(c.token, testAudience)
			if !errors.Is(err, c.want) {
				t.Fatalf("have %v, want %v", err, c.want)
			}
			holdNoSecret(t, err.Error(), c.token)
		})
	}
}

func TestVerifyTakesOneGroupOrAListAndAudiencesLikewise(t *testing.T) {
	key := newTestKey(t, testSecret)
	exp := time.Now().Add(time.Hour).Unix()
	limit := strings.Repeat("ü", MaxNameBytes/2)
	for _, c := range []struct {
		name, claims string
		want         []string
	}{
		{"none", `"aud":"` + testAudience + `"`, nil},
		{"null", `"aud":"` + testAudience + `","webpubsub.group":null`, nil},
		{"one", `"aud":"` + testAudience + `","webpubsub.group":"red"`, []string{"red"}},
		{"list", `"aud":["elsewhere","` + testAudience + `"],"webpubsub.group":["red","blue"]`, []string{"red", "blue"}},
		{"longest name", `"aud":"` + testAudience + `","webpubsub.group":"` + limit + `"`, []string{limit}},
	} {
		have, err := key.Verify(forge(testSecret, `{"alg":"HS256","typ":"JWT"}`, fmt.Sprintf(`{%s,"exp":%d}`, c.claims, exp)), testAudience)
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

func TestTokenKeyFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	token, err := newTestKey(t, testSecret).Sign(testAudience, Claims{Expires: time.Now().Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, content string
		ok            bool
	}{
		{"bare", testSecret, true},
		{"one newline", testSecret + "\n", true},
		{"one CRLF", testSecret + "\r\n", true},
		{"two newlines: the first belongs to the key", testSecret + "\n\n", false},
		{"too short", testSecret[:MinKeyBytes-1] + "\n", false},
		{"empty", "", false},
	} {
		if err := os.WriteFile(path, []byte(c.content), 0o600); err != nil {
			t.Fatal(err)
		}
		key, err := LoadTokenKey(path)
		if err == nil {
			_, err = key.Verify(token, testAudience)
		} else if c.content != "" {
			holdNoSecret(t, err.Error(), strings.TrimSpace(c.content))
		}
		if (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	if _, err := LoadTokenKey(path + "x"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
}

func TestAudienceIsTheClientURL(t *testing.T) {
	for _, c := range []struct{ public, want string }{
		{"https://hub.example", "https://hub.example/client/hubs/chat"},
		{"https://hub.example/", "https://hub.example/client/hubs/chat"},
		{"wss://hub.example:8443/edge/", "https://hub.example:8443/edge/client/hubs/chat"},
		{"ws://127.0.0.1:8080", "http://127.0.0.1:8080/client/hubs/chat"},
		{"http://[::1]:8080/a%2Fb", "http://[::1]:8080/a%2Fb/client/hubs/chat"},
	} {
		u, err := url.Parse(c.public)
		if err != nil {
			t.Fatal(err)
		}
		if have := Audience(u, "chat"); have != c.want {
			t.Errorf("%s: have %s, want %s", c.public, have, c.want)
		}
	}
}

func TestFormattingShowsNoKey(t *testing.T) {
	key := newTestKey(t, testSecret)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d"} {
		holdNoSecret(t, fmt.Sprintf(verb, key), testSecret)
		holdNoSecret(t, fmt.Sprintf(verb, struct{ K *TokenKey }{key}), testSecret)
	}
}

// holdNoSecret fails when text shows a piece of secret of 8 characters or more, as it is or in hex.
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
	good, err := key.Sign(testAudience, Claims{User: "ann", Groups: []string{"red"}, Expires: time.Now().Add(1e6 * time.Hour)})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good, []byte(`{"alg":"HS256"}`), []byte(`{"aud":"a","exp":1e300,"nbf":-1,"webpubsub.group":["x",2]}`))
	f.Add("..", []byte(`{"alg":null}`), []byte(`null`))
	f.Add(" ", []byte(`{"alg":"HS256","crit":1}`), []byte(`{"sub":"\u0000","aud":[1]}`))
	f.Fuzz(func(t *testing.T, token string, header, payload []byte) {
		for _, token := range []string{token, forge(testSecret, string(header), string(payload))} {
			claims, err := key.Verify(token, testAudience)
			if err != nil {
				if !errors.Is(err, ErrTokenInvalid) && !errors.Is(err, ErrTokenExpired) && !errors.Is(err, ErrClaimInvalid) {
					t.Fatalf("not one of our errors: %v", err)
				}
				continue
			}
			// What Verify lets through, Sign can say: the rules are the same.
			again, err := key.Sign(testAudience, claims)
			if err != nil {
				t.Fatalf("verified %+v but can't sign it: %v", claims, err)
			}
			if have, err := key.Verify(again, testAudience); err != nil || have.User != claims.User {
				t.Fatalf("signed again: %+v, %v", have, err)
			}
		}
	})
}

package auth

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"math/big"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/connhub/connhub/internal/testkit"
)

// rfc7515Payload is the payload of the examples in RFC 7515 appendix A.
const rfc7515Payload = ".eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxl" +
	"LmNvbS9pc19yb290Ijp0cnVlfQ"

func TestKeysOfTheStandardsVerifyTheSignaturesOfTheStandards(t *testing.T) {
	for _, c := range []struct{ name, key, signed, signature string }{
		{
			"RFC 7515 A.2",
			`{"kty":"RSA","e":"AQAB","n":"ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26m` +
				`PddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32` +
				`690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTB` +
				`EMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8` +
				`NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ"}`,
			"eyJhbGciOiJSUzI1NiJ9" + rfc7515Payload,
			"cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5Y" +
				"Kt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK" +
				"5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEs" +
				"qtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVm" +
				"tVrBp0igcN_IoypGlUPQGe77Rw",
		},
		{
			"RFC 7515 A.3",
			`{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",` +
				`"y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}`,
			"eyJhbGciOiJFUzI1NiJ9" + rfc7515Payload,
			"DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3" +
				"-Kg6NU1Q",
		},
		{
			"RFC 8037 A.4",
			`{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}`,
			"eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc",
			"hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr" +
				"_MuM0KAg",
		},
	} {
		keys, _, err := parseKeys([]byte(testkit.JWKSet(c.key)))
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		signature, err := base64.RawURLEncoding.DecodeString(c.signature)
		if err != nil {
			t.Fatal(err)
		}
		method := jwt.GetSigningMethod(keys[0].algorithm)
		if err := method.Verify(c.signed, signature, keys[0].key); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		if method.Verify(c.signed+"x", signature, keys[0].key) == nil {
			t.Errorf("%s: verifies what was not signed", c.name)
		}
	}
}

// wantRefused checks that a set with only this key is refused for the reason why.
func wantRefused(t *testing.T, name, key, why string) {
	t.Helper()
	keys, _, err := parseKeys([]byte(testkit.JWKSet(key)))
	if err == nil || !strings.HasSuffix(err.Error(), "keys[0]: "+why) {
		t.Errorf("%s: %v, %v, want %s", name, keys, err, why)
	}
}

const notAKey = "not a key of a type that is used here"

func TestMalformedKeysAreRefused(t *testing.T) {
	i := newIssuer()
	number := func(n *big.Int) string { return base64.RawURLEncoding.EncodeToString(n.Bytes()) }
	bits := func(n uint) string { return number(new(big.Int).Lsh(big.NewInt(1), n-1)) }
	rsaKey := func(n, e string) string { return fmt.Sprintf(`{"kty":"RSA","n":%q,"e":%q}`, n, e) }
	ec, ed := testkit.JWK(t, i.ec.Public(), ""), testkit.JWK(t, i.ed.Public(), "")
	n := number(i.rsa.N)
	for _, c := range []struct{ name, key, why string }{
		{"RSA beyond the limit", rsaKey(bits(maxRSABits+1), "AQAB"), notAKey},
		{"RSA with an empty n", rsaKey("", "AQAB"), "RSA key of 0 bits, want at least 2048"},
		{"RSA with the exponent 1", rsaKey(n, "AQ"), notAKey},
		{"RSA with the exponent 0", rsaKey(n, ""), notAKey},
		{"RSA with an exponent of 64 bits", rsaKey(n, bits(64)), notAKey},
		{"RSA without e", `{"kty":"RSA","n":"` + n + `"}`, notAKey},
		{"RSA without n", `{"kty":"RSA","e":"AQAB"}`, notAKey},
		{"RSA with n null", `{"kty":"RSA","e":"AQAB","n":null}`, notAKey},
		{"RSA with n a number", `{"kty":"RSA","e":"AQAB","n":5}`, notAKey},
		{"RSA with padding", rsaKey(n, "AQAB===="), notAKey},
		{"RSA, not base64url", rsaKey("++++", "AQAB"), notAKey},
		{"EC without y", strings.Replace(ec, `"y"`, `"_"`, 1), notAKey},
		{"EC with a short x", strings.Replace(ec, `"x":"`, `"x":"AA","_":"`, 1), notAKey},
		{"EC with a name of P-384", strings.Replace(ec, "P-256", "P-384", 1), notAKey},
		{"EC with an unknown curve", strings.Replace(ec, "P-256", "secp256k1", 1), notAKey},
		{"Ed25519 with a short x", strings.Replace(ed, `"x":"`, `"x":"AA","_":"`, 1), notAKey},
		{"Ed25519 without x", `{"kty":"OKP","crv":"Ed25519"}`, notAKey},
		{"a key type of another case", strings.Replace(ed, "OKP", "okp", 1), notAKey},
		{"a member of another case", strings.Replace(ed, "kty", "KTY", 1), notAKey},
		{"a member twice", strings.Replace(ed, "{", `{"kty":"EC",`, 1), notAKey},
		{"an unknown member twice", strings.Replace(ed, "{", `{"a":1,"\u0061":1,`, 1), notAKey},
		{"an id that is a number", strings.Replace(ed, "{", `{"kid":5,`, 1), notAKey},
		{"a use that is a list", strings.Replace(ed, "{", `{"use":["sig"],`, 1), notAKey},
	} {
		wantRefused(t, c.name, c.key, c.why)
	}
	// The largest RSA key; members that are null, the same as missing members; a repetition that is
	// not in the key itself.
	for _, key := range []string{
		rsaKey(bits(maxRSABits), "AQAB"),
		strings.Replace(ed, "{", `{"kid":null,"use":null,"alg":null,"n":null,"x5c":null,`, 1),
		strings.Replace(ed, "{", `{"other":{"a":1,"a":2},`, 1),
	} {
		if _, _, err := parseKeys([]byte(testkit.JWKSet(key))); err != nil {
			t.Errorf("%.80s: %v", key, err)
		}
	}
}

func TestCertificatesBesideAKeyMustBelongToIt(t *testing.T) {
	i := newIssuer()
	certificate := func(key any) []byte {
		of := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now()}
		der, err := x509.CreateCertificate(rand.Reader, of, of, key, i.ec)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	own, other := certificate(i.ed.Public()), certificate(i.rsa.Public())
	chain := func(certificates ...[]byte) string {
		texts := make([]string, len(certificates))
		for i, c := range certificates {
			texts[i] = strconv.Quote(base64.StdEncoding.EncodeToString(c))
		}
		return `"x5c":[` + strings.Join(texts, ",") + `]`
	}
	print := func(member string, sum []byte) string {
		return fmt.Sprintf(`%q:%q`, member, base64.RawURLEncoding.EncodeToString(sum))
	}
	inHex := func(sum []byte) []byte { return []byte(hex.EncodeToString(sum)) }
	sum1, sum256, other256 := sha1.Sum(own), sha256.Sum256(own), sha256.Sum256(other)
	for _, c := range []struct {
		name    string
		members []string
		ok      bool
	}{
		{"own", []string{chain(own)}, true},
		{"own, and its issuer's", []string{chain(own, other)}, true},
		{"none", []string{chain()}, true},
		{"another key's", []string{chain(other)}, false},
		{"another key's before it", []string{chain(other, own)}, false},
		{"an issuer's that is none", []string{chain(own, []byte("x"))}, false},
		{"not base64", []string{`"x5c":["!"]`}, false},
		{"not a list", []string{`"x5c":"AAAA"`}, false},
		{"thumbprints", []string{
			chain(own), print("x5t", sum1[:]), print("x5t#S256", sum256[:]),
		}, true},
		{"thumbprints in hexadecimal", []string{
			chain(own), print("x5t", inHex(sum1[:])), print("x5t#S256", inHex(sum256[:])),
		}, true},
		{"thumbprints without certificates", []string{print("x5t#S256", other256[:])}, true},
		{"another's thumbprint", []string{chain(own), print("x5t#S256", other256[:])}, false},
		{"a thumbprint of the wrong length", []string{print("x5t", sum256[:])}, false},
		{"a thumbprint of 40 other bytes", []string{print("x5t", make([]byte, 40))}, false},
		{"an address", []string{`"x5u":"https://issuer.example/x"`}, true},
		{"an address that is none", []string{`"x5u":"%zz"`}, false},
	} {
		key := testkit.JWK(t, i.ed.Public(), "", c.members...)
		if !c.ok {
			wantRefused(t, c.name, key, notAKey)
		} else if _, _, err := parseKeys([]byte(testkit.JWKSet(key))); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// TestEd25519KeysOfSmallOrderAreRefused first proves that each key has a small order: the neutral
// element and a zero are a valid signature of some message, made without a private key.
func TestEd25519KeysOfSmallOrderAreRefused(t *testing.T) {
	neutral := append([]byte{1}, make([]byte, ed25519.SignatureSize-1)...)
	for y := range weakEd25519 {
		key, err := hex.DecodeString(y)
		if err != nil {
			t.Fatal(err)
		}
		for _, sign := range []byte{0, 0x80} {
			key[31] = key[31]&^0x80 | sign
			forged := false
			for n := 0; n < 200 && !forged; n++ {
				forged = ed25519.Verify(key, []byte(strconv.Itoa(n)), neutral)
			}
			if !forged {
				t.Errorf("%x: no forged signature, so not a key of small order", key)
			}
			text := testkit.JWK(t, ed25519.PublicKey(bytes.Clone(key)), "")
			wantRefused(t, hex.EncodeToString(key), text, notAKey)
		}
	}
	if len(weakEd25519) != 7 {
		t.Errorf("%d values of y, want 5 and two of them in a second encoding", len(weakEd25519))
	}
}

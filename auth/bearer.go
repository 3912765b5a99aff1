package auth

import "strings"

// BearerSecret returns the secret, or the token, in the value of an Authorization header with the scheme Bearer. It is
// empty if there is none. The scheme's case does not matter (RFC 9110 §11.1), and one space or several stand before the
// secret (RFC 9110 §11.4).
func BearerSecret(header string) string {
	scheme, secret, _ := strings.Cut(header, " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimSpace(secret)
}

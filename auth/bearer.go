package auth

import "strings"

// BearerSecret returns the secret or the token in an Authorization header of the scheme Bearer, or
// "" if the header has another scheme or no secret. The scheme may have any case (RFC 9110 §11.1),
// and several spaces may precede the secret (RFC 9110 §11.4).
func BearerSecret(header string) string {
	scheme, secret, _ := strings.Cut(header, " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimSpace(secret)
}

package testkit

// Secrets and keys that pass the checks of their strength.
const (
	SomeSecret  = "backend-secret-0123456789-0123456789"
	OtherSecret = "ops-secret-0123456789-0123456789-abc"
	SomeKey     = "token-key-0123456789-0123456789-0123"
)

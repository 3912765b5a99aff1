package build

// DevHint returns the hint to try `connhub dev`, or "" if this binary has no etcd for it.
func DevHint(hint string) string {
	if !HasEtcd {
		return ""
	}
	return hint
}

package discovery

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"time"
)

// Member is a hub as it presents itself to the others. It is stored as JSON. A rolling restart mixes versions:
// a hub skips fields that it doesn't know, and a field that is added must have a zero value that makes sense.
type Member struct {
	ID             string    `json:"id"`             // of the process, never reused
	Name           string    `json:"name,omitempty"` // the pod's
	Zone           string    `json:"zone,omitempty"`
	Version        string    `json:"version,omitempty"`    // of the program
	ControlAddress string    `json:"control_address"`      // host:port where the other hubs dial it
	Generation     int64     `json:"generation,omitempty"` // of the deployment; a drain prefers the newest
	Started        time.Time `json:"started"`
}

const (
	maxMember = 16 << 10 // bytes of a stored Member, unknown fields included
	maxText   = 1024     // bytes of a text in it
)

// validate returns all that is wrong with m, or nil.
func (m *Member) validate() error {
	var errs []error
	if !validID(m.ID) {
		errs = append(errs, fmt.Errorf("ID is %q, want 1 to %d bytes without slash and control characters", m.ID, maxID))
	}
	for _, t := range []struct{ name, value string }{
		{"Name", m.Name}, {"Zone", m.Zone}, {"Version", m.Version}, {"ControlAddress", m.ControlAddress},
	} {
		if len(t.value) > maxText || !printable(t.value) {
			errs = append(errs, fmt.Errorf("%s is %.64q, want at most %d bytes without control characters", t.name, t.value, maxText))
		}
	}
	if host, port, err := net.SplitHostPort(m.ControlAddress); err != nil || host == "" || port == "" {
		errs = append(errs, fmt.Errorf("ControlAddress is %.64q, want host:port", m.ControlAddress))
	}
	return errors.Join(errs...)
}

func encodeMember(m Member) (string, error) {
	if err := m.validate(); err != nil {
		return "", err
	}
	value, err := json.Marshal(m)
	if err != nil {
		return "", fmt.Errorf("encode: %w", err)
	}
	return string(value), nil
}

// decodeMember reads what stands at the key of the hub with this id. Anybody who can write to etcd may have
// written it.
func decodeMember(id string, value []byte) (Member, error) {
	if len(value) > maxMember {
		return Member{}, fmt.Errorf("%d bytes, at most %d are read", len(value), maxMember)
	}
	var m Member
	if err := json.Unmarshal(value, &m); err != nil {
		return Member{}, fmt.Errorf("decode: %w", err)
	}
	if m.ID != id {
		return Member{}, fmt.Errorf("ID is %.64q, the key says %.64q", m.ID, id)
	}
	return m, m.validate()
}

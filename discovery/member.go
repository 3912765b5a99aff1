package discovery

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"time"
)

// Member describes a hub to its peers. It is stored in etcd as JSON. During a rolling restart, hubs
// of several versions read it: they skip unknown fields, and a new field needs a sensible zero
// value. Each text has at most 1024 bytes.
type Member struct {
	// ID identifies the process: 1 to 64 bytes, never reused.
	ID string `json:"id"`
	// Name is for people, such as the name of the pod. It may be empty.
	Name string `json:"name,omitempty"`
	// Zone is the availability zone. It may be empty.
	Zone string `json:"zone,omitempty"`
	// Version is the version of the program. It may be empty.
	Version string `json:"version,omitempty"`
	// ControlAddress is the host:port that peers dial.
	ControlAddress string `json:"control_address"`
	// Started is the time at which the process started.
	Started time.Time `json:"started"`
}

const (
	maxMember = 16 << 10 // bytes of a stored Member, with unknown fields
	maxText   = 1024     // bytes of a text in a Member
)

// checkFields returns all problems of m as a joined error, or nil.
func (m *Member) checkFields() error {
	var errs []error
	if !validID(m.ID) {
		errs = append(errs, fmt.Errorf("ID is %q, want 1 to %d bytes without slash and control "+
			"characters", m.ID, maxID))
	}
	for _, t := range []struct{ name, value string }{
		{"Name", m.Name},
		{"Zone", m.Zone},
		{"Version", m.Version},
		{"ControlAddress", m.ControlAddress},
	} {
		if len(t.value) > maxText || !isPrintable(t.value) {
			errs = append(errs, fmt.Errorf("%s is %.64q, want at most %d bytes without control "+
				"characters", t.name, t.value, maxText))
		}
	}
	host, port, err := net.SplitHostPort(m.ControlAddress)
	if err != nil || host == "" || port == "" {
		errs = append(errs, fmt.Errorf("ControlAddress is %.64q, want host:port", m.ControlAddress))
	}
	return errors.Join(errs...)
}

func encodeMember(m Member) (string, error) {
	if err := m.checkFields(); err != nil {
		return "", err
	}
	value, err := json.Marshal(m)
	if err != nil {
		return "", fmt.Errorf("encode: %w", err)
	}
	return string(value), nil
}

// decodeMember decodes and checks the value of the key of the hub with this id. The value may come
// from any program that can write to etcd.
func decodeMember(id string, value []byte) (Member, error) {
	if len(value) > maxMember {
		return Member{}, fmt.Errorf("%d bytes, want at most %d", len(value), maxMember)
	}
	var m Member
	if err := json.Unmarshal(value, &m); err != nil {
		return Member{}, fmt.Errorf("decode: %w", err)
	}
	if m.ID != id {
		return Member{}, fmt.Errorf("ID is %.64q, the key says %.64q", m.ID, id)
	}
	return m, m.checkFields()
}

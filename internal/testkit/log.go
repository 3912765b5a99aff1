package testkit

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

// CheckLog fails the test if a JSON line of a log has a key twice. A reader of such a line sees
// only the last value, and an attribute that is called "time" hides the line's own. CheckLog
// passes over lines that are no JSON, such as a stack.
func CheckLog(t testing.TB, text string) {
	t.Helper()
	for line := range strings.Lines(text) {
		if !json.Valid([]byte(line)) {
			continue
		}
		if err := checkKeys(json.NewDecoder(strings.NewReader(line))); err != nil {
			t.Errorf("%v in the line %s", err, line)
		}
	}
}

// checkKeys reads one value, and returns an error if an object in it has a key twice.
func checkKeys(d *json.Decoder) error {
	token, err := d.Token()
	if err != nil {
		return err
	}
	opened, _ := token.(json.Delim)
	if opened == 0 {
		return nil
	}
	seen := map[string]bool{}
	for d.More() {
		if opened == '{' {
			key, err := d.Token()
			if err != nil {
				return err
			}
			name, _ := key.(string)
			if seen[name] {
				return fmt.Errorf("the key %q stands twice", name)
			}
			seen[name] = true
		}
		if err := checkKeys(d); err != nil {
			return err
		}
	}
	_, err = d.Token() // the end
	return err
}

package testkit

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestAKeyThatStandsTwiceIsFound(t *testing.T) {
	for line, twice := range map[string]bool{
		`{"time":"t","msg":"m","time":1}`:                    true,
		`{"msg":"m","closed":{"room":1,"room":2}}`:           true,
		`{"msg":"m","all":[{"a":1,"a":2}]}`:                  true,
		`{"time":"t","closed":{"time":1},"all":[1,{"a":1}]}`: false,
		`{"a":{"b":1},"b":{"a":null}}`:                       false,
	} {
		if err := checkKeys(json.NewDecoder(strings.NewReader(line))); (err != nil) != twice {
			t.Errorf("%s: %v", line, err)
		}
	}
}

package form

import (
	"strings"
	"testing"

	"buf.build/go/protovalidate"
	"google.golang.org/protobuf/reflect/protoreflect"

	eventsv1 "github.com/connhub/connhub/gen/connhub/events/v1"
)

// Callers are never shown a regular expression: each pattern in the protos has its words.
func TestEveryPatternOfTheProtosIsSaidInWords(t *testing.T) {
	services := Services()
	services = append(
		services, eventsv1.File_connhub_events_v1_subscription_proto.Services().Get(0),
	)
	seen := map[protoreflect.FullName]bool{}
	found := 0
	var walk func(protoreflect.MessageDescriptor)
	walk = func(m protoreflect.MessageDescriptor) {
		if seen[m.FullName()] {
			return
		}
		seen[m.FullName()] = true
		for i := range m.Fields().Len() {
			field := m.Fields().Get(i)
			if field.Message() != nil {
				walk(field.Message())
			}
			rules, err := protovalidate.ResolveFieldRules(field)
			if err != nil || rules == nil {
				continue
			}
			for _, pattern := range []string{
				rules.GetString().GetPattern(),
				rules.GetRepeated().GetItems().GetString().GetPattern(),
				rules.GetMap().GetKeys().GetString().GetPattern(),
				rules.GetMap().GetValues().GetString().GetPattern(),
			} {
				if pattern == "" {
					continue
				}
				found++
				if words := patterns[pattern]; words == "" || strings.Contains(words, "regex") {
					t.Errorf("%s: %s has no words", field.FullName(), pattern)
				}
			}
		}
	}
	for _, service := range services {
		for i := range service.Methods().Len() {
			walk(service.Methods().Get(i).Input())
		}
	}
	if found < 20 {
		t.Errorf("only %d patterns were found", found)
	}
}

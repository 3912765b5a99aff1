package form

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"buf.build/go/protovalidate"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/connhub/connhub/control/failure"
	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/internal/names"
)

// Validator checks requests against the rules in the protos, and against the rules that span
// fields.
type Validator struct {
	rules protovalidate.Validator
}

// NewValidator compiles the rules of every request of the API, and of more services.
func NewValidator(more ...string) (*Validator, error) {
	var requests []protoreflect.MessageDescriptor
	services := Services()
	for _, name := range more {
		d, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(name))
		if err != nil {
			return nil, fmt.Errorf("find the service %s: %w", name, err)
		}
		service, ok := d.(protoreflect.ServiceDescriptor)
		if !ok {
			return nil, fmt.Errorf("%s is no service", name)
		}
		services = append(services, service)
	}
	for _, service := range services {
		for i := range service.Methods().Len() {
			requests = append(requests, service.Methods().Get(i).Input())
		}
	}
	rules, err := protovalidate.New(
		protovalidate.WithMessageDescriptors(requests...),
		protovalidate.WithDisableLazy(),
		// A request may break a rule a million times. Naming only the first bounds the answer.
		protovalidate.WithFailFast(),
	)
	if err != nil {
		return nil, fmt.Errorf("compile the rules of the protos: %w", err)
	}
	return &Validator{rules}, nil
}

// Services returns the services of the API as the protos describe them.
func Services() []protoreflect.ServiceDescriptor {
	var services []protoreflect.ServiceDescriptor
	for _, file := range []protoreflect.FileDescriptor{
		controlv1.File_connhub_control_v1_delivery_proto,
		controlv1.File_connhub_control_v1_connection_proto,
		controlv1.File_connhub_control_v1_group_proto,
		controlv1.File_connhub_control_v1_access_proto,
		controlv1.File_connhub_control_v1_hub_proto,
	} {
		for i := range file.Services().Len() {
			services = append(services, file.Services().Get(i))
		}
	}
	return services
}

// Check first checks the limits that bound the work of the rest.
func (v *Validator) Check(req proto.Message) error {
	if r, ok := req.(interface{ GetTarget() *controlv1.Target }); ok {
		checked := checkTarget
		if onlyReads(req) {
			checked = checkNames
		}
		if err := checked(r.GetTarget()); err != nil {
			return err
		}
	}
	if r, ok := req.(interface{ GetMessage() *controlv1.Message }); ok {
		if err := checkMetadata(r.GetMessage()); err != nil {
			return err
		}
	}
	if r, ok := req.(*controlv1.SendRequest); ok && keepsRules(r) {
		return nil
	}
	err := v.rules.Validate(req, skipTargets)
	if err == nil {
		return nil
	}
	broken, ok := errors.AsType[*protovalidate.ValidationError](err)
	if !ok || len(broken.Violations) == 0 {
		return fmt.Errorf("validate %s: %w", req.ProtoReflect().Descriptor().FullName(), err)
	}
	return violationError(broken.Violations[0])
}

// keepsRules reports whether a send keeps the rules in the protos, without those for the names of
// its target. The general validator takes as long as all the rest of a send. It still names the
// broken rules. A test checks that both agree.
func keepsRules(r *controlv1.SendRequest) bool {
	return (r.GetNamespace() == "" || names.IsNamespace(r.GetNamespace())) &&
		r.GetTarget() != nil && messageKeepsRules(r.GetMessage()) &&
		isWithin(r.GetWaitTimeout(), 0, maxWaitTimeout) &&
		isText(r.GetRequestId()) && isText(r.GetConflationKey()) &&
		isDefined(r.GetWait(), controlv1.Wait_name) &&
		isDefined(r.GetOverflowPolicy(), controlv1.OverflowPolicy_name) &&
		isDefined(r.GetDetail(), controlv1.ReceiptDetail_name)
}

func messageKeepsRules(m *controlv1.Message) bool {
	kind, payload := PayloadOf(m)
	for name := range m.GetMetadata() {
		if names.Check(name) != nil {
			return false
		}
	}
	return kind != 0 && len(payload) <= hub.MaxPayload && isWithin(m.GetTtl(), 1, maxTTL) &&
		isText(m.GetId()) && isText(m.GetEvent())
}

const (
	maxWaitTimeout = 5 * time.Minute
	maxTTL         = 24 * time.Hour
)

// isWithin reports whether d is between two bounds, or nil.
func isWithin(d *durationpb.Duration, least, most time.Duration) bool {
	return d == nil || d.IsValid() && least <= d.AsDuration() && d.AsDuration() <= most
}

func isText(s string) bool { return s == "" || names.CheckText(s, names.MaxBytes) == nil }

// isDefined reports whether an enum has a value.
func isDefined[E ~int32](value E, names map[int32]string) bool {
	if value == 0 {
		return true // as a rule
	}
	_, ok := names[int32(value)]
	return ok
}

// skipTargets leaves Targets to checkTarget.
var skipTargets = protovalidate.WithFilter(protovalidate.FilterFunc(
	func(_ protoreflect.Message, d protoreflect.Descriptor) bool {
		field, ok := d.(protoreflect.FieldDescriptor)
		return !ok || field.Message() != targetDescriptor
	}))

var targetDescriptor = (*controlv1.Target)(nil).ProtoReflect().Descriptor()

// violationError turns a broken rule into an error about the field.
func violationError(v *protovalidate.Violation) *failure.FieldError {
	e := &failure.FieldError{
		Kind: failure.ErrInvalidField, Field: fieldPath(v), Description: v.Proto.GetMessage(),
	}
	if overLimit(v) {
		e.Kind = failure.ErrLimitExceeded
	}
	known, ok := patterns[v.RuleValue.String()]
	if ok && strings.HasSuffix(v.Proto.GetRuleId(), ".pattern") {
		e.Description = known
	}
	return e
}

// patterns has the patterns in the protos in words.
var patterns = map[string]string{
	`^[^\p{Cc}]*$`: noControl,
	`^webpubsub\.(joinLeaveGroup|sendToGroup)(s?\.[^\p{Cc}]+)?$`: "must be " +
		"webpubsub.joinLeaveGroup or webpubsub.sendToGroup (every group), " +
		"one of them with .GROUP (that group), or webpubsub.joinLeaveGroups.PATTERN or " +
		"webpubsub.sendToGroups.PATTERN (groups that match); without control characters",
	`^[a-z][a-z0-9_.-]{0,127}$`: "must be 1 to 128 characters " +
		"a-z, 0-9, '_', '.', '-' and begin with a-z",
}

// maxFieldPath bounds the path of a field in an error: map keys are part of it, and may be long.
const maxFieldPath = 256

func fieldPath(v *protovalidate.Violation) string {
	path := protovalidate.FieldPathString(v.Proto.GetField())
	if len(path) > maxFieldPath {
		path, _, _ = strings.Cut(path, "[")
	}
	return path
}

// overLimit reports whether a value is above a limit, and not below it or wrong otherwise.
func overLimit(v *protovalidate.Violation) bool {
	id := v.Proto.GetRuleId()
	switch id[strings.LastIndexByte(id, '.')+1:] {
	case "max_bytes", "max_len", "max_items", "max_pairs", "lte", "lt":
		return true
	case "gte_lte", "gt_lte", "gte_lt", "gt_lt":
		// RuleValue of a range is its lower end.
		return isAbove(v.FieldValue, v.RuleValue)
	default:
		return false
	}
}

func isAbove(value, bound protoreflect.Value) bool {
	switch v := value.Interface().(type) {
	case int32:
		return int64(v) > bound.Int()
	case int64:
		return v > bound.Int()
	case protoreflect.Message:
		d, isDuration := v.Interface().(*durationpb.Duration)
		lower, ok := bound.Message().Interface().(*durationpb.Duration)
		return isDuration && ok && d.AsDuration() > lower.AsDuration()
	default:
		return false
	}
}

package handover

import (
	"crypto/sha256"
	"reflect"
	"slices"
	"time"

	"pgregory.net/rapid"

	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/hub/cause"
	"github.com/connhub/connhub/hub/permission"
	"github.com/connhub/connhub/internal/ranges"
)

// now is the time at both hubs.
var now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// roleNames stands for the roles of the edge.
type roleNames []string

func (r roleNames) Allows(p permission.Permission) bool { return slices.Contains(r, p.Group) }
func (r roleNames) Names() []string                     { return r }

// restoreRoles is a RestoreClaims.
func restoreRoles(names []string, claims hub.Claims) (*hub.Claims, error) {
	if len(names) > 0 {
		claims.Roles = roleNames(names)
	}
	return &claims, nil
}

// filler gives fields values, field by field, also fields that a type gets later.
type filler struct {
	t *rapid.T
	// isWhole says that no field may have its zero value.
	isWhole bool
}

var nameOf = rapid.StringMatching(`[a-zé世 .]{1,9}`)

// values draw the fields and types of which not all values are right.
var values = map[string]*rapid.Generator[any]{
	"Identity.ID": rapid.Just(any(hub.ConnectionID(
		"aaaaaaaa.bbbbbbbbbbbbbbbbbbbbbbbbba"))),
	"Identity.Namespace":  rapid.StringMatching(`[a-z]{1,5}`).AsAny(),
	"Snapshot.Phase":      rapid.SampledFrom([]any{hub.PhaseAttached, hub.PhaseDetached}),
	"Snapshot.Done":       rapid.Custom(drawSpans).AsAny(),
	"Snapshot.Groups":     rapid.SliceOfNDistinct(nameOf, 1, 4, rapid.ID).AsAny(),
	"hub.PayloadKind":     rapid.SampledFrom([]any{hub.Text, hub.JSON, hub.Binary, hub.Protobuf}),
	"permission.Action":   rapid.SampledFrom([]any{permission.JoinGroup, permission.SendToGroup}),
	"cause.DropReason":    sampledOf(cause.DropReasons()),
	"permission.Roles":    mapped(rapid.SliceOfN(nameOf, 1, 3), asRoles),
	"time.Time":           rapid.Custom(drawTime).AsAny(),
	"Message.Payload":     mapped(nameOf, asBytes),
	"ClientEvent.Payload": mapped(nameOf, asBytes),
	"Resumption.Given":    rapid.Custom(drawHash).AsAny(),
	"Resumption.Proven":   rapid.Custom(drawHash).AsAny(),
	"Resumption.Key":      rapid.Custom(drawKey).AsAny(),
	"Op.Index":            rapid.IntRange(1, 1<<20).AsAny(),
	"hub.RouteKind":       rapid.SampledFrom(routes),
	"Sender.Connection":   mapped(nameOf, asID),
	"Claims.Private":      rapid.Just(any("\xff is no text")),
}

var routes = []any{hub.RouteConnection, hub.RouteUser, hub.RouteGroup, hub.RouteEveryone}

// needed are fields that are never zero, apart from those in which such fields may be.
var needed = []string{
	"Identity.ID", "Identity.Namespace", "Snapshot.Phase", "Message.Kind", "ClientEvent.Kind",
	"Permission.Action", "Envelope.Message",
}

func sampledOf[T any](all []T) *rapid.Generator[any] { return rapid.SampledFrom(all).AsAny() }

func mapped[T any](from *rapid.Generator[T], as func(T) any) *rapid.Generator[any] {
	return rapid.Custom(func(t *rapid.T) any { return as(from.Draw(t, "value")) })
}

func asRoles(names []string) any { return roleNames(names) }
func asBytes(s string) any       { return []byte(s) }
func asID(s string) any          { return hub.ConnectionID(s) }

func drawTime(t *rapid.T) time.Time {
	return now.Add(time.Duration(rapid.Int64Range(-1<<55, 1<<55).Draw(t, "span")))
}

func drawHash(t *rapid.T) [sha256.Size]byte {
	return sha256.Sum256([]byte(nameOf.Draw(t, "token")))
}

func drawKey(t *rapid.T) [16]byte {
	return [16]byte(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "key"))
}

func drawSpans(t *rapid.T) []ranges.Span {
	set := &ranges.Set{}
	for _, n := range rapid.SliceOfN(rapid.Uint64Range(0, 12), 1, 9).Draw(t, "done") {
		set.Add(n)
	}
	return set.Spans()
}

// fill gives all exported fields of a struct values.
func (f *filler) fill(v any) { f.fillStruct(reflect.ValueOf(v).Elem()) }

func (f *filler) fillStruct(v reflect.Value) {
	for i := range v.NumField() {
		field := v.Type().Field(i)
		if !field.IsExported() {
			continue // of an Envelope: made anew at each hub
		}
		name := v.Type().Name() + "." + field.Name
		isPart := field.Type.Kind() == reflect.Struct && field.Type != reflect.TypeFor[time.Time]()
		isNeeded := f.isWhole || isPart || slices.Contains(needed, name)
		if isNeeded || rapid.Bool().Draw(f.t, name+" is set") {
			f.fillValue(v.Field(i), name)
		}
		if f.isWhole && v.Field(i).IsZero() {
			f.t.Fatalf("%s is empty: draw a value for it", name)
		}
	}
}

func (f *filler) fillValue(v reflect.Value, name string) {
	for _, key := range []string{name, v.Type().String()} {
		if draw := values[key]; draw != nil {
			v.Set(reflect.ValueOf(draw.Draw(f.t, name)))
			return
		}
	}
	if _, ok := reflect.TypeAssert[*permission.Grants](v); ok {
		var list []permission.Grant // the field of Grants is not exported
		f.fillValue(reflect.ValueOf(&list).Elem(), name)
		v.Set(reflect.ValueOf(permission.GrantsOf(list)))
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		f.fillStruct(v)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		f.fillValue(v.Elem(), name)
	case reflect.Slice:
		if v.Len() == 0 {
			n := rapid.IntRange(1, 3).Draw(f.t, name)
			v.Set(reflect.MakeSlice(v.Type(), n, n))
		}
		for i := range v.Len() {
			f.fillValue(v.Index(i), name)
		}
	case reflect.Map:
		drawn := rapid.MapOfN(nameOf, nameOf, 1, 3).Draw(f.t, name)
		v.Set(reflect.ValueOf(drawn))
	case reflect.String:
		v.SetString(nameOf.Draw(f.t, name))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Uint32, reflect.Uint64:
		most := uint64(1)<<v.Type().Bits() - 1
		v.SetUint(rapid.Uint64Range(1, most).Draw(f.t, name))
	default:
		f.t.Fatalf("%s of type %s: draw a value for it", name, v.Type())
	}
}

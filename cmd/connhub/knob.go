package main

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/connhub/connhub/auth"
	"github.com/connhub/connhub/control"
	"github.com/connhub/connhub/control/mesh"
	"github.com/connhub/connhub/discovery"
	"github.com/connhub/connhub/discovery/embedded"
	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/hub/edge"
	"github.com/connhub/connhub/hub/overflow"
	"github.com/connhub/connhub/internal/config"
	"github.com/connhub/connhub/node"
	"github.com/connhub/connhub/node/limits"
)

// knob is a setting of a hub: a field of serveCmd or devCmd. The tag of the field joins all that
// belongs to it:
//
//   - name is its flag, and its key in the file of --config. CONNHUB_ and name is its variable.
//   - sets is the field of a Config that gets the value, as in Hub.Outbox.Bytes; see configs.
//     DefaultConfig has the default, unless the knob is a pointer or has a tag default. Validate
//     has the bounds, and a problem of the field names the flag.
//   - reads is the same for a knob that is the path of a file with the value.
//   - help shows the default as ${default}. A pointer has none: ${field} is that of the field.
//   - The other tags are those of kong.
type knob struct {
	name  string
	field string        // of sets or reads; empty: the command uses the value itself
	isSet bool          // the value is for the field: sets, not reads
	value reflect.Value // of the field of the command
}

// configs are the Configs that knobs set. A tag sets or reads begins with the name of a field.
type configs struct {
	Hub       *hub.Config
	Edge      *edge.Config
	Control   *control.Config
	Mesh      *mesh.Config
	Discovery *discovery.Config
	Etcd      *embedded.Config
	KeySet    *auth.KeySetConfig
	Heap      *limits.HeapConfig
	Drain     *node.DrainConfig
}

func defaultConfigs() configs {
	return configs{
		Hub: new(hub.DefaultConfig()), Edge: new(edge.DefaultConfig()),
		Control: new(control.DefaultConfig()), Mesh: new(mesh.DefaultConfig()),
		Discovery: new(discovery.DefaultConfig()), Etcd: new(embedded.DefaultConfig()),
		KeySet: new(auth.DefaultKeySetConfig()), Heap: new(limits.DefaultHeapConfig()),
		Drain: new(node.DefaultDrainConfig()),
	}
}

// fieldAt returns the field at a path such as Hub.Outbox.Bytes. It is not valid if there is none.
func (c configs) fieldAt(path string) reflect.Value {
	v := reflect.ValueOf(c)
	for name := range strings.SplitSeq(path, ".") {
		if v = reflect.Indirect(v); v.Kind() != reflect.Struct {
			return reflect.Value{}
		}
		v = v.FieldByName(name)
	}
	return v
}

// knobs are all knobs of a command.
type knobs []knob

// knobsOf returns the knobs of a *serveCmd or *devCmd.
func knobsOf(command any) knobs {
	var all knobs
	v := reflect.ValueOf(command).Elem()
	for _, field := range reflect.VisibleFields(v.Type()) {
		tag := field.Tag
		if name := tag.Get("name"); name != "" {
			all = append(all, knob{
				name: name, field: tag.Get("sets") + tag.Get("reads"),
				isSet: tag.Get("sets") != "", value: v.FieldByIndex(field.Index),
			})
		}
	}
	return all
}

// fillConfigs copies the values into the fields that the knobs set. A pointer that is nil, because
// the operator gave no value, leaves its field unchanged.
func (k knobs) fillConfigs(c configs) {
	for _, one := range k {
		if value := one.givenValue(); one.isSet && value.IsValid() {
			setField(c.fieldAt(one.field), value)
		}
	}
}

// givenValue returns the value of a knob. It is not valid for a pointer that is nil.
func (k knob) givenValue() reflect.Value {
	if k.value.Kind() == reflect.Pointer {
		return k.value.Elem()
	}
	return k.value
}

// setField sets a field of a Config to the value of a knob.
func setField(field, value reflect.Value) {
	switch to := field.Addr().Interface().(type) {
	case *overflow.Policy:
		*to = overflowPolicies[value.String()]
	case *map[string]overflow.Policy:
		*to = make(map[string]overflow.Policy)
		for namespace, name := range value.Seq2() {
			if policy, ok := overflowPolicies[name.String()]; ok {
				(*to)[namespace.String()] = policy
			}
		}
	default:
		field.Set(value.Convert(field.Type()))
	}
}

// showFields gives each pointer that is nil the value of its field, for the log of the effective
// configuration.
func (k knobs) showFields(c configs) {
	for _, one := range k {
		if one.isSet && one.value.Kind() == reflect.Pointer && one.value.IsNil() {
			shown := reflect.New(one.value.Type().Elem())
			shown.Elem().Set(c.fieldAt(one.field).Convert(shown.Type().Elem()))
			one.value.Set(shown)
		}
	}
}

// nameFlags returns the problems of a Config, whose name in configs is given, in words for
// operators. It leaves out the problems of fields without a knob: the server sets these fields, and
// the constructor checks them.
func (k knobs) nameFlags(of string, problems config.Problems) error {
	var errs []error
	for _, problem := range problems {
		field, index, isIndexed := strings.Cut(problem.Field, "[")
		if isIndexed {
			index = "[" + index
		}
		path := of + "." + field
		i := slices.IndexFunc(k, func(one knob) bool { return one.field == path })
		if i >= 0 {
			errs = append(errs, fmt.Errorf("--%s%s %s", k[i].name, index, problem.Text))
		}
	}
	return errors.Join(errs...)
}

// variableOf returns the environment variable of a knob.
func variableOf(name string) string {
	return variablePrefix + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
}

// completeFlags completes the flags of the hub commands: their variables, and the defaults that the
// Configs have. kong.Vars would fill in defaults too, but kong searches each variable's text again
// for each flag: 2,500 searches at each start.
func completeFlags(k *kong.Kong) error {
	c := defaultConfigs()
	for _, command := range k.Model.Children {
		if !slices.Contains(hubCommands, command.Name) {
			continue
		}
		for _, flag := range command.Flags {
			completeFlag(flag, c)
		}
	}
	return nil
}

func completeFlag(flag *kong.Flag, c configs) {
	flag.Envs = []string{variableOf(flag.Name)}
	flag.Tag.Envs = flag.Envs
	if !flag.Tag.Has("sets") {
		return
	}
	field, isPointer := c.fieldAt(flag.Tag.Get("sets")), flag.Target.Kind() == reflect.Pointer
	switch {
	case isPointer && flag.Target.Type() != field.Type():
		text := fmt.Sprint(field.Convert(flag.Target.Type().Elem()).Interface())
		flag.Help = strings.ReplaceAll(flag.Help, "${field}", text)
	case !isPointer && !flag.HasDefault && !field.IsZero():
		flag.Default = fmt.Sprint(field.Convert(flag.Target.Type()).Interface())
		flag.HasDefault = true
	}
}

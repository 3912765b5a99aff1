package main

import (
	"log/slog"
	"maps"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"
	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
	"pgregory.net/rapid"

	"github.com/connhub/connhub/control"
	"github.com/connhub/connhub/internal/testkit"
)

// commandsWithKnobs returns the knobs of each hub command in a command line.
func commandsWithKnobs(c *commandSet) map[string]knobs {
	return map[string]knobs{"serve": knobsOf(&c.Serve), "dev": knobsOf(&c.Dev)}
}

// hubFlags returns the flags of a hub command by name, without help.
func hubFlags(t *testing.T, parser *kong.Kong, command string) map[string]*kong.Flag {
	t.Helper()
	for _, node := range parser.Model.Children {
		if node.Name != command {
			continue
		}
		flags := map[string]*kong.Flag{}
		for _, flag := range node.Flags {
			flags[flag.Name] = flag
		}
		return flags
	}
	t.Fatalf("there is no command %s", command)
	return nil
}

func TestEachKnobHasAFlagAVariableAKeyADefaultAndHelp(t *testing.T) {
	t.Parallel()
	values := &commandSet{}
	parser, err := newParser(values, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	for command, all := range commandsWithKnobs(values) {
		flags := hubFlags(t, parser, command)
		var names []string
		for _, k := range all {
			names = append(names, k.name)
			if flag := flags[k.name]; flag != nil {
				checkKnob(t, parser, k, flag)
			}
		}
		if diff := cmp.Diff(
			slices.Sorted(maps.Keys(flags)), slices.Sorted(slices.Values(names)),
		); diff != "" {
			t.Errorf("%s: the flags are not the knobs: %s", command, diff)
		}
	}
}

func checkKnob(t *testing.T, parser *kong.Kong, k knob, flag *kong.Flag) {
	t.Helper()
	if want := []string{variableOf(k.name)}; !slices.Equal(flag.Envs, want) {
		t.Errorf("--%s has the variables %v, want %v", k.name, flag.Envs, want)
	}
	err := configFile{k.name: "x"}.Validate(parser.Model)
	if (err == nil) != (k.name != configFlag) {
		t.Errorf("--%s as a key: %v", k.name, err)
	}
	if flag.Help == "" || strings.Contains(flag.Help, "${") {
		t.Errorf("--%s has the help %q", k.name, flag.Help)
	}
	if flag.HasDefault && !strings.Contains(flag.Help, "("+flag.Default+")") {
		t.Errorf("the help of --%s does not tell its default, %s: %s",
			k.name, flag.Default, flag.Help)
	}
	if k.field == "" {
		return
	}
	field := defaultConfigs().fieldAt(k.field)
	if !field.IsValid() {
		t.Errorf("--%s is for the field %s, which does not exist", k.name, k.field)
		return
	}
	if !k.isSet || k.value.Kind() == reflect.Pointer {
		return
	}
	// The flag's default, read as a value of the operator is, is that of the package.
	own := reflect.New(field.Type()).Elem()
	setField(own, k.value)
	if err := flag.Reset(); err != nil {
		t.Fatal(err)
	}
	setField(own, k.value)
	isEmptyMap := own.Kind() == reflect.Map && own.Len() == 0
	if !isEmptyMap && !reflect.DeepEqual(own.Interface(), field.Interface()) {
		t.Errorf("--%s has the default %v, and %s has %v", k.name, own, k.field, field)
	}
}

// sampleOf returns a value for a flag that is not its default, as on the command line.
func sampleOf(t *testing.T, flag *kong.Flag) string {
	t.Helper()
	target := flag.Target.Type()
	if target.Kind() == reflect.Pointer {
		target = target.Elem()
	}
	if flag.Enum != "" {
		values := strings.Split(flag.Enum, ",")
		return values[len(values)-1]
	}
	switch reflect.Zero(target).Interface().(type) {
	case string, []string:
		return "x"
	case bool:
		return "true"
	case int:
		return "7"
	case byteSize:
		return "3MiB"
	case time.Duration:
		return "7s"
	case slog.Level:
		return slog.LevelError.String()
	case map[string]string:
		return "chat=close"
	}
	t.Fatalf("--%s has the type %v", flag.Name, target)
	return ""
}

func TestAKnobHasTheSameValueFromFlagVariableAndFile(t *testing.T) {
	for _, command := range hubCommands {
		values := &commandSet{}
		parser, err := newParser(values, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		args, file := []string{command}, map[string]string{}
		variables := map[string]string{}
		for name, flag := range hubFlags(t, parser, command) {
			if name == configFlag {
				continue
			}
			sample := sampleOf(t, flag)
			args = append(args, "--"+name+"="+sample)
			file[name], variables[variableOf(name)] = sample, sample
		}
		text, err := yaml.Marshal(file)
		if err != nil {
			t.Fatal(err)
		}
		byDefault := readKnobs(t, command)
		byFlag := readKnobs(t, args...)
		byFile := readKnobs(t, command, "--config="+testkit.WriteFile(t, "all.yaml", string(text)))
		delete(byFile, configFlag)
		delete(byFlag, configFlag)
		if diff := cmp.Diff(byFlag, byFile); diff != "" {
			t.Errorf("%s: flags and the file differ: %s", command, diff)
		}
		t.Run(command, func(t *testing.T) {
			for name, value := range variables {
				t.Setenv(name, value)
			}
			byVariable := readKnobs(t, command)
			delete(byVariable, configFlag)
			if diff := cmp.Diff(byFlag, byVariable); diff != "" {
				t.Errorf("flags and variables differ: %s", diff)
			}
		})
		for name, value := range byFlag {
			if reflect.DeepEqual(value, byDefault[name]) {
				t.Errorf("%s: --%s has its default in spite of a value: %v", command, name, value)
			}
		}
	}
}

// readKnobs returns the values of all knobs of a command line.
func readKnobs(t *testing.T, args ...string) map[string]any {
	t.Helper()
	c, err := parse(t, args...)
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]any{}
	for _, k := range commandsWithKnobs(c)[args[0]] {
		values[k.name] = k.value.Interface()
	}
	return values
}

// refusalOf returns the lines with which a hub refuses to start. Line breaks in values are laid out
// with spaces; it takes these away.
func refusalOf(t *testing.T, args ...string) []string {
	t.Helper()
	c, err := parse(t, args...)
	if err == nil && args[0] == "serve" {
		_, err = c.Serve.planHub()
	} else if err == nil {
		_, err = c.Dev.planHub()
	}
	if err == nil {
		return nil
	}
	return strings.Split(strings.ReplaceAll(err.Error(), "\n    ", "\r"), "\n")
}

// oddValues are values with which a rewritten text would show: names of fields and flags, and
// characters that have a meaning somewhere.
var oddValues = []string{
	"[MaxMessage", "Prefix is", "${default}", "--max-message", "%s %d", "CallBytes", `"\é`,
}

// A line of a refusal that depends on a value has the value as the operator typed it, or quoted.
// Names of fields once became names of flags in it.
func TestNoErrorChangesTheValuesOfTheOperator(t *testing.T) {
	t.Parallel()
	dir, file := "--data-dir="+t.TempDir(), testkit.WriteFile(t, "file", "")
	for command, all := range commandsWithKnobs(&commandSet{}) {
		refuse := func(name, value string) []string {
			args := []string{command, "--" + name + "=" + value}
			switch {
			case name == "data-dir":
				args[1] = "--data-dir=" + filepath.Join(file, value) // it can't be made
			case command == "dev":
				args = append(args, dir)
			}
			return refusalOf(t, args...)
		}
		odd := slices.Clone(oddValues)
		var names []string
		for _, k := range all {
			odd = append(odd, "--"+k.name, variableOf(k.name), "["+k.field)
			if k.value.Kind() != reflect.Bool {
				names = append(names, k.name)
			}
		}
		// The lines for another value tell those that do not depend on the value.
		others := map[string][]string{}
		for _, name := range names {
			others[name] = refuse(name, "[other")
		}
		// changedLine returns a line without the value on which it depends, or "".
		changedLine := func(name, value string) string {
			// kong has variables in the names of such files: "${", and "$$" for a dollar.
			if name == configFlag &&
				(strings.Contains(value, "${") || strings.Contains(value, "$$")) {
				return ""
			}
			for _, line := range refuse(name, value) {
				if !slices.Contains(others[name], line) && !strings.Contains(line, value) &&
					!strings.Contains(line, strconv.Quote(value)) {
					return line
				}
			}
			return ""
		}
		for _, name := range names {
			for _, value := range oddValues {
				if line := changedLine(name, value); line != "" {
					t.Errorf("%s --%s=%q: %s", command, name, value, line)
				}
			}
		}
		t.Run(command, func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				name := rapid.SampledFrom(names).Draw(t, "flag")
				value := rapid.StringMatching(`[^,;=@\s\pC]{1,8}`).Draw(t, "start") +
					rapid.SampledFrom(odd).Draw(t, "end")
				if line := changedLine(name, value); line != "" {
					t.Errorf("%s --%s=%q: %s", command, name, value, line)
				}
			})
		})
	}
}

func TestAFieldNameInAValueStaysAsItIs(t *testing.T) {
	t.Parallel()
	lines := refusalOf(t, "serve", "--allowed-origin=[MaxMessage", "--etcd-prefix=Prefix is",
		"--etcd-endpoints=x:1")
	for _, want := range []string{
		`  - --allowed-origin "[MaxMessage" is not a pattern`,
		`  - --etcd-prefix is "Prefix is", want /name without a slash at the end`,
	} {
		if !slices.Contains(lines, want) {
			t.Errorf("want %s in:\n%s", want, strings.Join(lines, "\n"))
		}
	}
}

func TestAPasswordInAURLIsInNoError(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"public-url", "token-jwks", "etcd-endpoints"} {
		for _, value := range []string{
			"ftp://ann:hunter2@x", "https://ann:hunter2@x:1", "https://ann:hunter2%zz@x",
		} {
			lines := strings.Join(refusalOf(t, "serve", "--"+name+"="+value), "\n")
			if !strings.Contains(lines, name) || strings.Contains(lines, "hunter2") {
				t.Errorf("--%s=%s: %s", name, value, lines)
			}
		}
	}
}

func TestHelpTellsTheLeastBytesForCalls(t *testing.T) {
	t.Parallel()
	least := "at least " + byteSize(control.MinCallBytes).String()
	if help := program.MustRun(t, "serve", "--help"); !strings.Contains(
		strings.Join(strings.Fields(help), " "), least,
	) {
		t.Errorf("the help does not say %q", least)
	}
}

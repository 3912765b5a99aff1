package main

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
	"go.yaml.in/yaml/v3"
)

// configFile gives flags their values from the file of --config. The file is YAML, and so JSON as
// well, with the names of flags as keys. The command line and the environment come before it. A key
// that is no flag is an error: a limit with a typing mistake must not become no limit.
type configFile map[string]any

var _ kong.Resolver = configFile(nil)

// loadConfig is the kong.ConfigurationLoader.
func loadConfig(r io.Reader) (kong.Resolver, error) {
	var f map[string]any
	if err := yaml.NewDecoder(r).Decode(&f); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("neither YAML nor JSON: %w", err)
	}
	return configFile(f), nil
}

// Validate is called by kong with all flags of all commands. Resolve sees only those of the
// command.
func (f configFile) Validate(app *kong.Application) error {
	known := map[string]bool{}
	for _, command := range app.Children {
		for _, flag := range command.Flags {
			if slices.Contains(hubCommands, command.Name) {
				known[flag.Name] = true
			}
		}
	}
	var problems []error
	for _, key := range slices.Sorted(maps.Keys(f)) {
		if !known[key] || key == configFlag {
			problems = append(problems, fmt.Errorf("unknown key %q%s", key,
				suggestName(key, known)))
		}
	}
	return errors.Join(problems...)
}

// hubCommands are the commands with --config.
var hubCommands = []string{"dev", "serve"}

const configFlag = "config"

// Resolve returns the value of a flag, or nil.
func (f configFile) Resolve(_ *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
	value, ok := f[flag.Name]
	if !ok {
		return nil, nil //nolint:nilnil // kong's word for "not here"
	}
	for _, name := range flag.Envs {
		if _, ok := os.LookupEnv(name); ok {
			return nil, nil //nolint:nilnil // as above: the environment comes before the file
		}
	}
	switch v := value.(type) {
	case bool, string, []any:
		return v, nil
	case map[string]any: // as on the command line
		var pairs []string
		for _, key := range slices.Sorted(maps.Keys(v)) {
			pairs = append(pairs, fmt.Sprintf("%s=%v", key, v[key]))
		}
		return strings.Join(pairs, string(flag.Tag.MapSep)), nil
	case nil:
		return nil, fmt.Errorf("key %q has no value", flag.Name)
	default: // numbers: kong reads them as it does on the command line
		return fmt.Sprint(v), nil
	}
}

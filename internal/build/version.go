// Package build tells how this binary was built: its version, and whether it has etcd's server.
package build

import "runtime/debug"

// version is set by the linker in releases:
// -X github.com/connhub/connhub/internal/build.version=VERSION.
var version string

// Version returns the linker's version, or the version that the go command put into the binary, or
// "devel".
func Version() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok &&
		info.Main.Version != "" && info.Main.Version != "(devel)" {
		return info.Main.Version
	}
	return "devel"
}

// Package config holds the parts that all packages with a Config share. Their Configs and
// constructors are alike:
//
//   - DefaultConfig fills the fields that have a default.
//   - Validate returns all problems as data, and changes nothing.
//   - New returns an error for a Config with problems.
//   - A nil Logger discards all lines.
//   - A nil Metrics registers no instruments. New returns an error, and registers none, if the
//     Registerer has them already.
package config

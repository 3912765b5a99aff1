// Package devdir is the folder for the data of `connhub dev` that outlives it.
package devdir

import (
	"os"
	"path/filepath"
)

// TokenKey is the file in the folder with the key of client tokens.
const TokenKey = "token.key"

// DefaultPath returns the path of the folder unless a flag names another: connhub/dev in the user's
// cache.
func DefaultPath() (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(cache, "connhub", "dev"), nil
}

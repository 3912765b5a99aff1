package process

import (
	"testing"

	"github.com/connhub/connhub/internal/testkit"
	"github.com/connhub/connhub/test/bed"
)

func TestMain(m *testing.M) {
	testkit.ClearVariables()
	bed.Main(m, nil)
}

package strangers

import (
	"testing"

	"github.com/connhub/connhub/test/bed"
)

func TestMain(m *testing.M) { bed.Main(m, nil) }

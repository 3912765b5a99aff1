package edge

import (
	"reflect"
	"testing"
)

// TestALinkTakesNoMoreThanItsSizeClasses bounds the objects of each idle client. Go allocates in
// steps, of 16 or 32 bytes here, so a further word costs each client as much as four words. A new
// field must be worth that, or find room in a gap.
func TestALinkTakesNoMoreThanItsSizeClasses(t *testing.T) {
	for _, one := range []struct {
		what  reflect.Type
		class uintptr // bytes
	}{
		{reflect.TypeFor[link](), 192},
	} {
		if size := one.what.Size(); size > one.class {
			t.Errorf("a %v has %d bytes, %d beyond its size class", one.what, size, size-one.class)
		}
	}
}

package netpoll

import (
	"reflect"
	"testing"
)

// TestASocketTakesNoMoreThanItsSizeClasses bounds the objects of each idle client. Go allocates in
// steps, of 16 or 32 bytes here, so a further word costs each client as much as four words. A new
// field must be worth that, or find room in a gap.
func TestASocketTakesNoMoreThanItsSizeClasses(t *testing.T) {
	for _, one := range []struct {
		what  reflect.Type
		class uintptr // bytes
	}{
		{reflect.TypeFor[parked](), 144},
		{reflect.TypeFor[Sealed](), 80},
	} {
		if size := one.what.Size(); size > one.class {
			t.Errorf("a %v has %d bytes, %d beyond its size class", one.what, size, size-one.class)
		}
	}
}

package core

import (
	"bytes"
	"encoding/binary"
	"math/bits"
	"os"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// hashTable is the table of peer.proto, message Interest.
var hashTable = []struct {
	kind            Kind
	namespace, name string
	want            Hash
}{
	{KindUser, "default", "ann", 0xbb8d8f01d9caf187},
	{KindGroup, "default", "ann", 0x579f6ddd428ddfa4},
	{KindGroup, "default", "lobby", 0x9d7c23cce1c16a05},
	{KindUser, "default", "jörg", 0x3248ebface5bf4bb},
	{KindGroup, "a", "bc", 0x8de7252551512cdb},
	{KindGroup, "ab", "c", 0x113352a386a78770},
	{KindConnection, "default", "aaaaaaaa.bbbbbbbbbbbbbbbbbbbbbbbbbb", 0x7361f8f11e623f2d},
	{KindNamespace, "default", "", 0x1ddac3b1593bd9d6},
}

func TestHashesAreThoseOfTheProto(t *testing.T) {
	proto, err := os.ReadFile("../../../api/proto/connhub/peer/v1/peer.proto")
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range hashTable {
		if got := HashOf(row.kind, row.namespace, row.name); got != row.want {
			t.Errorf("%d %q %q: %x, want %x", row.kind, row.namespace, row.name, got, row.want)
		}
		text := "0x" + strconv.FormatUint(uint64(row.want), 16)
		if !strings.Contains(string(proto), text) {
			t.Errorf("the proto does not know %s of %q", text, row.name)
		}
	}
	if n := strings.Count(string(proto), " 0x"); n != len(hashTable)+1 { // and the seed
		t.Errorf("the proto has %d hashes, this test %d", n-1, len(hashTable))
	}
}

// TestHashesAreXXH64 compares HashOf with the algorithm as its specification has it, for every
// length of input.
func TestHashesAreXXH64(t *testing.T) {
	if got := plainXXH64(nil, 0); got != 0xef46db3751d8e999 { // the vector of the specification
		t.Fatalf("the model is wrong: %x", got)
	}
	rapid.Check(t, func(rt *rapid.T) {
		kinds := []Kind{KindUser, KindGroup, KindConnection, KindNamespace}
		kind := rapid.SampledFrom(kinds).Draw(rt, "kind")
		namespace := rapid.StringMatching(`[a-z][a-z0-9_.-]{0,127}`).Draw(rt, "namespace")
		name := rapid.StringN(0, 200, 1024).Draw(rt, "name")
		input := append([]byte{byte(kind), byte(len(namespace))}, namespace+name...)
		got, want := HashOf(kind, namespace, name), plainXXH64(input, hashSeed)
		if uint64(got) != want {
			rt.Fatalf("%x, want %x", got, want)
		}
	})
}

// plainXXH64 is a plain XXH64, without regard to speed.
func plainXXH64(b []byte, seed uint64) uint64 {
	const p1, p2, p3, p4, p5 = 11400714785074694791, 14029467366897019727, 1609587929392839161,
		9650029242287828579, 2870177450012600261
	round := func(acc, lane uint64) uint64 { return bits.RotateLeft64(acc+lane*p2, 31) * p1 }
	one := uint64(p1) // the compiler refuses constants that overflow
	acc, n := seed+p5, uint64(len(b))
	if len(b) >= 32 {
		v := [4]uint64{seed + one + p2, seed + p2, seed, seed - p1}
		for ; len(b) >= 32; b = b[32:] {
			for i := range v {
				v[i] = round(v[i], binary.LittleEndian.Uint64(b[8*i:]))
			}
		}
		acc = 0
		for i, r := range []int{1, 7, 12, 18} {
			acc += bits.RotateLeft64(v[i], r)
		}
		for i := range v {
			acc = (acc^round(0, v[i]))*p1 + p4
		}
	}
	acc += n
	for ; len(b) >= 8; b = b[8:] {
		acc = bits.RotateLeft64(acc^round(0, binary.LittleEndian.Uint64(b)), 27)*p1 + p4
	}
	if len(b) >= 4 {
		acc = bits.RotateLeft64(acc^uint64(binary.LittleEndian.Uint32(b))*p1, 23)*p2 + p3
		b = b[4:]
	}
	for _, x := range b {
		acc = bits.RotateLeft64(acc^uint64(x)*p5, 11) * p1
	}
	acc = (acc ^ acc>>33) * p2
	acc = (acc ^ acc>>29) * p3
	return acc ^ acc>>32
}

func TestHashingAllocatesNothing(t *testing.T) {
	name := string(bytes.Repeat([]byte("x"), 100))
	if n := testing.AllocsPerRun(100, func() { HashOf(KindGroup, "default", name) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestACallerKeepsItsLane(t *testing.T) {
	const lanes = 4
	used := map[int]bool{}
	for i := range 100 {
		caller := "backend:" + strconv.Itoa(i)
		lane := LaneOf(caller, lanes)
		if lane != LaneOf(caller, lanes) || lane < 0 || lane >= lanes {
			t.Fatalf("%s has lane %d", caller, lane)
		}
		used[lane] = true
	}
	if len(used) != lanes {
		t.Errorf("100 callers use %d lanes of %d", len(used), lanes)
	}
}

package metasvc

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"reflect"
	"testing"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/wire"
)

// everyCommand has one command of each type.
func everyCommand() []Command {
	return []Command{
		bootstrap(),
		AdmitNode{testNodeSpec("n2", "b")},
		CreatePolicy{policy("zoned", func(p *PolicySpec) { p.Zones = []string{"a", "b"} })},
		AlterPolicy{1, DefaultPolicy()},
		CreateTenant{"acme", 1, 12345},
		MoveTenant{1, 2, -5},
		DeleteTenant{1},
		planOn(hours(-24, 0), "n1", "n2"),
		ReportFormed{1, 2},
		EffectBucket{1},
		BeginIntent{1, IntentBounds, 3, []byte("payload")},
		ConfirmIntent{1, 2, 3},
		CancelIntent{1, 2},
	}
}

func TestCommandsSurviveTheirEncoding(t *testing.T) {
	for i, c := range everyCommand() {
		if int(c.Type()) != i+1 {
			t.Errorf("%T has type %d, want %d", c, c.Type(), i+1)
		}
		encoded := EncodeCommand(c)
		decoded, err := DecodeCommand(encoded)
		if err != nil || !reflect.DeepEqual(decoded, c) {
			t.Errorf("%s decodes to %+v, %v", c.Type(), decoded, err)
		}
		for n := range encoded {
			if _, err := DecodeCommand(encoded[:n]); !errors.Is(err, ErrCorrupt) {
				t.Errorf("%d of %d bytes of %s decode: %v", n, len(encoded), c.Type(), err)
			}
		}
		if _, err := DecodeCommand(append(encoded, 0)); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s with a byte more decodes: %v", c.Type(), err)
		}
	}
}

func TestUnknownCommandsStopTheReplica(t *testing.T) {
	leader := newCluster(t)
	before := persist(t, leader.machine)
	good := EncodeCommand(CreateTenant{Name: "a", Policy: 1})
	for name, c := range map[string]struct {
		command []byte
		want    error
	}{
		"a type of the future":    {[]byte{99, 1}, ErrUnknownVersion},
		"type zero":               {[]byte{0, 1}, ErrUnknownVersion},
		"a version of the future": {[]byte{byte(TypeDeleteTenant), 2, 1}, ErrUnknownVersion},
		"nothing":                 {nil, ErrCorrupt},
		"a body too long":         {append(bytes.Clone(good), 1), ErrCorrupt},
		"a number too long":       {[]byte{byte(TypeDeleteTenant), 1, 0x81, 0x00}, ErrCorrupt},
	} {
		// The good command before it in the entry must have no effect either.
		if _, err := leader.applyLocked(good, c.command); !errors.Is(err, c.want) {
			t.Errorf("%s was applied: %v", name, err)
		}
		if !bytes.Equal(persist(t, leader.machine), before) {
			t.Fatalf("an entry with %s changed the state", name)
		}
	}
	entry := leader.entries[0].Data
	for name, data := range map[string][]byte{
		"damaged bytes": append([]byte{'X'}, entry[1:]...),
		"a write entry": new(wire.Encoder).Append(nil, wire.KindWrite, good),
		"no bytes":      nil,
	} {
		results, err := leader.machine.ApplyBatch([]quorate.LogEntry{{Index: 1000, Term: 1, Data: data}})
		if err == nil || len(results) != 0 {
			t.Errorf("an entry of %s was applied", name)
		}
	}
}

// TestCommandsOutOfRangeAreNotProposed: a command whose bytes do not decode
// would stop every replica for good.
func TestCommandsOutOfRangeAreNotProposed(t *testing.T) {
	leader := newCluster(t)
	for _, c := range []Command{
		CreatePolicy{policy("x", func(p *PolicySpec) { p.Shards = -1 })},
		CreatePolicy{policy("x", func(p *PolicySpec) { p.Retention = -1e9 })},
	} {
		if _, err := propose[PolicyResult](t.Context(), leader, c); quorate.KindOf(err) != quorate.Invalid {
			t.Errorf("%+v was proposed: %v", c, err)
		}
	}
}

// richState is a state with something in every table.
func richState(t testing.TB) *StateMachine {
	leader := newFakeLeader(openMachine(t))
	leader.must(t, bootstrap(), AdmitNode{testNodeSpec("n2", "b")}, CreatePolicy{policy("zoned", func(p *PolicySpec) { p.Zones = []string{"a", "b"} })})
	leader.must(t, CreateTenant{"acme", 1, 5}, CreateTenant{"gone", 1, 6}, DeleteTenant{2}, CreatePolicy{DefaultPolicy()})
	leader.must(t, planOn(hours(0, 24), "n1", "n2"), planOn(hours(24, 48), "n1"), ReportFormed{2, 4}, MoveTenant{1, 2, 48 * hour})
	leader.must(t, BeginIntent{1, IntentSeal, 1, []byte("x")}, ConfirmIntent{1, 1, 9}, BeginIntent{1, IntentDrop, 1, nil})
	return leader.machine
}

func TestEveryBitOfAMapFileIsGuarded(t *testing.T) {
	file := encodeMapFile(richState(t).snapshot())
	if _, err := decodeMapFile(file); err != nil {
		t.Fatal(err)
	}
	for i := range file {
		for bit := range 8 {
			file[i] ^= 1 << bit
			if _, err := decodeMapFile(file); !errors.Is(err, ErrCorrupt) {
				t.Fatalf("with bit %d of byte %d flipped the file decodes: %v", bit, i, err)
			}
			file[i] ^= 1 << bit
		}
	}
	for n := range file {
		if _, err := decodeMapFile(file[:n]); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("%d of %d bytes decode: %v", n, len(file), err)
		}
	}
}

func TestStatesThatBreakAnInvariantDoNotOpen(t *testing.T) {
	for name, damage := range map[string]func(*state){
		"a record from the future":          func(s *state) { s.policies[1].ModIndex = 1000 },
		"a tenant that was never minted":    func(s *state) { s.last.tenant = 0 },
		"a bucket without its set":          func(s *state) { delete(s.sets, 1) },
		"a set on no node":                  func(s *state) { s.sets[1].Members[0].Node.Name = "other" },
		"an open set that is not formed":    func(s *state) { s.sets[2].Formed = nil },
		"overlapping buckets":               func(s *state) { s.buckets[1].Range.End++ },
		"a replica twice":                   func(s *state) { s.sets[1].Members[0].Replica = 4 },
		"a tenant without placements":       func(s *state) { s.tenants[1].Placements = nil },
		"a tenant under no policy":          func(s *state) { s.tenants[1].Placements[1].Policy = 7 },
		"records without a cluster":         func(s *state) { s.cluster = nil },
		"two policies of one name":          func(s *state) { s.policies[2].Name = "zoned" },
		"an intent older than the last":     func(s *state) { s.sets[1].Intent.ID = 1 },
		"an intent of no kind":              func(s *state) { s.sets[1].Intent.Kind = 9 },
		"tombstones out of order":           func(s *state) { s.forgotten = 900 },
		"a policy without shards":           func(s *state) { s.policies[1].Shards = 0 },
		"a bucket in a state of the future": func(s *state) { s.buckets[1].State = 7 },
	} {
		s, err := decodeState(persist(t, richState(t)), 100)
		if err != nil {
			t.Fatal(err)
		}
		damage(s)
		if err := NewStateMachine(StateMachineConfig{}).Open(t.Context(), appendState(nil, s), 100); !errors.Is(err, ErrCorrupt) {
			t.Errorf("a state with %s opened: %v", name, err)
		}
	}
}

func FuzzDecodeCommand(f *testing.F) {
	for _, c := range everyCommand() {
		f.Add(EncodeCommand(c))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := DecodeCommand(b)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrUnknownVersion) {
				t.Fatalf("an error of no kind: %v", err)
			}
			return
		}
		if again := EncodeCommand(c); !bytes.Equal(again, b) {
			t.Fatalf("%x decodes to %+v, which encodes to %x", b, c, again)
		}
		// Whatever decodes can be applied, and leaves a sound state or no trace.
		machine := richState(t)
		s := machine.snapshot()
		s.index++
		if _, refused := c.apply(s, 1).(*Refusal); refused {
			s.index--
			if !bytes.Equal(appendState(nil, s), persist(t, machine)) {
				t.Fatalf("the refused %+v left a trace", c)
			}
		}
		if err := s.check(); err != nil {
			t.Fatalf("%+v made an unsound state: %v", c, err)
		}
	})
}

func FuzzDecodeState(f *testing.F) {
	f.Add(persist(f, richState(f)))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := decodeState(b, 1<<40)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrUnknownVersion) {
				t.Fatalf("an error of no kind: %v", err)
			}
			return
		}
		if again := appendState(nil, s); len(b) > 0 && !bytes.Equal(again, b) {
			t.Fatalf("the state encodes to other bytes")
		}
		mapOf(s)
	})
}

func FuzzDecodeMapFile(f *testing.F) {
	f.Add(encodeMapFile(richState(f).snapshot()), false)
	f.Add([]byte(mapFileMagic), true)
	f.Fuzz(func(t *testing.T, b []byte, sum bool) {
		if sum { // get past the checksum
			b = binary.LittleEndian.AppendUint32(bytes.Clone(b), crc32.Checksum(b, castagnoli))
		}
		s, err := decodeMapFile(b)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrUnknownVersion) {
				t.Fatalf("an error of no kind: %v", err)
			}
			return
		}
		if !bytes.Equal(encodeMapFile(s), b) {
			t.Fatal("the file encodes to other bytes")
		}
	})
}

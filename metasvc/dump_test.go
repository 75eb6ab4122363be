package metasvc

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/quorate/quorate"
)

// lived is a cluster that has a bucket, a tenant, and a record that was removed.
func lived(t *testing.T) *fakeLeader {
	t.Helper()
	leader := newFakeLeader(openMachine(t))
	for _, c := range []Command{
		Bootstrap{Cluster: testCluster, Created: 1, Node: testNodeSpec("n1", ""), MetaReplica: 1},
		AdmitNode{Node: testNodeSpec("n2", "")},
		CreatePolicy{Policy: PolicySpec{Name: "p", Span: time.Hour, Shards: 1, Replicas: 1, LateWindow: time.Hour, Retention: 24 * time.Hour}},
		CreateTenant{Name: "a", Policy: 1},
		CreateTenant{Name: "gone", Policy: 1},
		DeleteTenant{Tenant: 2},
	} {
		mustApply(t, leader, c)
	}
	return leader
}

func mustApply(t *testing.T, leader *fakeLeader, c Command) any {
	t.Helper()
	result, err := leader.Propose(t.Context(), EncodeCommand(c))
	if err != nil {
		t.Fatal(err)
	}
	if refused, ok := result.(*Refusal); ok {
		t.Fatalf("%T: %v", c, refused)
	}
	return result
}

func TestADumpIsReadAsItWasWritten(t *testing.T) {
	d, err := lived(t).machine.Dump(time.UnixMilli(99))
	if err != nil {
		t.Fatal(err)
	}
	b := d.Encode()
	again, err := DecodeDump(b)
	if err != nil {
		t.Fatal(err)
	}
	if again.Cluster != testCluster || again.Index != d.Index || again.Taken != 99 || !bytes.Equal(again.Encode(), b) {
		t.Errorf("read %+v, wrote %+v", again, d)
	}
	for i := range b {
		damaged := bytes.Clone(b)
		damaged[i] ^= 0x10
		if _, err := DecodeDump(damaged); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("byte %d damaged: %v", i, err)
		}
		if _, err := DecodeDump(b[:i]); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("cut at %d: %v", i, err)
		}
	}
	shown, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"name":"a"`, `"kind":"tenant"`, `"replicas":1`, testCluster.String(), `"tenant":2`} {
		if !bytes.Contains(shown, []byte(want)) {
			t.Errorf("%s is not in %s", want, shown)
		}
	}
	if _, err := NewStateMachine(StateMachineConfig{}).Dump(time.Now()); quorate.KindOf(err) != quorate.NotFound {
		t.Errorf("a dump of nothing: %v", err)
	}
}

// Whatever the lost group went on to do after the dump, nothing of it is taken
// for part of the restored metadata: not its numbers, not its index, not its records.
func TestProtocol16RestoredMetadataAreNewerThanAllThatWasLost(t *testing.T) {
	leader := lived(t)
	d, err := leader.machine.Dump(time.UnixMilli(1))
	if err != nil {
		t.Fatal(err)
	}
	lost := mustApply(t, leader, CreateTenant{Name: "lost", Policy: 1}).(TenantResult)
	follower := NewStateMachine(StateMachineConfig{})
	follow := func(m *StateMachine) {
		t.Helper()
		batch, err := m.Watch(follower.AppliedIndex()).Next(t.Context())
		if err == nil {
			err = follower.Follow(batch)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	follow(leader.machine)
	if tenant, _ := follower.tenant("lost"); tenant == nil {
		t.Fatal("the follower has not seen the tenant")
	}

	node := testNodeSpec("n2", "")
	r, err := d.Restore(node)
	if err != nil {
		t.Fatal(err)
	}
	restored := NewStateMachine(StateMachineConfig{})
	if err := restored.Open(t.Context(), r.Payload, r.Index); err != nil {
		t.Fatal(err)
	}
	s := restored.snapshot()
	if r.Index <= leader.machine.AppliedIndex() || Epoch(r.Index) != 1 || r.Term != 1<<32 || s.last.tenant <= uint64(lost.Tenant) {
		t.Errorf("restored at index %d, term %d, with %+v; the lost group came to %d", r.Index, r.Term, s.last, leader.machine.AppliedIndex())
	}
	if got := fmt.Sprint(s.cluster.Meta); got != fmt.Sprint([]Member{{Node: node.ID, Replica: r.Member.Replica}}) || s.cluster.ModIndex != r.Index {
		t.Errorf("the voters are %s", got)
	}
	if len(s.nodes) != 2 || s.tenantByName["a"] == nil || s.tenantByName["lost"] != nil {
		t.Errorf("the restored tables are %+v", s)
	}
	follow(restored)
	if tenant, index := follower.tenant("lost"); tenant != nil || index != r.Index {
		t.Errorf("the follower has %+v at index %d", tenant, index)
	}

	// Again, from the restored group: the next epoch. And on a node that is new.
	again, err := restored.Dump(time.UnixMilli(2))
	if err != nil {
		t.Fatal(err)
	}
	second, err := again.Restore(testNodeSpec("n3", ""))
	if err != nil || Epoch(second.Index) != 2 || second.Member.Replica <= r.Member.Replica || second.Term <= r.Term {
		t.Errorf("restored again: %+v, %v", second, err)
	}
	mustApply(t, leader, RemoveNode{Node: node.ID})
	gone, err := leader.machine.Dump(time.UnixMilli(3))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := gone.Restore(node); quorate.KindOf(err) != quorate.Invalid {
		t.Errorf("restored on a removed node: %v", err)
	}
}

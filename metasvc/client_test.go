package metasvc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/testwait"
)

// openClient opens a client that the test closes.
func openClient(t testing.TB, leader *fakeLeader, change func(*ClientConfig)) *Client {
	t.Helper()
	cfg := ClientConfig{StateMachine: leader.machine, Leader: leader, Cluster: testCluster, Registerer: prometheus.NewRegistry()}
	if change != nil {
		change(&cfg)
	}
	c, err := OpenClient(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// newCluster returns a leader of a cluster with the default policy.
func newCluster(t testing.TB) *fakeLeader {
	t.Helper()
	leader := newFakeLeader(openMachine(t))
	leader.must(t, bootstrap(), CreatePolicy{Policy: DefaultPolicy()})
	return leader
}

// confirmed waits until the client knows all that the leader has committed.
func confirmed(t testing.TB, c *Client) *Map {
	t.Helper()
	if err := c.ConfirmMap(t.Context()); err != nil {
		t.Fatal(err)
	}
	return c.Map()
}

func TestClientFollowsTheStateMachine(t *testing.T) {
	leader := newFakeLeader(openMachine(t))
	c := openClient(t, leader, nil)
	if _, _, err := c.Tenant(t.Context(), "acme"); quorate.KindOf(err) != quorate.Unavailable {
		t.Fatalf("before there is metadata a tenant lookup ends with %v, want Unavailable", err)
	}
	leader.must(t, bootstrap(), CreatePolicy{Policy: DefaultPolicy()}, planOn(hours(0, 24), "n1"))
	m := confirmed(t, c)
	if m.Version != 4 || m.Bucket(1, 5*hour) == nil || m.Loaded() {
		t.Fatalf("the map is of version %d, want 4 with the bucket", m.Version)
	}
	if err := c.ReportFormed(t.Context(), 1, 2); err != nil {
		t.Fatal(err)
	}
	if b := c.Map().Bucket(1, 5*hour); b.State != BucketOpen {
		t.Fatalf("after its replica has formed the bucket is %s", b.State)
	}
	if err := c.ReportFormed(t.Context(), 1, 9); quorate.KindOf(err) != quorate.NotFound {
		t.Fatalf("a replica that is no member formed: %v", err)
	}
	if v, err := c.ConfirmBounds(t.Context(), 1); v != 1 || err != nil {
		t.Fatalf("set 1 has bounds version %d, %v", v, err)
	}
	if _, err := c.ConfirmBounds(t.Context(), 9); quorate.KindOf(err) != quorate.NotFound {
		t.Fatalf("bounds of a set that is none: %v", err)
	}
	leader.set(func(l *fakeLeader) { l.leading = false })
	if _, err := c.ConfirmBounds(t.Context(), 1); quorate.KindOf(err) != quorate.Unavailable {
		t.Fatalf("without a leader bounds were confirmed: %v", err)
	}
}

func TestEnsureTenantCreatesOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		leader := newCluster(t)
		c := openClient(t, leader, nil)
		confirmed(t, c)
		leader.set(func(l *fakeLeader) { l.onPropose = func() { pass(time.Second) } })
		var wg sync.WaitGroup
		ids := make([]quorate.TenantID, 20)
		for i := range ids {
			wg.Go(func() {
				tenant, err := c.EnsureTenant(t.Context(), "acme")
				if err != nil {
					t.Error(err)
				}
				ids[i] = tenant.ID
			})
		}
		wg.Wait()
		created := 0
		for _, command := range leader.commands() {
			if _, ok := command.(CreateTenant); ok {
				created++
			}
		}
		if created != 1 {
			t.Errorf("the tenant was proposed %d times", created)
		}
		for _, id := range ids {
			if id != 1 {
				t.Fatalf("the callers got tenants %v", ids)
			}
		}
		if name, found := c.TenantName(1); name != "acme" || !found {
			t.Errorf("tenant 1 is named %q", name)
		}
		if _, found := c.TenantName(2); found {
			t.Error("tenant 2 has a name")
		}
		if all := c.Tenants(); len(all) != 1 || all[0].Name != "acme" {
			t.Errorf("the tenants are %v", all)
		}
	})
}

func TestEnsureTenantFails(t *testing.T) {
	leader := newCluster(t)
	c := openClient(t, leader, func(cfg *ClientConfig) { cfg.MaxTenants = 1 })
	confirmed(t, c)
	for _, name := range []string{"", "a/b", ".x", "__x", strings.Repeat("x", 151)} {
		if _, err := c.EnsureTenant(t.Context(), name); quorate.KindOf(err) != quorate.Invalid {
			t.Errorf("tenant %q was answered %v, want Invalid", name, err)
		}
	}
	leader.set(func(l *fakeLeader) { l.err = errDisk })
	if _, err := c.EnsureTenant(t.Context(), "acme"); quorate.KindOf(err) != quorate.Unavailable || !errors.Is(err, errDisk) {
		t.Errorf("a failing leader was answered with %v", err)
	}
	leader.set(func(l *fakeLeader) { l.err = nil; l.afterApply = errNoLeader })
	if _, err := c.EnsureTenant(t.Context(), "acme"); quorate.KindOf(err) != quorate.Unavailable {
		t.Errorf("an unknown outcome was answered with %v", err)
	}
	leader.set(func(l *fakeLeader) { l.afterApply = nil })
	if tenant, err := c.EnsureTenant(t.Context(), "acme"); err != nil || tenant.ID != 1 {
		t.Errorf("after an unknown outcome the tenant is %d, %v", tenant.ID, err)
	}
	if _, err := c.EnsureTenant(t.Context(), "globex"); quorate.KindOf(err) != quorate.Unavailable {
		t.Errorf("a tenant over the limit was answered with %v", err)
	}
	other := openClient(t, leader, func(cfg *ClientConfig) { cfg.DefaultPolicy = "gold" })
	confirmed(t, other)
	if _, err := other.EnsureTenant(t.Context(), "globex"); quorate.KindOf(err) != quorate.Unavailable {
		t.Errorf("a tenant under a policy that is not there yet was answered with %v", err)
	}
}

// TestProtocol7TenantsOfOneVersionOnly changes tenants while readers look them up, and
// checks that a record and the map it came with are of one version: the record
// is what the log had made of the name at the map's version.
func TestProtocol7TenantsOfOneVersionOnly(t *testing.T) {
	leader := newCluster(t)
	leader.must(t, CreatePolicy{Policy: policy("second", nil)})
	c := openClient(t, leader, nil)
	confirmed(t, c)
	const names, changes = 4, 5000
	// history[name][version] is the ID the name has from that version on.
	type era struct {
		from uint64
		id   quorate.TenantID
	}
	var mu sync.Mutex
	history := make(map[string][]era)
	at := func(name string, version uint64) (id quorate.TenantID) {
		mu.Lock()
		defer mu.Unlock()
		for _, e := range history[name] {
			if e.from <= version {
				id = e.id
			}
		}
		return id
	}
	var done atomic.Bool
	var readers sync.WaitGroup
	type seen struct {
		name    string
		version uint64
		id      quorate.TenantID
	}
	looked := make([][]seen, 4)
	for r := range looked {
		readers.Go(func() {
			for i := 0; !done.Load(); i++ {
				name := fmt.Sprint("t", i%names)
				tenant, m, found, err := c.TenantMap(t.Context(), name)
				if err != nil || found != (tenant.ID != 0) || found && tenant.Name != name {
					t.Errorf("%s was answered %+v, %t, %v", name, tenant, found, err)
					return
				}
				if n := len(looked[r]); n == 0 || looked[r][n-1].version != m.Version || looked[r][n-1].id != tenant.ID {
					looked[r] = append(looked[r], seen{name, m.Version, tenant.ID})
				}
			}
		})
	}
	ids := make(map[string]quorate.TenantID)
	for i := range changes {
		name := fmt.Sprint("t", i*7%names)
		if id := ids[name]; id != 0 {
			leader.must(t, DeleteTenant{Tenant: id})
			ids[name] = 0
		} else {
			ids[name] = leader.must(t, CreateTenant{Name: name, Policy: 1}).(TenantResult).Tenant
		}
		mu.Lock()
		history[name] = append(history[name], era{leader.machine.AppliedIndex(), ids[name]})
		mu.Unlock()
	}
	done.Store(true)
	readers.Wait()
	checked := 0
	for _, list := range looked {
		for _, s := range list {
			checked++
			if want := at(s.name, s.version); s.id != want {
				t.Fatalf("%s came as tenant %d with the map of version %d, where it was %d", s.name, s.id, s.version, want)
			}
		}
	}
	t.Logf("%d lookups of distinct versions agree", checked)
	for name, id := range ids {
		confirmed(t, c)
		if tenant, _, err := c.Tenant(t.Context(), name); err != nil || tenant.ID != id {
			t.Errorf("%s ended as tenant %d, want %d", name, tenant.ID, id)
		}
	}
}

// TestTheCacheAnswersUnderItsVersionOnly looks at the cache by itself.
func TestTheCacheAnswersUnderItsVersionOnly(t *testing.T) {
	cache := newTenantCache(0)
	defer cache.close()
	old := &Tenant{ID: 1, Name: "a", Placements: []Placement{{Policy: 1, From: -5}}, Created: 7, ModIndex: 3}
	cache.put(3, "a", old)
	cache.put(9, "a", nil)
	if got, found, hit := cache.get(3, "a"); !hit || !found || got.ID != 1 || got.Name != "a" || got.Created != 7 || got.Placements[0] != old.Placements[0] {
		t.Errorf("version 3 has %+v, %t, %t", got, found, hit)
	}
	if _, found, hit := cache.get(9, "a"); !hit || found {
		t.Errorf("at version 9 there is no such tenant, and the cache knows: found %t, hit %t", found, hit)
	}
	for _, version := range []uint64{0, 4, 8, 10} {
		if _, _, hit := cache.get(version, "a"); hit {
			t.Errorf("the cache answers under version %d", version)
		}
	}
	if _, _, hit := cache.get(3, "b"); hit {
		t.Error("the cache answers for another name")
	}
	most := &Tenant{ID: 2, Name: strings.Repeat("n", quorate.MaxTenantNameBytes), Placements: make([]Placement, maxPlacements), ModIndex: 1 << 60}
	for i := range most.Placements {
		most.Placements[i] = Placement{Policy: 1 << 60, From: -1 << 60}
	}
	cache.put(1, most.Name, most)
	if got, found, _ := cache.get(1, most.Name); !found || len(got.Placements) != maxPlacements {
		t.Error("the largest tenant there may be does not fit into the cache")
	}
}

// TestABatchThatCreatesAndRemoves is one in which a tenant's last state is not
// the last record of its name.
func TestABatchThatCreatesAndRemoves(t *testing.T) {
	leader := newCluster(t)
	c := openClient(t, leader, nil)
	confirmed(t, c)
	for range 50 {
		id := leader.must(t, CreateTenant{Name: "a", Policy: 1}).(TenantResult).Tenant
		leader.must(t, DeleteTenant{Tenant: id})
		confirmed(t, c)
		if tenant, found, err := c.Tenant(t.Context(), "a"); found || err != nil {
			t.Fatalf("the removed tenant is there as %d, %v", tenant.ID, err)
		}
	}
}

func TestProtocol7MapLeaseRunsFromTheSendOfAConfirmedRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		leader := newCluster(t)
		c := openClient(t, leader, nil)
		synctest.Wait()
		if !c.MapCurrent() {
			t.Fatal("a client whose leader answers is not current")
		}
		pass(time.Hour)
		if !c.MapCurrent() {
			t.Fatal("the lease was not renewed")
		}
		leader.set(func(l *fakeLeader) { l.leading = false })
		pass(MapLease - renewEvery - time.Millisecond)
		if !c.MapCurrent() {
			t.Fatal("the lease ended early")
		}
		pass(renewEvery + 2*time.Millisecond)
		if c.MapCurrent() {
			t.Fatal("the lease outlived its leader")
		}
		// An answer that takes 4 s makes a lease that lasts 6 s more.
		leader.set(func(l *fakeLeader) {
			l.leading = true
			l.onConfirm = func() { pass(4 * time.Second) }
		})
		if err := c.ConfirmMap(t.Context()); err != nil {
			t.Fatal(err)
		}
		leader.set(func(l *fakeLeader) { l.leading = false; l.onConfirm = nil })
		left := time.Duration(0)
		for ; c.MapCurrent(); left += 100 * time.Millisecond {
			pass(100 * time.Millisecond)
		}
		if left > 6*time.Second {
			t.Fatalf("a confirmation that took 4s made a lease that lasts %v more", left)
		}
	})
}

func TestProtocol7ALeaseNeedsAMapAsNewAsTheConfirmation(t *testing.T) {
	leader := newCluster(t)
	// A client whose watch stands still, and so its map.
	c := &Client{cfg: ClientConfig{Leader: leader, Now: time.Now}, machine: leader.machine, logger: slog.New(slog.DiscardHandler), lease: newLease(time.Now)}
	c.metrics, _ = newClientMetrics(nil, c.MapCurrent, c.Map)
	c.current.Store(newMap())
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := c.ConfirmMap(ctx); quorate.KindOf(err) != quorate.Unavailable || c.MapCurrent() {
		t.Fatalf("a map behind the confirmed index is current: %v", err)
	}
}

func TestProtocol7MapFileServesUntilTheStateMachineIsThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "meta")
		inDir := func(cfg *ClientConfig) { cfg.Dir = dir }
		leader := newCluster(t)
		leader.must(t, CreateTenant{Name: "acme", Policy: 1}, planOn(hours(0, 24), "n1"))
		first := openClient(t, leader, inDir)
		confirmed(t, first)
		if err := first.Close(); err != nil {
			t.Fatal(err)
		}

		// The next start, before the metadata group has opened.
		closed := NewStateMachine(StateMachineConfig{})
		later := newFakeLeader(closed)
		later.leading = false
		c := openClient(t, later, inDir)
		m := c.Map()
		if !m.Loaded() || c.MapCurrent() || m.Version != 5 || m.Bucket(1, hour) == nil {
			t.Fatalf("the loaded map is of version %d, loaded %t, current %t", m.Version, m.Loaded(), c.MapCurrent())
		}
		if tenant, found, err := c.Tenant(t.Context(), "acme"); !found || err != nil || tenant.ID != 1 {
			t.Fatalf("the loaded map has tenant %d, %v", tenant.ID, err)
		}
		if _, found, err := c.Tenant(t.Context(), "globex"); found || err != nil {
			t.Fatalf("the loaded map has a tenant it cannot have: %v", err)
		}
		if name, _ := c.TenantName(1); name != "acme" || len(c.Tenants()) != 1 {
			t.Error("the loaded map does not name its tenant")
		}
		if _, err := c.EnsureTenant(t.Context(), "globex"); quorate.KindOf(err) != quorate.Unavailable {
			t.Fatalf("a tenant was created without a leader: %v", err)
		}

		// The group opens from an older manifest: the map must not go back.
		if err := closed.Open(t.Context(), nil, 1); err != nil {
			t.Fatal(err)
		}
		if _, err := closed.ApplyBatch(leader.entries[:2]); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if got := c.Map(); got.Version != 5 || !got.Loaded() {
			t.Fatalf("the map went back to version %d", got.Version)
		}
		if _, err := closed.ApplyBatch(leader.entries); err != nil {
			t.Fatal(err)
		}
		later.set(func(l *fakeLeader) { l.index, l.leading = 5, true })
		if m := confirmed(t, c); m.Loaded() || m.Version != 5 || !c.MapCurrent() {
			t.Fatalf("the map is still the file's, at version %d", m.Version)
		}
	})
}

func TestAMapFileOfALostHistoryGivesWay(t *testing.T) {
	dir := t.TempDir()
	lost := newCluster(t)
	lost.must(t, CreateTenant{Name: "lost", Policy: 1}, CreateTenant{Name: "more", Policy: 1})
	if err := os.WriteFile(filepath.Join(dir, MapFile), encodeMapFile(lost.machine.snapshot()), 0o600); err != nil {
		t.Fatal(err)
	}
	leader := newCluster(t) // restored from before those tenants
	c := openClient(t, leader, func(cfg *ClientConfig) { cfg.Dir = dir })
	m := confirmed(t, c)
	if m.Loaded() || m.Version != leader.machine.AppliedIndex() {
		t.Fatalf("after a confirmed read the map is of version %d, loaded %t", m.Version, m.Loaded())
	}
	if _, found, err := c.Tenant(t.Context(), "lost"); found || err != nil {
		t.Fatalf("a tenant of the lost history is there: %v", err)
	}
}

func TestMapFilesThatCannotBeUsed(t *testing.T) {
	leader := newCluster(t)
	good := encodeMapFile(leader.machine.snapshot())
	flipped := append([]byte(nil), good...)
	flipped[len(flipped)/2] ^= 1
	for name, content := range map[string][]byte{"empty": {}, "short": good[:10], "flipped": flipped, "other": []byte("QWAL and something else altogether")} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, MapFile), content, 0o600); err != nil {
			t.Fatal(err)
		}
		c := openClient(t, newCluster(t), func(cfg *ClientConfig) { cfg.Dir = dir })
		if m := c.Map(); m.Loaded() {
			t.Errorf("%s map file was loaded", name)
		}
		confirmed(t, c)
		testwait.For(t, "the map file to be written anew", func() bool {
			b, err := os.ReadFile(filepath.Join(dir, MapFile))
			if err != nil {
				return false
			}
			_, err = decodeMapFile(b)
			return err == nil
		})
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, MapFile), good, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := OpenClient(t.Context(), ClientConfig{StateMachine: leader.machine, Leader: leader, Dir: dir, Cluster: quorate.ClusterID{9}})
	if err == nil {
		t.Error("a map of another cluster was loaded")
	}
	if _, err := OpenClient(t.Context(), ClientConfig{}); err == nil {
		t.Error("a client without state machine and leader was opened")
	}
}

// TestMapFileIsWrittenOncePerPeriod: many changes in a row are few writes.
func TestMapFileIsWrittenOncePerPeriod(t *testing.T) {
	leader := newCluster(t)
	dir := t.TempDir()
	c := openClient(t, leader, func(cfg *ClientConfig) { cfg.Dir, cfg.PersistEvery = dir, time.Hour })
	for i := range 100 {
		leader.must(t, CreateTenant{Name: fmt.Sprint("t", i), Policy: 1})
	}
	confirmed(t, c)
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if n := testutil.ToFloat64(c.metrics.mapWrites.WithLabelValues(resultOK)); n < 1 || n > 2 {
		t.Errorf("100 changes were written %v times, want once at once and once at the end", n)
	}
	b, err := os.ReadFile(filepath.Join(dir, MapFile))
	if err != nil {
		t.Fatal(err)
	}
	s, err := decodeMapFile(b)
	if err != nil || len(s.tenants) != 100 {
		t.Errorf("the last write has %d of 100 tenants, %v", len(s.tenants), err)
	}
}

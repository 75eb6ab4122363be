package node

import (
	"context"
	"encoding/hex"
	"net/http"
	"slices"
	"time"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/metasvc"
)

// What GET /api/v1/admin/describe/… answers: everything that is known of one
// thing.

// describedNode is a node with its replicas.
type describedNode struct {
	listedNode

	// MapVersion is that of the node's map, and MapBehind by how much it is older
	// than the map of the node that answers; Clock is how far the node's clock was
	// ahead when its last heartbeat came. Missing where none did.
	MapVersion uint64          `json:"map_version,omitempty"`
	MapBehind  uint64          `json:"map_behind,omitempty"`
	Clock      string          `json:"clock_ahead,omitempty"`
	Sets       []listedReplica `json:"sets"`
}

func (a *clusterAdmin) describeNode(r *http.Request) (any, error) {
	id, err := a.findNode(r.FormValue("node"))
	if err != nil {
		return nil, err
	}
	beats := a.node.clusterBeats(r.Context())
	d := describedNode{Sets: []listedReplica{}}
	for _, l := range a.listNodes(r.Context(), beats) {
		if l.Name == id.Name && l.Incarnation == id.Incarnation.String() {
			d.listedNode = l
		}
	}
	if beat, heard := beats[id]; heard && !beat.Received.IsZero() {
		d.MapVersion = beat.MapVersion
		d.MapBehind = a.client.Map().Version - min(a.client.Map().Version, beat.MapVersion)
		d.Clock = beat.Clock.Sub(beat.Received).Round(time.Millisecond).String()
	}
	for _, l := range a.gatherReplicas(r.Context(), 0, func(s *metasvc.ReplicaSet) bool { return isOn(s, id) }) {
		if l.on == id {
			d.Sets = append(d.Sets, l)
		}
	}
	return d, nil
}

// describedTenant is a tenant with the policies that its samples lie under.
type describedTenant struct {
	listedTenant

	Placements []describedPlacement `json:"placements"`
}

type describedPlacement struct {
	Policy string `json:"policy"`
	From   string `json:"from"`
}

func (a *clusterAdmin) describeTenant(r *http.Request) (any, error) {
	name := r.FormValue("tenant")
	m := a.client.Map()
	list := a.client.Tenants()
	at := slices.IndexFunc(list, func(t metasvc.Tenant) bool { return t.Name == name })
	if at < 0 {
		return nil, quorate.Errorf(quorate.NotFound, "tenant %q does not exist", name)
	}
	d := describedTenant{listedTenant: listTenant(m, list[at])}
	for i, p := range list[at].Placements {
		from := "the beginning"
		if i > 0 {
			from = quorate.FormatTime(p.From)
		}
		placement := describedPlacement{From: from}
		if policy := m.Policy(p.Policy); policy != nil {
			placement.Policy = policy.Name
		}
		d.Placements = append(d.Placements, placement)
	}
	return d, nil
}

// describedPolicy is a policy with its buckets.
type describedPolicy struct {
	listedPolicy

	// Horizon is the end of the newest bucket that retention has dropped.
	Horizon string         `json:"horizon,omitempty"`
	Tenants int            `json:"tenants"`
	Buckets []listedBucket `json:"buckets"`
}

// findPolicy is the policy that a parameter names, the default one without.
func (a *adminAPI) findPolicy(name string) (*metasvc.Policy, error) {
	if name == "" {
		name = metasvc.DefaultPolicyName
	}
	p := a.client.Map().PolicyNamed(name)
	if p == nil {
		return nil, quorate.Errorf(quorate.NotFound, "policy %q does not exist", name)
	}
	return p, nil
}

func (a *clusterAdmin) describePolicy(r *http.Request) (any, error) {
	p, err := a.findPolicy(r.FormValue("policy"))
	if err != nil {
		return nil, err
	}
	d := describedPolicy{listedPolicy: listPolicy(p), Buckets: []listedBucket{}}
	if p.Horizon != metasvc.NoHorizon {
		d.Horizon = quorate.FormatTime(p.Horizon)
	}
	for _, t := range a.client.Tenants() {
		if t.Placements[len(t.Placements)-1].Policy == p.ID {
			d.Tenants++
		}
	}
	for _, b := range a.client.Map().Buckets(p.ID) {
		d.Buckets = append(d.Buckets, listBucket(p, b))
	}
	return d, nil
}

// describedBucket is a bucket with its sets and the overlays over them.
type describedBucket struct {
	listedBucket

	OnDemand bool               `json:"on_demand"`
	Cut      bool               `json:"cut"`
	Pending  bool               `json:"pending"`
	Planned  string             `json:"planned"`
	List     []listedClusterSet `json:"set_list"`
}

func (a *clusterAdmin) describeBucket(r *http.Request) (any, error) {
	id, err := parseNumber[quorate.BucketID](r, "bucket")
	if err != nil {
		return nil, err
	}
	m := a.client.Map()
	for _, p := range m.Policies() {
		for _, b := range m.Buckets(p.ID) {
			if b.ID == id {
				return describedBucket{
					listedBucket: listBucket(p, b), OnDemand: b.OnDemand, Cut: b.Cut, Pending: b.Pending, Planned: quorate.FormatTime(b.Planned),
					List: a.listClusterSets(r.Context(), func(set *metasvc.ReplicaSet) bool { return set.Bucket == id }),
				}, nil
			}
		}
	}
	return nil, quorate.Errorf(quorate.NotFound, "bucket %d does not exist, or is dropped", id)
}

// describedSet is a set with its replicas and whatever is under way.
type describedSet struct {
	listedClusterSet

	Policy        string                `json:"policy,omitempty"`
	Generation    int                   `json:"generation"`
	BoundsVersion quorate.BoundsVersion `json:"bounds_version"`
	Term          uint64                `json:"term,omitempty"`
	Pending       bool                  `json:"pending"`
	SealAsked     bool                  `json:"seal_asked"`
	Intent        *describedIntent      `json:"intent,omitempty"`
	LastIntent    *describedIntent      `json:"last_intent,omitempty"`
	Formed        []quorate.ReplicaID   `json:"formed"`
	Sealed        *describedSeal        `json:"sealed,omitempty"`
	Reports       []describedReport     `json:"seal_reports,omitempty"`
	Deletions     int                   `json:"deletions"`
	Replicas      []listedReplica       `json:"replicas"`
}

// describedIntent is a structural change, under way or done.
type describedIntent struct {
	ID   metasvc.IntentID `json:"id"`
	Kind string           `json:"kind"`
	// Term is the metadata group's in which it was decided, of one under way.
	Term uint64 `json:"term,omitempty"`
	// Index is where in the set's log it was made a fact, of one that is done.
	Index uint64 `json:"index,omitempty"`
}

// describedSeal is what a set was sealed as.
type describedSeal struct {
	Index    uint64 `json:"index"`
	Voters   int    `json:"voters"`
	Checksum string `json:"checksum"`
	File     string `json:"file"`
	Bytes    uint64 `json:"bytes"`
	Series   uint64 `json:"series"`
	Samples  uint64 `json:"samples"`
}

// describedReport is what a replica reported of the seal.
type describedReport struct {
	Replica  quorate.ReplicaID `json:"replica"`
	Index    uint64            `json:"index"`
	Checksum string            `json:"checksum"`
	Built    bool              `json:"built"`
}

func (a *clusterAdmin) describeSet(r *http.Request) (any, error) {
	id, err := a.findSet(r)
	if err != nil {
		return nil, err
	}
	m := a.client.Map()
	set := m.Set(id)
	if set == nil {
		return nil, quorate.Errorf(quorate.NotFound, "set %d does not exist", id)
	}
	d := a.setRecord(r.Context(), set)
	d.Deletions = len(m.DeletionsOf(id))
	d.Replicas = a.gatherReplicas(r.Context(), id, nil)
	for _, l := range d.Replicas {
		d.Term = max(d.Term, l.Term)
		if l.Broken != "" {
			d.Broken = append(d.Broken, listedMember(metasvc.Member{Node: l.on, Replica: l.Replica})+": "+l.Broken)
		}
		if l.Leader && l.Term == d.Term {
			d.Leader = listedMember(metasvc.Member{Node: l.on, Replica: l.Replica})
		}
	}
	for _, p := range m.Policies() {
		if slices.ContainsFunc(m.Buckets(p.ID), func(b *metasvc.Bucket) bool { return b.ID == set.Bucket }) {
			d.Policy = p.Name
		}
	}
	return d, nil
}

// setRecord is what the metadata says of a set.
func (a *clusterAdmin) setRecord(ctx context.Context, set *metasvc.ReplicaSet) describedSet {
	leaders, _ := leadersOf(a.node.clusterBeats(ctx))
	d := describedSet{
		listedClusterSet: listClusterSet(set, leaders, nil), Generation: set.Generation, BoundsVersion: set.Bounds.Version,
		Pending: set.Pending, SealAsked: set.SealAsked, Formed: set.Formed,
	}
	if i := set.Intent; i != nil {
		d.Intent = &describedIntent{ID: i.ID, Kind: i.Kind.String(), Term: i.Term}
	}
	if i := set.Done; i != nil {
		d.LastIntent = &describedIntent{ID: i.ID, Kind: i.Kind.String(), Index: i.LogIndex}
	}
	if s := set.Sealed; s != nil {
		d.Sealed = &describedSeal{
			Index: s.Index, Voters: s.Voters, Checksum: hex.EncodeToString(s.Checksum[:]), File: hex.EncodeToString(s.File.Hash[:]),
			Bytes: s.File.Bytes, Series: s.File.Series, Samples: s.File.Samples,
		}
	}
	for _, r := range set.Reports {
		d.Reports = append(d.Reports, describedReport{Replica: r.Replica, Index: r.Index, Checksum: hex.EncodeToString(r.Checksum[:]), Built: r.File != nil})
	}
	return d
}

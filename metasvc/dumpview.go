package metasvc

import (
	"encoding/hex"
	"encoding/json"
	"math"

	"github.com/quorate/quorate"
)

// The form in which people and programs read a dump. It is not read back: that is
// what the encoded form is for.

type dumpView struct {
	Cluster    clusterView       `json:"cluster"`
	Index      uint64            `json:"index"`
	Epoch      uint64            `json:"epoch"`
	Taken      string            `json:"taken"`
	Counters   map[string]uint64 `json:"counters"`
	Nodes      []nodeView        `json:"nodes"`
	Policies   []policyView      `json:"policies"`
	Tenants    []tenantView      `json:"tenants"`
	Buckets    []bucketView      `json:"buckets"`
	Sets       []setView         `json:"sets"`
	Deletions  []deletionView    `json:"deletions"`
	Tombstones []tombstoneView   `json:"tombstones"`
}

type memberView struct {
	Replica quorate.ReplicaID `json:"replica"`
	Node    quorate.NodeID    `json:"node"`
}

type clusterView struct {
	ID      quorate.ClusterID `json:"id"`
	Created string            `json:"created"`
	Meta    []memberView      `json:"meta"`
	Joining *memberView       `json:"meta_joining,omitempty"`
	Changed uint64            `json:"changed"`
}

type nodeView struct {
	Number  uint64         `json:"number"`
	ID      quorate.NodeID `json:"id"`
	State   string         `json:"state"`
	Roles   string         `json:"roles"`
	Zone    string         `json:"zone"`
	Address string         `json:"address"`
	Changed uint64         `json:"changed"`
}

type policyView struct {
	ID          quorate.PolicyID `json:"id"`
	Name        string           `json:"name"`
	Span        string           `json:"span"`
	Shards      int              `json:"shards"`
	Replicas    int              `json:"replicas"`
	LateWindow  string           `json:"late_window"`
	Retention   string           `json:"retention"`
	FutureBound string           `json:"future_bound"`
	Zones       []string         `json:"zones,omitempty"`
	Horizon     string           `json:"horizon,omitempty"`
	Changed     uint64           `json:"changed"`
}

type placementView struct {
	Policy quorate.PolicyID `json:"policy"`
	From   string           `json:"from,omitempty"`
}

type tenantView struct {
	ID         quorate.TenantID `json:"id"`
	Name       string           `json:"name"`
	Placements []placementView  `json:"placements"`
	Retention  string           `json:"retention,omitempty"`
	Created    string           `json:"created"`
	Changed    uint64           `json:"changed"`
}

type bucketView struct {
	ID        quorate.BucketID       `json:"id"`
	Policy    quorate.PolicyID       `json:"policy"`
	Start     string                 `json:"start"`
	End       string                 `json:"end"`
	State     string                 `json:"state"`
	Hash      uint8                  `json:"hash_version"`
	OnDemand  bool                   `json:"on_demand"`
	Pending   bool                   `json:"pending"`
	Cut       bool                   `json:"cut"`
	Sets      []quorate.ReplicaSetID `json:"sets"`
	Overlays  []quorate.ReplicaSetID `json:"overlays"`
	Planned   string                 `json:"planned"`
	Announced uint64                 `json:"announced"`
	Changed   uint64                 `json:"changed"`
}

type intentView struct {
	ID      IntentID `json:"id"`
	Kind    string   `json:"kind"`
	Term    uint64   `json:"term,omitempty"`
	Index   uint64   `json:"log_index,omitempty"`
	Payload []byte   `json:"payload,omitempty"`
}

type sealView struct {
	Voters   int    `json:"voters"`
	Index    uint64 `json:"log_index"`
	Checksum string `json:"checksum"`
	File     string `json:"file"`
	Bytes    uint64 `json:"bytes"`
	Series   uint64 `json:"series"`
	Samples  uint64 `json:"samples"`
}

type reportView struct {
	Replica  quorate.ReplicaID `json:"replica"`
	Intent   uint64            `json:"intent"`
	Index    uint64            `json:"log_index"`
	Checksum string            `json:"checksum"`
	Built    bool              `json:"built"`
}

type setView struct {
	ID            quorate.ReplicaSetID  `json:"id"`
	Bucket        quorate.BucketID      `json:"bucket"`
	Shard         int                   `json:"shard"`
	State         string                `json:"state"`
	BoundsVersion quorate.BoundsVersion `json:"bounds_version"`
	Start         string                `json:"start"`
	End           string                `json:"end"`
	Members       []memberView          `json:"members"`
	Formed        []quorate.ReplicaID   `json:"formed,omitempty"`
	Moved         bool                  `json:"moved"`
	Joined        []quorate.ReplicaID   `json:"joined,omitempty"`
	Left          []memberView          `json:"left,omitempty"`
	Base          quorate.ReplicaSetID  `json:"base,omitempty"`
	Generation    int                   `json:"generation"`
	Pending       bool                  `json:"pending"`
	Announced     uint64                `json:"announced"`
	SealAsked     bool                  `json:"seal_asked"`
	Intent        *intentView           `json:"intent,omitempty"`
	Done          *intentView           `json:"last_intent,omitempty"`
	Reports       []reportView          `json:"seal_reports,omitempty"`
	Sealed        *sealView             `json:"sealed,omitempty"`
	Dropped       []quorate.ReplicaID   `json:"dropped,omitempty"`
	Changed       uint64                `json:"changed"`
}

type deletionView struct {
	ID      uint64                 `json:"id"`
	Body    []byte                 `json:"body"`
	Sets    []quorate.ReplicaSetID `json:"sets"`
	Pending bool                   `json:"pending"`
	Changed uint64                 `json:"changed"`
}

type tombstoneView struct {
	Kind    string `json:"kind"`
	ID      uint64 `json:"id"`
	Name    string `json:"name,omitempty"`
	Removed uint64 `json:"removed"`
}

// MarshalJSON shows all records of the dump.
func (d *Dump) MarshalJSON() ([]byte, error) {
	s := d.state
	v := dumpView{
		Cluster: clusterView{ID: d.Cluster, Created: quorate.FormatTime(s.cluster.Created), Meta: viewMembers(s.cluster.Meta), Changed: s.cluster.ModIndex},
		Index:   d.Index, Epoch: Epoch(d.Index), Taken: quorate.FormatTime(d.Taken),
		Counters: map[string]uint64{
			"node": s.last.node, "tenant": s.last.tenant, "policy": s.last.policy, "bucket": s.last.bucket,
			"set": s.last.set, "replica": s.last.replica, "intent": s.last.intent, "deletion": s.last.deletion,
		},
		Nodes:      viewList(s.nodesByNumber(), viewNode),
		Policies:   viewList(byKey(s.policies), viewPolicy),
		Tenants:    viewList(byKey(s.tenants), viewTenant),
		Buckets:    viewList(byKey(s.buckets), viewBucket),
		Sets:       viewList(byKey(s.sets), viewSet),
		Deletions:  viewList(byKey(s.deletions), viewDeletion),
		Tombstones: viewList(s.tombstones, viewTombstone),
	}
	if j := s.cluster.MetaJoining; j != nil {
		v.Cluster.Joining = &memberView{Replica: j.Replica, Node: j.Node}
	}
	return json.Marshal(v)
}

func viewList[R, V any](records []R, view func(R) V) []V {
	list := make([]V, len(records))
	for i, r := range records {
		list[i] = view(r)
	}
	return list
}

func viewMembers(members []Member) []memberView {
	return viewList(members, func(m Member) memberView { return memberView{Replica: m.Replica, Node: m.Node} })
}

func viewNode(n *Node) nodeView {
	return nodeView{Number: n.Number, ID: n.ID, State: n.State.String(), Roles: n.Roles.String(), Zone: n.Zone, Address: n.Address, Changed: n.ModIndex}
}

func viewPolicy(p *Policy) policyView {
	v := policyView{
		ID: p.ID, Name: p.Name, Span: p.Span.String(), Shards: p.Shards, Replicas: p.Replicas, LateWindow: p.LateWindow.String(),
		Retention: p.Retention.String(), FutureBound: p.FutureBound.String(), Zones: p.Zones, Changed: p.ModIndex,
	}
	if p.Horizon != NoHorizon {
		v.Horizon = quorate.FormatTime(p.Horizon)
	}
	return v
}

func viewTenant(t *Tenant) tenantView {
	v := tenantView{ID: t.ID, Name: t.Name, Created: quorate.FormatTime(t.Created), Changed: t.ModIndex}
	if t.Retention > 0 {
		v.Retention = t.Retention.String()
	}
	v.Placements = viewList(t.Placements, func(p Placement) placementView {
		from := ""
		if p.From != math.MinInt64 {
			from = quorate.FormatTime(p.From)
		}
		return placementView{Policy: p.Policy, From: from}
	})
	return v
}

func viewBucket(b *BucketRecord) bucketView {
	return bucketView{
		ID: b.ID, Policy: b.Policy, Start: quorate.FormatTime(b.Range.Start), End: quorate.FormatTime(b.Range.End), State: b.State.String(),
		Hash: b.HashVersion, OnDemand: b.OnDemand, Pending: b.Pending, Cut: b.Cut, Sets: b.SetIDs, Overlays: b.OverlayIDs,
		Planned: quorate.FormatTime(b.Planned), Announced: b.Announced, Changed: b.ModIndex,
	}
}

func viewSet(s *ReplicaSet) setView {
	v := setView{
		ID: s.ID, Bucket: s.Bucket, Shard: s.Shard, State: s.State.String(), BoundsVersion: s.Bounds.Version,
		Start: quorate.FormatTime(s.Bounds.Range.Start), End: quorate.FormatTime(s.Bounds.Range.End), Members: viewMembers(s.Members),
		Formed: s.Formed, Moved: s.Moved, Joined: s.Joined, Left: viewMembers(s.Left), Base: s.Base, Generation: s.Generation,
		Pending: s.Pending, Announced: s.Announced, SealAsked: s.SealAsked, Dropped: s.Dropped, Changed: s.ModIndex,
	}
	if i := s.Intent; i != nil {
		v.Intent = &intentView{ID: i.ID, Kind: i.Kind.String(), Term: i.Term, Payload: i.Payload}
	}
	if i := s.Done; i != nil {
		v.Done = &intentView{ID: i.ID, Kind: i.Kind.String(), Index: i.LogIndex}
	}
	for _, r := range s.Reports {
		v.Reports = append(v.Reports, reportView{
			Replica: r.Replica, Intent: r.Intent, Index: r.Index, Checksum: hex.EncodeToString(r.Checksum[:]), Built: r.File != nil,
		})
	}
	if r := s.Sealed; r != nil {
		v.Sealed = &sealView{
			Voters: r.Voters, Index: r.Index, Checksum: hex.EncodeToString(r.Checksum[:]), File: hex.EncodeToString(r.File.Hash[:]),
			Bytes: r.File.Bytes, Series: r.File.Series, Samples: r.File.Samples,
		}
	}
	return v
}

func viewDeletion(d *DeletionRecord) deletionView {
	return deletionView{ID: d.ID, Body: d.Body, Sets: d.Sets, Pending: d.Pending, Changed: d.ModIndex}
}

func viewTombstone(t Tombstone) tombstoneView {
	return tombstoneView{Kind: t.Kind.String(), ID: t.ID, Name: t.Name, Removed: t.ModIndex}
}

package node

import (
	"net/http"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/lifecycle"
)

// listedSet is one set of this node, as GET /api/v1/admin/sets shows it.
type listedSet struct {
	Set     quorate.ReplicaSetID `json:"set"`
	Replica quorate.ReplicaID    `json:"replica"`
	Bucket  quorate.BucketID     `json:"bucket"`
	Shard   int                  `json:"shard"`
	Start   string               `json:"start"`
	End     string               `json:"end"`
	State   string               `json:"state"`
	// Base is the set that an overlay lies, or lay, over.
	Base       quorate.ReplicaSetID `json:"base,omitempty"`
	Generation int                  `json:"generation,omitempty"`
	// Serving is what the samples are read from: log, file or nothing.
	Serving string `json:"serving"`
	Broken  string `json:"broken,omitempty"`
	// What follows is of sets that run on their log.
	Leader        bool   `json:"leader"`
	AppliedIndex  uint64 `json:"applied_index,omitempty"`
	LogBytes      int64  `json:"log_bytes,omitempty"`
	MemcacheBytes int64  `json:"memcache_bytes,omitempty"`
	// What follows is of sealed sets.
	Series   uint64 `json:"series,omitempty"`
	Samples  uint64 `json:"samples,omitempty"`
	Bytes    uint64 `json:"bytes,omitempty"`
	Checksum string `json:"checksum,omitempty"`
}

// sets lists the sets that have a replica on this node.
func (a *adminAPI) sets(*http.Request) (any, error) {
	list := []listedSet{}
	for _, s := range a.lifecycle.Sets() {
		list = append(list, describeSet(s))
	}
	return list, nil
}

func describeSet(s lifecycle.SetStatus) listedSet {
	set, sealed := s.Record, describeSealed(s.Record)
	listed := listedSet{
		Set: set.ID, Replica: s.Replica, Bucket: set.Bucket, Shard: set.Shard,
		Start: quorate.FormatTime(set.Bounds.Range.Start), End: quorate.FormatTime(set.Bounds.Range.End),
		State: set.State.String(), Base: set.Base, Generation: set.Generation, Serving: s.Serving,
		Leader: s.Leader, AppliedIndex: s.AppliedIndex, LogBytes: s.LogBytes, MemcacheBytes: s.MemcacheBytes,
		Series: sealed.Series, Samples: sealed.Samples, Bytes: sealed.Bytes, Checksum: sealed.Checksum,
	}
	if s.Broken != nil {
		listed.Broken = s.Broken.Error()
	}
	return listed
}

package node

import (
	"context"
	"encoding/hex"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/metasvc"
)

// sealTimeout is how long a seal request waits unless it says otherwise. The
// seal itself goes on.
const sealTimeout = 10 * time.Minute

// sealedBucket is what a seal request led to.
type sealedBucket struct {
	Policy string      `json:"policy"`
	Start  string      `json:"start"`
	End    string      `json:"end"`
	Sets   []sealedSet `json:"sets"`
}

// sealedSet is one shard of a bucket after a seal.
type sealedSet struct {
	Set            quorate.ReplicaSetID `json:"set"`
	Shard          int                  `json:"shard"`
	State          string               `json:"state"`
	Samples        uint64               `json:"samples"`
	Series         uint64               `json:"series"`
	Bytes          uint64               `json:"bytes"`
	BytesPerSample float64              `json:"bytes_per_sample"`
	Checksum       string               `json:"checksum,omitempty"`
}

// seal has one bucket sealed now, with all its open sets and overlays, and waits
// until the map says so and this node serves the result: ?start= is an instant
// in the bucket, &policy= the policy's name, &timeout= how long to wait.
func (a *adminAPI) seal(r *http.Request) (any, error) {
	bucket, policy, err := a.bucketToSeal(r)
	if err != nil {
		return nil, err
	}
	timeout, err := parseTimeout(r, sealTimeout)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(r.Context(), timeout)
	defer cancel()
	var asked []quorate.ReplicaSetID
	for shard, set := range bucket.Sets {
		for _, s := range []*metasvc.ReplicaSet{set, bucket.Overlays[shard]} {
			if s != nil && s.State != metasvc.ReplicaSetSealed && s.State != metasvc.ReplicaSetDisputed {
				asked = append(asked, s.ID)
			}
		}
	}
	if err := a.client.RequestSeal(ctx, asked); err != nil {
		return nil, err
	}
	if err := a.awaitSealed(ctx, asked); err != nil {
		return nil, err
	}
	now := a.client.Map().Bucket(policy.ID, bucket.Range.Start)
	if now == nil {
		return nil, quorate.Errorf(quorate.NotFound, "bucket %v of policy %q was dropped meanwhile", bucket.Range, policy.Name)
	}
	answer := sealedBucket{Policy: policy.Name, Start: quorate.FormatTime(now.Range.Start), End: quorate.FormatTime(now.Range.End)}
	var disputed []string
	for _, set := range now.Sets {
		answer.Sets = append(answer.Sets, describeSealed(set))
		if set.State == metasvc.ReplicaSetDisputed {
			disputed = append(disputed, set.ID.String())
		}
	}
	if len(disputed) > 0 {
		return nil, fmt.Errorf("the replicas of set %s disagree on its samples: it stays as it is until somebody has looked", strings.Join(disputed, ", "))
	}
	return answer, nil
}

// bucketToSeal returns the bucket that a request names.
func (a *adminAPI) bucketToSeal(r *http.Request) (*metasvc.Bucket, *metasvc.Policy, error) {
	start, err := parseInstant("start", r.FormValue("start"))
	if err != nil {
		return nil, nil, err
	}
	if err := a.client.ConfirmMap(r.Context()); err != nil {
		return nil, nil, err
	}
	policy, err := a.findPolicy(r.FormValue("policy"))
	if err != nil {
		return nil, nil, err
	}
	bucket := a.client.Map().Bucket(policy.ID, start)
	if bucket == nil {
		return nil, nil, quorate.Errorf(quorate.NotFound, "policy %q has no bucket that covers %s", policy.Name, quorate.FormatTime(start))
	}
	if now := a.now().UnixMilli(); bucket.Range.End > now {
		return nil, nil, quorate.Errorf(quorate.Invalid, "bucket %v is not over yet: it takes samples until %s, and it is %s",
			bucket.Range, quorate.FormatTime(bucket.Range.End), quorate.FormatTime(now))
	}
	return bucket, policy, nil
}

// awaitSealed waits until each set is sealed and served from its file here, or
// in dispute, or gone.
func (a *adminAPI) awaitSealed(ctx context.Context, sets []quorate.ReplicaSetID) error {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		waiting := a.unsealed(sets)
		if len(waiting) == 0 {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return quorate.Errorf(quorate.Unavailable, "the seal goes on: %s: %w", strings.Join(waiting, ", "), ctx.Err())
		}
	}
}

// unsealed says of each set that a request still waits for how far it is.
func (a *adminAPI) unsealed(sets []quorate.ReplicaSetID) (waiting []string) {
	if len(sets) == 0 {
		return nil
	}
	current := a.client.Map()
	for _, id := range sets {
		set := current.Set(id)
		if set == nil {
			continue
		}
		switch set.State {
		case metasvc.ReplicaSetSealed:
			if !a.lifecycle.Settled(id) {
				waiting = append(waiting, fmt.Sprintf("set %v is sealed and about to be served from its file", id))
			}
		case metasvc.ReplicaSetForming, metasvc.ReplicaSetOpen:
			waiting = append(waiting, fmt.Sprintf("set %v is %s", id, set.State))
		case metasvc.ReplicaSetDisputed, metasvc.ReplicaSetDropping:
		}
	}
	return waiting
}

func describeSealed(set *metasvc.ReplicaSet) sealedSet {
	s := sealedSet{Set: set.ID, Shard: set.Shard, State: set.State.String()}
	if record := set.Sealed; record != nil {
		s.Samples, s.Series, s.Bytes = record.File.Samples, record.File.Series, record.File.Bytes
		s.BytesPerSample = float64(s.Bytes) / float64(max(s.Samples, 1))
		s.Checksum = hex.EncodeToString(record.Checksum[:])
	}
	return s
}

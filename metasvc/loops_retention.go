package metasvc

import "fmt"

// planRetention wants those buckets dropped that are past their policy's
// retention, oldest first.
func planRetention(v view) (actions []Action) {
	now := v.now.UnixMilli()
	for _, p := range byKey(v.state.policies) {
		for _, b := range v.state.bucketsOf[p.ID] {
			if b.State != BucketDropping && p.expired(b.Range.End, now) {
				actions = append(actions, Action{LoopRetention, fmt.Sprintf("drop bucket %d %v of policy %q", b.ID, b.Range, p.Name),
					BeginDrop{Bucket: b.ID, Term: v.term, Now: now}})
			}
		}
	}
	return actions
}

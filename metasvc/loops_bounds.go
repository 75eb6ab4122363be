package metasvc

import "fmt"

// planBounds wants sets told of their bucket's cut that something else kept
// from being told of when it was made.
func planBounds(v view) (actions []Action) {
	for _, b := range byKey(v.state.buckets) {
		if !b.Cut {
			continue
		}
		for _, id := range b.SetIDs {
			if set := v.state.sets[id]; set != nil && set.Intent == nil && outOfBounds(set, b) {
				actions = append(actions, action(LoopBounds, fmt.Sprintf("tell set %d that bucket %d ends at %v", id, b.ID, b.Range), BeginBounds{Set: id, Term: v.term}))
			}
		}
	}
	return actions
}

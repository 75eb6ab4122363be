package router

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/testwait"
)

// A leader that takes a write and hangs is waited for only until another leads, be
// it the node that waits or a third: it will not say so itself.
func TestAWriteDoesNotWaitForALeaderThatWasReplaced(t *testing.T) {
	for name, here := range map[string]bool{"by this node": true, "by another": false} {
		t.Run(name, func(t *testing.T) {
			r := newReplicatedRig(t)
			if err := r.writeBy(r.Router, manySeries(20, r.start)...); err != nil {
				t.Fatal(err)
			}
			hung := r.leaderOf(r.sets[0])
			var others []quorate.NodeID
			for _, node := range r.nodes {
				if node != hung {
					others = append(others, node)
				}
			}
			writer, next := others[0], others[1]
			if here {
				next = writer
			}
			var once sync.Once
			hangs := make(chan struct{})
			r.network.setHarm(func(ctx context.Context, to quorate.NodeID, method string, n int) error {
				if to != hung || method != methodWrite || n != 0 {
					return nil
				}
				once.Do(func() { close(hangs) })
				<-ctx.Done()
				return quorate.Errorf(quorate.Unavailable, "%w", ctx.Err())
			})
			done := make(chan error, 1)
			go func() { done <- r.writeBy(r.homes[writer], manySeries(20, r.start+1)...) }()
			<-hangs
			for _, set := range r.sets {
				if r.leaderOf(set) != hung {
					continue
				}
				member, _ := r.client.Map().Set(set).MemberOn(next)
				testwait.Until(t, "the lead to be handed over", func() error {
					return r.groups[hung][set].TransferLeadership(t.Context(), member.Replica)
				})
			}
			begin := time.Now()
			if err := <-done; err != nil {
				t.Fatal(err)
			}
			if took := time.Since(begin); took >= forwardTimeout {
				t.Errorf("the write took %v; a node that hangs is waited for %v, unless another leads", took, forwardTimeout)
			} else {
				t.Logf("the write took %v", took)
			}
		})
	}
}

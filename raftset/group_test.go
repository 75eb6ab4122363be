package raftset

import (
	"context"
	"testing"
	"time"
)

func TestTheFirstLeaderIsThereAtOnce(t *testing.T) {
	h := newHost(t, HostConfig{Dir: t.TempDir()})
	form(t, h, testSet)
	begin := time.Now()
	g, _ := openLeader(t, h, testSet)
	took := time.Since(begin)
	t.Logf("open to a confirmed read took %v", took)
	if took >= defaultHeartbeatTimeout {
		t.Errorf("it took %v, a whole heartbeat timeout: the election was not hastened", took)
	}
	if s := g.Status(); s.State != StateLeader || s.Leader != member(testReplica) || s.Term != genesisTerm+1 {
		t.Errorf("status is %+v", s)
	}
}

func TestProtocol3ARestartContinuesFromManifestAndLog(t *testing.T) {
	dir := t.TempDir()
	h, g, l := start(t, HostConfig{Dir: dir})
	lines := proposeAll(t, g, "before", 20)
	if err := g.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	lines = append(lines, proposeAll(t, g, "after", 20)...)
	wantLines(t, l, lines...)
	closeGroup(t, g)

	g, l = openLeader(t, h, testSet)
	wantLines(t, l, lines...)
	s := g.Status()
	if s.ManifestIndex == genesisIndex || s.AppliedIndex <= s.ManifestIndex {
		t.Errorf("status is %+v, want a manifest past the genesis and a log past the manifest", s)
	}
}

func TestConcurrentProposersGetTheirOwnResults(t *testing.T) {
	_, g, l := start(t, HostConfig{Dir: t.TempDir()})
	const workers, each = 8, 50
	done := make(chan error, workers)
	for w := range workers {
		go func() {
			done <- func() error {
				command := make([]byte, 0, 16)
				for i := range each {
					command = append(command[:0], byte('a'+w), byte('0'+i/10), byte('0'+i%10))
					got, err := g.Propose(context.WithoutCancel(t.Context()), testKind, command)
					if err != nil {
						return err
					}
					if got != "did "+string(command) {
						t.Errorf("worker %d, command %d: got %v", w, i, got)
					}
				}
				return nil
			}()
		}()
	}
	for range workers {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if got := len(l.all()); got != 1+workers*each {
		t.Errorf("the state machine holds %d lines, want %d", got, 1+workers*each)
	}
	t.Logf("%d commands took %d applies", workers*each, l.applies)
}

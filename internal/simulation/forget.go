package simulation

import (
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// rememberEvery is how old the files are at most that a node of the mutant that
// forgets finds after it was killed.
const rememberEvery = 3 * time.Second

// remember copies the files of all nodes now and then: what a disk has that
// says fsync is done, and does it seconds later.
func (s *simulation) remember(over <-chan struct{}) {
	tick := time.NewTicker(rememberEvery)
	defer tick.Stop()
	for copies := 0; ; copies++ {
		select {
		case <-tick.C:
		case <-over:
			return
		}
		s.quiet <- struct{}{}
		s.cfg.Settle()
		for _, n := range s.members() {
			if p := n.process(); p != nil {
				p.old = filepath.Join(s.cfg.Dir, fmt.Sprintf("%s-old-%d", n, copies))
				s.must(os.CopyFS(p.old, os.DirFS(p.dir)))
			}
		}
		<-s.quiet
	}
}

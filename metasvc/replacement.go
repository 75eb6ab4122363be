package metasvc

import (
	"math"
	"slices"

	"github.com/quorate/quorate"
)

// Replacement chooses the node on which a replica of a set would best be made: in
// the stead of the member that leaves, or beside all members where that is 0. It
// goes by the heartbeats that the metadata leader has, and chooses as the repair
// loop does. The error is of kind NotFound for a set or member that is not there,
// Unavailable when no node can take a replica.
func (c *Client) Replacement(id quorate.ReplicaSetID, leaves quorate.ReplicaID, beats []Heartbeat) (to quorate.NodeID, err error) {
	c.machine.read(func(s *state) {
		set := s.sets[id]
		if set == nil {
			err = quorate.Errorf(quorate.NotFound, "set %d does not exist", id)
			return
		}
		var member Member
		if leaves != 0 {
			at := slices.IndexFunc(set.Members, func(m Member) bool { return m.Replica == leaves })
			if at < 0 {
				err = quorate.Errorf(quorate.NotFound, "replica %d is not a member of set %d", leaves, id)
				return
			}
			member = set.Members[at]
		}
		v := view{state: s, now: c.cfg.Now(), beats: beats}.index()
		m := &moves{v: v, fit: v.fitness(), perNode: math.MaxInt, joining: make(map[quorate.NodeID]int)}
		if to, _ = m.target(set, member); to == (quorate.NodeID{}) {
			err = quorate.Errorf(quorate.Unavailable, "no other node can take a replica of set %d", id)
		}
	})
	return to, err
}

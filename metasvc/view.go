package metasvc

import (
	"cmp"
	"time"

	"github.com/quorate/quorate"
)

// view is what a loop decides on.
type view struct {
	state *state
	now   time.Time
	// self is this node.
	self quorate.NodeID
	// term is the metadata group's in which this node leads, and leadingSince
	// when that began.
	term         uint64
	leadingSince time.Time
	beats        []Heartbeat
	// beatAt is where in beats each node's stands, and sick what is wrong with the
	// replicas that their nodes say are broken; made by index.
	beatAt map[quorate.NodeID]int
	sick   map[Member]string
	// seen is when this leader first saw each node among the cluster's: one that
	// has just joined is not silent yet.
	seen map[quorate.NodeID]time.Time
	// mapVersion returns the version of this node's map; nil leaves it to the
	// heartbeats.
	mapVersion func() uint64
	// begun is when this leader first saw each change of members under way.
	begun map[IntentID]time.Time
	// quiet is since when the sets that report their progress make none.
	quiet map[quorate.ReplicaSetID]time.Time
	// steady tells that the leader's clock has run evenly for long enough to
	// drop what is past retention.
	steady bool
}

// index makes the heartbeats ready to be searched.
func (v view) index() view {
	v.beatAt = make(map[quorate.NodeID]int, len(v.beats))
	v.sick = make(map[Member]string)
	for i, b := range v.beats {
		if at, again := v.beatAt[b.Node]; !again || b.Received.After(v.beats[at].Received) {
			v.beatAt[b.Node] = i
		}
	}
	for node := range v.beatAt {
		beat, _ := v.beatOf(node)
		for _, s := range beat.Sets {
			if s.Broken {
				v.sick[Member{Node: node, Replica: s.Replica}] = cmp.Or(s.Why, "it is broken")
			}
		}
	}
	return v
}

// beatOf returns the last heartbeat of a node that was received since this node
// leads, and whether there is one: absence timers start anew with each leader
// (PROTOCOL 17).
func (v view) beatOf(node quorate.NodeID) (beat Heartbeat, heard bool) {
	at, ok := v.beatAt[node]
	if !ok || !v.beats[at].Received.After(v.leadingSince) {
		return Heartbeat{}, false
	}
	return v.beats[at], true
}

// silence is for how long a node has said nothing, counted since this node leads.
func (v view) silence(node quorate.NodeID) time.Duration {
	if node == v.self {
		return 0
	}
	heard := later(v.leadingSince, v.seen[node])
	if b, ok := v.beatOf(node); ok {
		heard = later(heard, b.Received)
	}
	return v.now.Sub(heard)
}

func later(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}

// absent tells whether a node has been silent for too long to be waited for.
func (v view) absent(node quorate.NodeID) bool { return v.silence(node) > absentAfter }

// knownEverywhere is the version that every node's map has at least, of those that
// may hold a map lease (PROTOCOL 8). A node that was never heard of since this one
// leads may hold one from just before, and so may one that was removed. This node
// serves requests from its own map, which follows the state that is decided on, and
// counts like any other.
func (v view) knownEverywhere() uint64 {
	known := ^uint64(0)
	for id := range v.state.nodes {
		if id == v.self && v.mapVersion != nil {
			known = min(known, v.mapVersion())
			continue
		}
		leased := v.now.Sub(later(v.leadingSince, v.seen[id]))
		if at, ok := v.beatAt[id]; ok {
			leased = min(leased, v.now.Sub(later(v.beats[at].Received, v.beats[at].Confirmed)))
		}
		if leased > MapLease {
			continue
		}
		version := uint64(0)
		if b, ok := v.beatOf(id); ok {
			version = b.MapVersion
		}
		known = min(known, version)
	}
	return known
}

// fitness is what the heartbeats say of the nodes to the placement.
func (v view) fitness() fitness {
	f := fitness{absent: v.absent, free: make(map[quorate.NodeID]uint64), space: make(map[quorate.NodeID]Space)}
	for id := range v.state.nodes {
		b, ok := v.beatOf(id)
		if ok && b.Free > 0 {
			f.free[id] = b.Free
		}
		if ok && b.Space > SpaceAmple {
			f.space[id] = b.Space
		}
	}
	return f
}

package node

import (
	"context"
	"net/http"
	"time"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/metasvc"
)

// silentFor is how old a heartbeat may be for what it says of leaders to count.
const silentFor = 10 * time.Second

// onMetaGroup stands for the command of an action that has none: it changes who
// is a member of the metadata group.
const onMetaGroup = "change_of_the_metadata_group"

// controller is that of this node's metadata replica.
func (a *clusterAdmin) controller() (*metasvc.Controller, error) {
	if c := a.node.controllerHere.Load(); c != nil {
		return c, nil
	}
	return nil, quorate.Errorf(quorate.NotFound, "this node has no replica of the metadata, and so no controllers; ask %s", a.node.meta.link.Leader().Name)
}

// controllers lists the loops of this node's controller, which act while it
// leads the metadata group.
func (a *clusterAdmin) controllers(*http.Request) (any, error) {
	c, err := a.controller()
	if err != nil {
		return nil, err
	}
	type listed struct {
		Name    string `json:"name"`
		Paused  bool   `json:"paused"`
		LastRun string `json:"last_run,omitempty"`
		Actions uint64 `json:"actions"`
		Error   string `json:"error,omitempty"`
	}
	list := []listed{}
	for _, s := range c.Status() {
		l := listed{Name: s.Name, Paused: s.Paused, Actions: s.Actions}
		if !s.LastRun.IsZero() {
			l.LastRun = quorate.FormatTime(s.LastRun.UnixMilli())
		}
		if s.Err != nil {
			l.Error = s.Err.Error()
		}
		list = append(list, l)
	}
	return list, nil
}

// plan shows what the loops would do if this node led.
func (a *clusterAdmin) plan(*http.Request) (any, error) {
	c, err := a.controller()
	if err != nil {
		return nil, err
	}
	actions, err := c.DryRun()
	if err != nil {
		return nil, err
	}
	return listActions(actions), nil
}

// listedAction is what a loop would do, as GET /api/v1/admin/controllers/plan
// shows it.
type listedAction struct {
	Loop    string `json:"loop"`
	Why     string `json:"why"`
	Command string `json:"command"`
}

func listActions(actions []metasvc.Action) []listedAction {
	list := []listedAction{}
	for _, action := range actions {
		l := listedAction{Loop: action.Loop, Why: action.Why, Command: onMetaGroup}
		if action.Command != nil {
			l.Command = action.Command.Type().String()
		}
		list = append(list, l)
	}
	return list
}

func (a *clusterAdmin) pause(change func(*metasvc.Controller, string) error) func(*http.Request) (any, error) {
	return func(r *http.Request) (any, error) {
		c, err := a.controller()
		if err != nil {
			return nil, err
		}
		return nil, change(c, r.FormValue("loop"))
	}
}

// clusterBeats are the last heartbeats, by node, that the metadata leader has;
// none where it cannot be asked.
func (n *Node) clusterBeats(ctx context.Context) map[quorate.NodeID]metasvc.Heartbeat {
	list := n.beatList(ctx)
	beats := make(map[quorate.NodeID]metasvc.Heartbeat, len(list))
	for _, beat := range list {
		beats[beat.Node] = beat
	}
	return beats
}

func (n *Node) beatList(ctx context.Context) []metasvc.Heartbeat {
	switch leader := n.meta.link.Leader(); leader {
	case n.identity.Node:
		return n.meta.beats.List()
	case quorate.NodeID{}:
		return nil
	default:
		return n.askBeats(ctx, leader)
	}
}

// leadersOf says, of each set, who leads it and which replicas are broken.
func leadersOf(beats map[quorate.NodeID]metasvc.Heartbeat) (leaders map[quorate.ReplicaSetID]string, broken map[quorate.ReplicaSetID][]string) {
	leaders, broken = make(map[quorate.ReplicaSetID]string), make(map[quorate.ReplicaSetID][]string)
	for node, beat := range beats {
		for _, s := range beat.Sets {
			member := listedMember(metasvc.Member{Node: node, Replica: s.Replica})
			if s.Leads && time.Since(beat.Received) < silentFor {
				leaders[s.Set] = member
			}
			if s.Broken {
				broken[s.Set] = append(broken[s.Set], member+": "+s.Why)
			}
		}
	}
	return leaders, broken
}

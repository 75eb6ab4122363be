package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
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
func (n *Node) controller() (*metasvc.Controller, error) {
	if c := n.controllerHere.Load(); c != nil {
		return c, nil
	}
	return nil, quorate.Errorf(quorate.NotFound, "node %s has no replica of the metadata, and so no controllers", n.identity.Node.Name)
}

// listedLoop is one loop of the controller that leads.
type listedLoop struct {
	Name    string `json:"name"`
	Paused  bool   `json:"paused"`
	LastRun string `json:"last_run,omitempty"`
	Actions uint64 `json:"actions"`
	Error   string `json:"error,omitempty"`
}

// controlRequest asks a node's controller: what is list, plan, tenure, pause
// or resume.
type controlRequest struct {
	What string `json:"what"`
	Loop string `json:"loop,omitempty"`
}

// control does what a controlRequest asks for with this node's controller.
func (n *Node) control(r controlRequest) (any, error) {
	c, err := n.controller()
	if err != nil {
		return nil, err
	}
	switch r.What {
	case "list":
		return listLoops(c), nil
	case "plan":
		return planLoops(c)
	case "tenure":
		since, leads := c.Leading()
		if !leads {
			return nil, quorate.Errorf(quorate.Unavailable, "node %s does not lead the metadata group", n.identity.Node.Name)
		}
		return time.Since(since), nil
	case "pause":
		return nil, c.Pause(r.Loop)
	case "resume":
		return nil, c.Resume(r.Loop)
	}
	return nil, quorate.Errorf(quorate.Invalid, "controllers cannot %q", r.What)
}

func listLoops(c *metasvc.Controller) []listedLoop {
	list := []listedLoop{}
	for _, s := range c.Status() {
		l := listedLoop{Name: s.Name, Paused: s.Paused, Actions: s.Actions}
		if !s.LastRun.IsZero() {
			l.LastRun = quorate.FormatTime(s.LastRun.UnixMilli())
		}
		if s.Err != nil {
			l.Error = s.Err.Error()
		}
		list = append(list, l)
	}
	return list
}

func planLoops(c *metasvc.Controller) ([]listedAction, error) {
	actions, err := c.DryRun()
	failed, ok := metasvc.LoopErrors(err)
	if !ok {
		return nil, err
	}
	list := listActions(actions)
	for _, l := range failed {
		list = append(list, listedAction{Loop: l.Loop, Error: l.Err.Error()})
	}
	return list, nil
}

// listedAction is what a loop would do, or why it does not do what it would, as
// GET /api/v1/admin/controllers/plan shows it.
type listedAction struct {
	Loop    string `json:"loop"`
	Why     string `json:"why,omitempty"`
	Command string `json:"command,omitempty"`
	Error   string `json:"error,omitempty"`
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

// askControl has another node's controller, or this one's, do something.
func (n *Node) askControl(ctx context.Context, node quorate.NodeID, r controlRequest) (json.RawMessage, error) {
	if node == n.identity.Node {
		data, err := n.control(r)
		if err != nil {
			return nil, err
		}
		return json.Marshal(data)
	}
	request, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	return n.port.Call(ctx, node, methodControl, request)
}

// fromLeader answers with what the controller of the metadata leader says.
func (a *clusterAdmin) fromLeader(what string) func(*http.Request) (any, error) {
	return func(r *http.Request) (any, error) {
		leader := a.node.meta.link.Leader()
		if leader == (quorate.NodeID{}) {
			return nil, quorate.Errorf(quorate.Unavailable, "nobody is known to lead the metadata group")
		}
		return a.node.askControl(r.Context(), leader, controlRequest{What: what})
	}
}

// atAll has a loop paused or resumed at every node that has a replica of the
// metadata, so that it stays so whoever leads. A process that starts anew has
// forgotten it.
func (a *clusterAdmin) atAll(what string) func(*http.Request) (any, error) {
	return func(r *http.Request) (any, error) {
		cluster := a.client.Map().Cluster
		if cluster == nil {
			return nil, quorate.Errorf(quorate.Unavailable, "this node does not know its cluster yet")
		}
		loop := r.FormValue("loop")
		if err := metasvc.CheckLoop(loop); err != nil {
			return nil, err
		}
		var failed []error
		for _, m := range cluster.Meta {
			if _, err := a.node.askControl(r.Context(), m.Node, controlRequest{What: what, Loop: loop}); err != nil {
				failed = append(failed, fmt.Errorf("node %s: %w", m.Node.Name, err))
			}
		}
		switch {
		case len(failed) == 0:
			return nil, nil
		case len(failed) == len(cluster.Meta):
			return nil, failed[0]
		}
		return nil, quorate.Errorf(quorate.Unavailable, "%s was not done at all nodes that have a replica of the metadata: %w", what, errors.Join(failed...))
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
		return heard(n.meta.beats.List())
	case quorate.NodeID{}:
		return nil
	default:
		return n.askBeats(ctx, leader)
	}
}

// heard leaves out what the book has of nodes that were only answered.
func heard(beats []metasvc.Heartbeat) []metasvc.Heartbeat {
	return slices.DeleteFunc(beats, func(b metasvc.Heartbeat) bool { return b.Received.IsZero() })
}

// leaderSince is for how long the metadata leader leads; it is not known where
// there is none, or none that answers.
func (n *Node) leaderSince(ctx context.Context) (d time.Duration, known bool) {
	leader := n.meta.link.Leader()
	if leader == (quorate.NodeID{}) {
		return 0, false
	}
	answer, err := n.askControl(ctx, leader, controlRequest{What: "tenure"})
	if err == nil {
		err = json.Unmarshal(answer, &d)
	}
	if err != nil {
		n.logger.Debug("since when the metadata leader leads is not known", "node", leader, "err", err)
	}
	return d, err == nil
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

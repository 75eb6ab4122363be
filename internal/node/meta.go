package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/lifecycle"
	"github.com/quorate/quorate/internal/wire"
	"github.com/quorate/quorate/metasvc"
	"github.com/quorate/quorate/raftset"
)

// metaReplica is the first node's replica of the metadata group: its genesis
// comes before there is a log that could mint a number.
const metaReplica quorate.ReplicaID = 1

// metaService is this node's part of the metadata service: the replica of its
// group, the client that everyone here reads through, and the controller that
// acts while the replica leads.
type metaService struct {
	group      *raftset.Group
	client     *metasvc.Client
	controller *metasvc.Controller
}

func (n *Node) openMeta(ctx context.Context) (*metaService, error) {
	if err := n.formMeta(ctx); err != nil {
		return nil, err
	}
	machine := metasvc.NewStateMachine(metasvc.StateMachineConfig{})
	group, err := n.host.Open(ctx, quorate.MetaReplicaSet, metaReplica, machine)
	if err != nil {
		return nil, err
	}
	s := &metaService{group: group}
	leader := metaLeader{group: group}
	s.client, err = metasvc.OpenClient(ctx, metasvc.ClientConfig{
		StateMachine: machine,
		Leader:       leader,
		Dir:          filepath.Join(n.settings.DataDir, metaDirName),
		Cluster:      n.identity.Cluster,
		Now:          n.options.Now,
		Logger:       n.logger,
		Registerer:   n.options.Registry,
	})
	if err != nil {
		return nil, errors.Join(err, s.close())
	}
	s.controller, err = metasvc.NewController(metasvc.ControllerConfig{
		StateMachine:  machine,
		Leader:        leader,
		Leadership:    group.Leadership,
		Cluster:       n.identity.Cluster,
		Node:          metasvc.NodeSpec{ID: n.identity.Node, Roles: metasvc.AllRoles},
		MetaReplica:   metaReplica,
		DefaultPolicy: n.defaultPolicy(),
		// The controller runs when the replicas are there.
		Progress:   func() map[quorate.ReplicaSetID]uint64 { return n.replicas.Progress() },
		Now:        n.options.Now,
		Logger:     n.logger,
		Registerer: n.options.Registry,
	})
	if err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

// formMeta gives birth to the metadata group at a node's first start. A
// directory in which the cluster has lived before never does that again, or a
// lost metadata log would be replaced by an empty one (PROTOCOL 16); opening
// the group then says what is missing.
func (n *Node) formMeta(ctx context.Context) error {
	for _, trace := range []string{lifecycle.SetsDir, lifecycle.TrashDir, metaDirName} {
		switch entries, err := os.ReadDir(filepath.Join(n.settings.DataDir, trace)); {
		case errors.Is(err, os.ErrNotExist):
		case err != nil:
			return err
		case len(entries) > 0:
			return nil
		}
	}
	return n.host.Form(ctx, raftset.Genesis{
		Set:     quorate.MetaReplicaSet,
		Replica: metaReplica,
		Voters:  []raftset.Member{{Node: n.identity.Node, Replica: metaReplica}},
	})
}

func (n *Node) defaultPolicy() metasvc.PolicySpec {
	b := n.settings.Buckets
	p := metasvc.DefaultPolicy()
	p.Span, p.Shards = b.Span, b.Shards
	p.LateWindow, p.Retention, p.FutureBound = b.LateWindow, b.Retention, b.FutureBound
	return p
}

// run acts as the controller, while this node leads the metadata group, until
// the context ends.
func (s *metaService) run(ctx context.Context) error {
	if err := s.controller.Run(ctx); err != nil && ctx.Err() == nil {
		return fmt.Errorf("controller: %w", err)
	}
	return nil
}

// close closes the client, which writes its copy of the map, before the group
// whose state it copies.
func (s *metaService) close() error {
	var errs []error
	if s.client != nil {
		errs = append(errs, s.client.Close())
	}
	return errors.Join(append(errs, s.group.Close())...)
}

// metaLeader is the metadata group as metasvc wants to see its leader: on a
// lone node, the replica that runs here.
type metaLeader struct{ group *raftset.Group }

// Propose commits a metadata command.
func (l metaLeader) Propose(ctx context.Context, command []byte) (any, error) {
	return l.group.Propose(ctx, wire.KindMeta, command)
}

// ConfirmRead makes a read of the state machine linearizable.
func (l metaLeader) ConfirmRead(ctx context.Context) error {
	_, err := l.group.ConfirmRead(ctx)
	return err
}

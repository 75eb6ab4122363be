package node

import (
	"context"
	"fmt"
	"strings"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/config"
	"github.com/quorate/quorate/internal/metalink"
	"github.com/quorate/quorate/internal/peer"
	"github.com/quorate/quorate/metasvc"
)

// openPort opens the port between nodes, and answers whoever asks who this is.
func (n *Node) openPort() (err error) {
	cluster := n.identity.Cluster
	n.entered.Store(&cluster)
	var tls *peer.TLS
	if p := n.settings.Peer; p.CertFile != "" {
		if tls, err = peer.LoadTLS(p.CertFile, p.KeyFile, p.CAFile); err != nil {
			return fmt.Errorf("peer.cert_file: %w", err)
		}
	}
	n.port, err = peer.Open(peer.Config{
		Cluster: n.cluster, Self: n.identity.Node, Listener: n.peers, Resolve: n.addressOf, TLS: tls,
		Logger: n.logger, Registerer: n.options.Registry,
	})
	if err != nil {
		return err
	}
	greeter := metalink.GreeterConfig{
		Self: n.identity.Node, State: !n.identity.Cluster.IsZero(), Cluster: n.cluster, Port: n.port,
		Keep: func(promised quorate.NodeID) error { return keepPromise(n.settings.DataDir, promised) },
	}
	if !greeter.State {
		if greeter.Promised, err = readPromise(n.settings.DataDir); err != nil {
			return err
		}
	}
	n.greeter = metalink.NewGreeter(greeter)
	return nil
}

// cluster is the cluster that the node belongs to, zero before it has entered
// one.
func (n *Node) cluster() quorate.ClusterID {
	if id := n.entered.Load(); id != nil {
		return *id
	}
	return quorate.ClusterID{}
}

// enterCluster settles which cluster the node belongs to, and returns metadata
// nodes of it that were met on the way. Only a first start has to find out, and
// waits for the others as long as the context lives.
func (n *Node) enterCluster(ctx context.Context) ([]metalink.MetaNode, error) {
	if !n.identity.Cluster.IsZero() {
		return nil, forgetPromise(n.settings.DataDir) // it was kept up to here
	}
	decision, err := metalink.Discover(ctx, metalink.DiscoverConfig{
		Port: n.port, Greeter: n.greeter, Addresses: n.joinAddresses(), Expect: n.settings.Cluster.Expect, Logger: n.logger,
	})
	if err != nil {
		return nil, fmt.Errorf("find the cluster: %w", err)
	}
	cluster := decision.Cluster
	if decision.Found {
		cluster = quorate.NewClusterID()
	}
	if err := n.identity.enter(n.settings.DataDir, cluster, decision.Found); err != nil {
		return nil, err
	}
	n.entered.Store(&cluster)
	if err := forgetPromise(n.settings.DataDir); err != nil {
		return nil, err
	}
	n.logger.Info("cluster entered", "cluster", cluster, "founded", decision.Found)
	return decision.Meta, nil
}

func (n *Node) joinAddresses() []string { return config.Split(n.settings.Cluster.Join) }

// spec is what the node says of itself to the metadata.
func (n *Node) spec() metasvc.NodeSpec {
	spec := metasvc.NodeSpec{ID: n.identity.Node, Zone: n.settings.Cluster.Zone, Address: n.settings.Peer.Advertise}
	if spec.Address == "" {
		spec.Address = n.port.Address()
	}
	for _, role := range config.Split(n.settings.Cluster.Roles) {
		switch strings.ToLower(role) {
		case "meta":
			spec.Roles |= metasvc.RoleMeta
		case "data":
			spec.Roles |= metasvc.RoleData
		case "gateway":
			spec.Roles |= metasvc.RoleGateway
		}
	}
	return spec
}

// joinCluster has the cluster admit a node that has never been admitted. Without
// that it can do nothing, and so it waits, as long as the context lives.
func (n *Node) joinCluster(ctx context.Context) error {
	if n.meta.here.Load() != nil || n.meta.client.Map().Node(n.identity.Node) != nil {
		return nil
	}
	_, err := n.meta.link.Join(ctx, n.spec())
	return err
}

// keepJoined has the cluster know this node as it is configured, until the
// context ends. A node that was removed is of no more use, and fails as a whole.
func (n *Node) keepJoined(ctx context.Context) {
	var seen *metasvc.Map
	for {
		m, err := n.meta.client.AwaitMap(ctx, seen)
		if err != nil {
			return // the context's end
		}
		seen = m
		if m.Loaded() || m.Cluster == nil {
			continue
		}
		known := m.Node(n.identity.Node)
		switch {
		case known != nil && known.State == metasvc.NodeRemoved:
			n.fail(fmt.Errorf("node %s was removed from the cluster; a new node needs an empty data directory", n.identity.Node))
			return
		case known != nil && known.NodeSpec == n.spec():
			continue
		}
		if _, err := n.meta.link.Join(ctx, n.spec()); err != nil && ctx.Err() == nil {
			n.fail(err)
			return
		}
	}
}

// addressOf is where another node's port listens.
func (n *Node) addressOf(id quorate.NodeID) (string, bool) {
	meta := n.metaOf.Load()
	if meta == nil {
		return "", false
	}
	if known := meta.client.Map().Node(id); known != nil && known.Address != "" {
		return known.Address, true
	}
	return meta.link.Address(id)
}

// beat is what the metadata leader hears of this node.
func (n *Node) beat() metasvc.Heartbeat {
	free, space := n.replicas.Space()
	return metasvc.Heartbeat{
		Node:       n.identity.Node,
		Clock:      n.options.Now(),
		MapVersion: n.meta.client.Map().Version,
		Free:       uint64(max(free, 0)),
		Space:      space,
		Sets:       n.replicas.Beats(),
	}
}

package node

import (
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/quorate/quorate/internal/config"
	"github.com/quorate/quorate/internal/testwait"
	"github.com/quorate/quorate/metasvc"
)

// freePeer returns a loopback address that nobody listens on.
func freePeer(t *testing.T) string {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// clusterSettings are those of nodes that found a cluster together, with three
// replicas of two shards.
func clusterSettings(t *testing.T, size int) []config.Config {
	t.Helper()
	list, peers := make([]config.Config, size), make([]string, size)
	for i := range list {
		peers[i] = freePeer(t)
	}
	for i := range list {
		s := settingsIn(t.TempDir())
		s.NodeName, s.Peer.Listen = fmt.Sprintf("node-%d", i+1), peers[i]
		s.Cluster.Join, s.Cluster.Expect = strings.Join(peers, ","), size
		s.Buckets.Replicas, s.Buckets.Shards = 3, 2
		list[i] = s
	}
	return list
}

// startNodes starts nodes at once and waits until all are ready.
func startNodes(t *testing.T, settings ...config.Config) []*Node {
	t.Helper()
	nodes := startUnready(t, settings...)
	for _, n := range nodes {
		testwait.Until(t, "the nodes to be ready", n.ready)
	}
	return nodes
}

// startUnready starts nodes at once.
func startUnready(t *testing.T, settings ...config.Config) []*Node {
	t.Helper()
	nodes, errs := make([]*Node, len(settings)), make([]error, len(settings))
	var wait sync.WaitGroup
	for i, s := range settings {
		wait.Go(func() {
			nodes[i], errs[i] = Start(t.Context(), s, Options{
				Version: "test", Registry: prometheus.NewRegistry(),
				Logger: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn})).With("node", s.NodeName),
			})
		})
	}
	wait.Wait()
	for i, n := range nodes {
		if errs[i] != nil {
			t.Fatal(errs[i])
		}
		t.Cleanup(func() { _ = n.Close() }) // tests that care close themselves
	}
	return nodes
}

// awaitMetaVoters waits until the metadata group has so many voters, as a node
// knows it.
func (n *Node) awaitMetaVoters(t *testing.T, want int) []metasvc.Member {
	t.Helper()
	testwait.Until(t, "the metadata group's voters", func() error {
		if c := n.meta.client.Map().Cluster; c == nil || len(c.Meta) != want {
			return fmt.Errorf("the metadata group is %+v, want %d voters", c, want)
		}
		return nil
	})
	return n.meta.client.Map().Cluster.Meta
}

// optionsAgain are options to start a node again with.
func (n *Node) optionsAgain() Options {
	o := n.options
	o.Registry = prometheus.NewRegistry()
	return o
}

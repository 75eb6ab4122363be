package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/quorate/quorate/internal/config"
	"github.com/quorate/quorate/internal/testwait"
	"github.com/quorate/quorate/metasvc"
)

// freePeer returns a loopback address that nobody listens on, below the ports
// that the system gives to connections, any of which might take it before the
// node does.
func freePeer(t *testing.T) string {
	t.Helper()
	chance := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), uint64(os.Getpid()))) //nolint:gosec // of no worth to anybody
	for {
		address := fmt.Sprintf("127.0.0.1:%d", 10_000+chance.IntN(20_000))
		l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", address)
		if err != nil {
			continue
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		return address
	}
}

// founders are settings of nodes that found a cluster together, with three
// replicas of two shards.
func founders(t *testing.T, size int) []config.Config {
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
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel() // a start's context bounds only the start
	var wait sync.WaitGroup
	for i, s := range settings {
		wait.Go(func() {
			nodes[i], errs[i] = Start(ctx, s, Options{
				Version: "test", Registry: prometheus.NewPedanticRegistry(),
				Logger: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn})).With("node", s.NodeName),
			})
			if errs[i] != nil {
				cancel() // the others may wait for it
			}
		})
	}
	wait.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	for _, n := range nodes {
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
	o.Registry = prometheus.NewPedanticRegistry()
	return o
}

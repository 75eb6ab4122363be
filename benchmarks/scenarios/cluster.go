package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/quorate/quorate/benchmarks"
)

// clusterPorts is how far apart the ports of two nodes are: HTTP, the port
// between nodes, administration.
const clusterPorts = 10

// cluster is several servers that are one cluster on this machine, as
// --cluster.local makes it, with everything replicated on three of them.
type cluster struct {
	nodes []*server
	dir   string
}

// startCluster starts a cluster on a new directory and returns when all its
// nodes are ready. Settings are lines of YAML.
func (l *lab) startCluster(ctx context.Context, nodes int, settings ...string) (*cluster, error) {
	dir, err := os.MkdirTemp(l.dir, "cluster.")
	if err != nil {
		return nil, err
	}
	config := filepath.Join(dir, "quorate.yaml")
	if err := os.WriteFile(config, []byte(strings.Join(settings, "\n")+"\n"), 0o600); err != nil {
		return nil, err
	}
	address := func(node, port int) string {
		return "127.0.0.1:" + strconv.Itoa(l.port+clusterPorts*node+port)
	}
	peers := make([]string, nodes)
	for i := range peers {
		peers[i] = address(i, 1)
	}
	c := &cluster{dir: dir}
	g, waiting := errgroup.WithContext(ctx)
	for i := range nodes {
		s := &server{name: "node-" + strconv.Itoa(i+1), http: "http://" + address(i, 0), admin: "http://" + address(i, 2)}
		if err := l.launch(ctx, s, l.quorate,
			"--config.file", config, "--data.dir", filepath.Join(dir, s.name), "--log.level", "warn",
			"--node.name", s.name, "--http.listen", address(i, 0), "--peer.listen", peers[i], "--admin.listen", address(i, 2),
			"--cluster.join", strings.Join(peers, ","), "--cluster.expect", strconv.Itoa(nodes),
			"--buckets.replicas", "3"); err != nil {
			return nil, errors.Join(err, g.Wait())
		}
		c.nodes = append(c.nodes, s)
		g.Go(func() error { return s.ready(waiting) })
	}
	return c, g.Wait()
}

// processes are those of all nodes.
func (c *cluster) processes() benchmarks.Processes {
	var p benchmarks.Processes
	for _, s := range c.nodes {
		p.PIDs = append(p.PIDs, s.command.Process.Pid)
	}
	return p
}

// stop ends all nodes in good order, side by side, since one that is left alone
// waits for the others, and removes the cluster's directory.
func (c *cluster) stop() error {
	var g errgroup.Group
	for _, s := range c.nodes {
		g.Go(s.stop)
	}
	return errors.Join(g.Wait(), os.RemoveAll(c.dir))
}

// total sums a metric over all nodes; of a histogram, the observations.
func (c *cluster) total(ctx context.Context, metric string) (total float64, err error) {
	for _, s := range c.nodes {
		families, err := s.metrics(ctx)
		if err != nil {
			return 0, err
		}
		total += sum(families[metric], "")
	}
	return total, nil
}

// explain returns the ends of all logs as an error.
func (c *cluster) explain() error {
	var errs []error
	for _, s := range c.nodes {
		errs = append(errs, s.explain())
	}
	return fmt.Errorf("the nodes' logs: %w", errors.Join(errs...))
}

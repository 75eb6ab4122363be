package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/quorate/quorate/internal/config"
)

const (
	minLocal, maxLocal = 2, 9
	// localPorts is how far apart the ports of two nodes of a local cluster are.
	localPorts = 10
	// localReplicas is how many replicas a local cluster has, where it has as
	// many nodes.
	localReplicas = 3
	// localStop is how long the nodes may take to stop before they are killed.
	localStop = time.Minute
)

// runLocal runs a cluster of several nodes on this machine, for trying one out:
// each node is a process of this binary. It ends when ctx does, or when all
// nodes have ended. A node that ends before stays ended: whoever killed it wants
// to see what the others do.
func (c *serveCommand) runLocal(ctx context.Context, cfg config.Config, p process) error {
	nodes, err := c.localNodes(cfg)
	if err != nil {
		return err
	}
	binary, err := os.Executable()
	if err != nil {
		return err
	}
	out := &lineWriter{w: p.stderr}
	var wait sync.WaitGroup
	errs := make([]error, len(nodes))
	for i, n := range nodes {
		child := exec.CommandContext(ctx, binary, n.args...) //nolint:gosec // the binary is this one
		child.Cancel = func() error { return child.Process.Signal(syscall.SIGTERM) }
		child.WaitDelay = localStop
		// An interrupt at the terminal reaches this process alone, which then
		// stops the nodes.
		child.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
		lines := out.prefixed(n.name)
		child.Stderr = lines
		if err := child.Start(); err != nil {
			return errors.Join(fmt.Errorf("start %s: %w", n.name, err), out.line("quorate", "not all nodes were started"))
		}
		if err := out.line("quorate", fmt.Sprintf("%s has process %d, HTTP on http://%s, its data in %s", n.name, child.Process.Pid, n.http, n.dir)); err != nil {
			return err
		}
		wait.Go(func() {
			err := child.Wait()
			if ctx.Err() == nil {
				errs[i] = fmt.Errorf("%s ended by itself: %w", n.name, exitOf(err))
				_ = out.line("quorate", errs[i].Error()) // the log is all there is to tell it to
			}
		})
	}
	wait.Wait()
	return errors.Join(errs...)
}

// localNode is one node of a local cluster.
type localNode struct {
	name, http, dir string
	args            []string
}

// localNodes lists the nodes and their arguments: the settings of the command
// line, with names, directories and ports of their own.
func (c *serveCommand) localNodes(cfg config.Config) ([]localNode, error) {
	if c.Local < minLocal || c.Local > maxLocal {
		return nil, usageError{fmt.Errorf("--cluster.local=%d is not between %d and %d", c.Local, minLocal, maxLocal)}
	}
	for _, taken := range []struct {
		flag  string
		given bool
	}{
		{"--node.name", c.NodeName != nil}, {"--peer.listen", c.PeerListen != nil}, {"--admin.listen", c.Admin != nil},
		{"--cluster.join", c.Join != nil}, {"--cluster.expect", c.Expect != nil},
		{"--cluster.zone", c.Zone != nil},
	} {
		if taken.given {
			return nil, usageError{fmt.Errorf("%s cannot be given with --cluster.local, which settles it for each node", taken.flag)}
		}
	}
	host, text, err := net.SplitHostPort(cfg.HTTP.Listen)
	if err != nil {
		return nil, err
	}
	first, err := strconv.Atoi(text)
	if err != nil || first == 0 || first+localPorts*c.Local > 65535 {
		return nil, usageError{fmt.Errorf("--cluster.local counts the nodes' ports up from http.listen, and %q has none to begin with", cfg.HTTP.Listen)}
	}
	peers := make([]string, c.Local)
	for i := range peers {
		peers[i] = net.JoinHostPort("127.0.0.1", strconv.Itoa(first+localPorts*i+1))
	}
	nodes := make([]localNode, c.Local)
	for i := range nodes {
		port := first + localPorts*i
		n := localNode{
			name: fmt.Sprintf("node-%d", i+1),
			http: net.JoinHostPort(host, strconv.Itoa(port)),
		}
		n.dir = filepath.Join(cfg.DataDir, n.name)
		n.args = []string{
			"serve", "--node.name=" + n.name, "--data.dir=" + n.dir, "--http.listen=" + n.http,
			"--peer.listen=" + peers[i], "--admin.listen=" + net.JoinHostPort("127.0.0.1", strconv.Itoa(port+2)),
			"--cluster.join=" + strings.Join(peers, ","), "--cluster.expect=" + strconv.Itoa(c.Local),
			"--log.level=" + cfg.Log.Level, "--log.format=" + cfg.Log.Format,
		}
		if c.ConfigFile != "" {
			n.args = append(n.args, "--config.file="+c.ConfigFile)
		}
		replicas := min(localReplicas, c.Local)
		if c.Replicas != nil {
			replicas = cfg.Buckets.Replicas
		}
		n.args = append(n.args, "--buckets.replicas="+strconv.Itoa(replicas))
		nodes[i] = n
	}
	return nodes, nil
}

// exitOf is the error of a process that has ended, which is none for one that
// said that all went well.
func exitOf(err error) error {
	if err == nil {
		return errors.New("exit status 0")
	}
	return err
}

// lineWriter writes the lines of several processes to one writer, whole.
type lineWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *lineWriter) line(name, text string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, err := fmt.Fprintf(l.w, "%s | %s\n", name, text)
	return err
}

// prefixed returns a writer whose lines are written with a name before them.
func (l *lineWriter) prefixed(name string) io.Writer { return &prefixed{to: l, name: name} }

type prefixed struct {
	to   *lineWriter
	name string
	rest []byte
}

// Write writes the lines that are whole and keeps the rest.
func (p *prefixed) Write(b []byte) (int, error) {
	p.rest = append(p.rest, b...)
	for {
		advance, line, err := bufio.ScanLines(p.rest, false)
		if err != nil || advance == 0 {
			return len(b), err
		}
		if err := p.to.line(p.name, string(line)); err != nil {
			return len(b), err
		}
		p.rest = p.rest[advance:]
	}
}

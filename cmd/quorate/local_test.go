package main

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/quorate/quorate/internal/config"
)

func TestTheNodesOfALocalClusterDiffer(t *testing.T) {
	cfg := config.Default()
	cfg.DataDir = "dir"
	c := &serveCommand{Local: 3, ConfigFile: "q.yml"}
	nodes, err := c.localNodes(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if len(nodes) != 3 {
		t.Fatalf("%d nodes", len(nodes))
	}
	for _, want := range []string{
		"serve", "--node.name=node-2", "--data.dir=dir/node-2", "--http.listen=127.0.0.1:9250", "--peer.listen=127.0.0.1:9251",
		"--admin.listen=127.0.0.1:9252", "--cluster.join=127.0.0.1:9241,127.0.0.1:9251,127.0.0.1:9261", "--cluster.expect=3",
		"--buckets.replicas=3", "--config.file=q.yml",
	} {
		if !slices.Contains(nodes[1].args, want) {
			t.Errorf("node 2 is started with %q, without %q", nodes[1].args, want)
		}
	}
	var line commandLine
	if _, err := parse(&line, nodes[1].args); err != nil {
		t.Errorf("a node does not take its arguments: %v", err)
	}
}

func TestALocalClusterThatCannotBe(t *testing.T) {
	name := "me"
	for what, tc := range map[string]struct {
		c    serveCommand
		http string
		says string
	}{
		"one node":           {serveCommand{Local: 1}, "127.0.0.1:9240", "not between 2 and 9"},
		"ten nodes":          {serveCommand{Local: 10}, "127.0.0.1:9240", "not between 2 and 9"},
		"one name for three": {serveCommand{Local: 3, NodeName: &name}, "127.0.0.1:9240", "--node.name cannot be given"},
		"a zone for three":   {serveCommand{Local: 3, Zone: &name}, "127.0.0.1:9240", "--cluster.zone cannot be given"},
		"no first port":      {serveCommand{Local: 3}, "127.0.0.1:0", "has none to begin with"},
		"ports run out":      {serveCommand{Local: 9}, "127.0.0.1:65500", "has none to begin with"},
	} {
		cfg := config.Default()
		cfg.HTTP.Listen = tc.http
		if _, err := tc.c.localNodes(cfg); err == nil || exitCode(err) != exitUsage || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%s: %v, want a usage error that says %q", what, err, tc.says)
		}
	}
}

func TestLinesOfSeveralNodesStayWhole(t *testing.T) {
	var out bytes.Buffer
	l := &lineWriter{w: &out}
	a, b := l.prefixed("a"), l.prefixed("b")
	for _, w := range []struct {
		to   interface{ Write([]byte) (int, error) }
		text string
	}{{a, "one\ntw"}, {b, "three\n"}, {a, "o\n"}} {
		if n, err := w.to.Write([]byte(w.text)); n != len(w.text) || err != nil {
			t.Fatal(n, err)
		}
	}
	if want := "a | one\nb | three\na | two\n"; out.String() != want {
		t.Errorf("got %q, want %q", out.String(), want)
	}
}

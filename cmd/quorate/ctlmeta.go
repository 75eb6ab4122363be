package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/durable"
	"github.com/quorate/quorate/internal/node"
	"github.com/quorate/quorate/metasvc"
)

// The commands about the metadata as a whole. A restore, and a dump --from-dir,
// work on a data directory and ask no server.

type ctlMeta struct {
	Show    ctlMetaShow    `cmd:"" help:"Show all metadata, of a running cluster, a dump or a data directory, as JSON."`
	Dump    ctlMetaDump    `cmd:"" help:"Write all metadata to a file, from which they can be restored."`
	Restore ctlMetaRestore `cmd:"" help:"Make one node the only holder of the metadata, when most of those that held them are lost for ever."`
}

// metaSource says where metadata are taken from.
type metaSource struct {
	adminFlags
	FromDir     string `name:"from-dir" placeholder:"DIR" help:"Take them from this data directory, which no server uses."`
	Unconfirmed bool   `name:"unconfirmed" help:"Take what the node has that is asked, though no leader says that it is all."`
}

// fromDir reads the metadata of a data directory, and tells where they were.
func (s *metaSource) fromDir(ctx context.Context, p process) (*metasvc.Dump, error) {
	d, source, err := node.DumpMeta(ctx, s.FromDir)
	var told strings.Builder
	for _, note := range source.Notes {
		fmt.Fprintln(&told, "not usable:", note)
	}
	if err == nil {
		fmt.Fprintf(&told, "read %s, of metadata index %d\n", source.File, d.Index)
	}
	_, failed := io.WriteString(p.stderr, told.String())
	return d, errors.Join(err, failed)
}

func (s *metaSource) parameters() map[string]string {
	if s.Unconfirmed {
		return map[string]string{"unconfirmed": "true"}
	}
	return nil
}

type ctlMetaShow struct {
	metaSource
	File string `arg:"" optional:"" placeholder:"FILE" help:"A dump to show (default: ask a running node)."`
}

func (c *ctlMetaShow) run(ctx context.Context, p process) error {
	var d *metasvc.Dump
	var err error
	switch {
	case c.File != "" && c.FromDir != "":
		return usageError{errors.New("a file and --from-dir are two sources: give one")}
	case c.File != "":
		d, err = readDump(c.File)
	case c.FromDir != "":
		d, err = c.fromDir(ctx, p)
	default:
		data, err := c.get(ctx, "meta", given(c.parameters()))
		if err != nil {
			return err
		}
		return printJSON(p.stdout, data)
	}
	if err != nil {
		return err
	}
	data, err := json.Marshal(d)
	if err != nil {
		return err
	}
	return printJSON(p.stdout, data)
}

func readDump(path string) (*metasvc.Dump, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	d, err := metasvc.DecodeDump(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return d, nil
}

type ctlMetaDump struct {
	metaSource
	File string `arg:"" placeholder:"FILE" help:"Where the dump is written."`
}

func (c *ctlMetaDump) run(ctx context.Context, p process) error {
	encoded, err := c.encoded(ctx, p)
	if err != nil {
		return err
	}
	d, err := metasvc.DecodeDump(encoded) // what cannot be read again is no dump
	if err != nil {
		return err
	}
	if err := durable.WriteFile(c.File, encoded); err != nil {
		return err
	}
	return c.printOne(p, map[string]any{"cluster": d.Cluster, "index": d.Index, "epoch": metasvc.Epoch(d.Index), "taken": quorate.FormatTime(d.Taken), "bytes": len(encoded)})
}

func (c *ctlMetaDump) encoded(ctx context.Context, p process) ([]byte, error) {
	if c.FromDir != "" {
		d, err := c.fromDir(ctx, p)
		if err != nil {
			return nil, err
		}
		return d.Encode(), nil
	}
	answer, err := c.exchange(ctx, http.MethodGet, "meta/dump", given(c.parameters()))
	if err != nil {
		return nil, err
	}
	if answer.code != http.StatusOK {
		_, err := answer.data()
		return nil, err
	}
	return answer.body, nil
}

type ctlMetaRestore struct {
	File    string `arg:"" optional:"" placeholder:"FILE" help:"The dump to restore (default: the newest metadata that the data directory has itself)."`
	Dir     string `name:"data.dir" required:"" placeholder:"DIR" help:"The data directory of the node that is to hold the metadata. No server may use it; it may be empty."`
	Cluster string `name:"cluster" required:"" placeholder:"ID" help:"The ID of the cluster, as ctl meta show and the logs have it."`
	Name    string `name:"node.name" placeholder:"NAME" help:"The node's name, where the directory is empty."`
	Yes     bool   `name:"yes" help:"Yes: the majority of the metadata replicas is lost, and none of them will run again."`
	Output  string `name:"output" short:"o" enum:"table,json" default:"table" placeholder:"FORM" help:"table or json (default ${default})."`
}

func (c *ctlMetaRestore) run(ctx context.Context, p process) error {
	cluster, err := quorate.ParseClusterID(c.Cluster)
	if err != nil {
		return usageError{fmt.Errorf("--cluster: %w", err)}
	}
	if !c.Yes {
		return usageError{errors.New("a restore is for a cluster whose metadata are lost: where most of the metadata replicas still run, or will again, there would be two of it; say --yes if they are lost for ever (docs/operations.md, Losing the metadata)")}
	}
	o := node.RestoreOptions{Dir: c.Dir, Cluster: cluster, Name: c.Name}
	if c.File != "" {
		if o.Dump, err = readDump(c.File); err != nil {
			return err
		}
	}
	done, err := node.RestoreMeta(ctx, o)
	if err != nil {
		return err
	}
	return (&adminFlags{Output: c.Output}).printOne(p, done)
}

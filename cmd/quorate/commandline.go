package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime/debug"

	"github.com/alecthomas/kong"

	"github.com/quorate/quorate/internal/config"
)

const about = `A Prometheus-compatible remote-storage server, and its tools.

Without a command it serves: a single node that holds all roles, with its data
in ./data and HTTP on 127.0.0.1:9240. "quorate COMMAND --help" describes a
command, docs/operations.md the tools, docs/config.md the server's settings.

Exit codes: 0 when all went well; 1 when something failed or, of verify, when
damage was found; 2 when the arguments are wrong or, of verify, when the
directory could not be checked.`

// The exit codes of the process.
const (
	exitFailed = 1
	exitUsage  = 2
)

// usageError is about the arguments, not about what was done with them.
type usageError struct{ error }

// Unwrap returns what is wrong.
func (e usageError) Unwrap() error { return e.error }

// exitCode is the code with which an error ends the process.
func exitCode(err error) int {
	var usage usageError
	if errors.As(err, &usage) {
		return exitUsage
	}
	return exitFailed
}

// commandLine is what kong parses the arguments into.
type commandLine struct {
	Version kong.VersionFlag `name:"version" help:"Print the version and exit."`

	Serve       serveCommand   `cmd:"" default:"withargs" help:"Run a server. This is what quorate does without a command."`
	Import      importCommand  `cmd:"" help:"Write the samples of Prometheus TSDB blocks to a running server."`
	Export      exportCommand  `cmd:"" help:"Write the samples of a running server as Prometheus TSDB blocks."`
	Verify      verifyCommand  `cmd:"" help:"Check a data directory while no server uses it."`
	Ctl         ctlCommand     `cmd:"" help:"Look at a running cluster and change it."`
	ShowVersion versionCommand `cmd:"" name:"version" help:"Print the version and exit."`
}

// process is what a command has of the process that it is run by.
type process struct {
	stdout, stderr io.Writer
	// exit ends the process at once.
	exit func(code int)
}

// command is what quorate can be told to do. Run returns when it is done or ctx
// has ended it.
type command interface {
	run(ctx context.Context, p process) error
}

// run does what the arguments ask for, until it is done or ctx ends it.
func run(ctx context.Context, args []string, stdout, stderr io.Writer, exit func(code int)) error {
	var line commandLine
	printed := false // kong has answered --help or --version
	chosen, err := parse(&line, args, kong.Writers(stdout, stderr), kong.Exit(func(int) { printed = true }))
	if printed {
		return nil
	}
	if err != nil {
		return err
	}
	c, ok := chosen.Selected().Target.Addr().Interface().(command)
	if !ok {
		return fmt.Errorf("command %q does nothing", chosen.Selected().Name)
	}
	return c.run(ctx, process{stdout: stdout, stderr: stderr, exit: exit})
}

// parse parses the arguments. The error is about them.
func parse(line *commandLine, args []string, options ...kong.Option) (*kong.Context, error) {
	parser, err := kong.New(line, append([]kong.Option{
		kong.Name("quorate"),
		kong.Description(about),
		kong.Vars{"version": "quorate " + version()},
		kong.ConfigureHelp(kong.HelpOptions{NoAppDescFormat: true, NoExpandSubcommands: true, WrapUpperBound: 100}),
		kong.Help(printHelp),
	}, options...)...)
	if err != nil {
		return nil, err
	}
	chosen, err := parser.Parse(args)
	if err != nil {
		return nil, usageError{fmt.Errorf("%w (quorate --help lists commands and flags)", err)}
	}
	return chosen, nil
}

// printHelp prints the help of a command or, without one, the list of commands
// and the help of the one that is then run.
func printHelp(options kong.HelpOptions, ctx *kong.Context) error {
	if err := kong.DefaultHelpPrinter(options, ctx); err != nil || ctx.Selected() != nil {
		return err
	}
	serve, err := kong.Trace(ctx.Kong, []string{"serve"})
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintln(ctx.Stdout); err != nil {
		return err
	}
	options.NoAppSummary = true
	return kong.DefaultHelpPrinter(options, serve)
}

// serveCommand runs a server. A flag that was not given is nil, so that it
// overrides nothing.
type serveCommand struct {
	ConfigFile string  `name:"config.file" placeholder:"FILE" help:"YAML file with the settings."`
	DataDir    *string `name:"data.dir" placeholder:"DIR" help:"Where everything is kept (default ./data)."`
	HTTPListen *string `name:"http.listen" placeholder:"HOST:PORT" help:"Serve writes, queries, health and metrics here (default 127.0.0.1:9240)."`
	Admin      *string `name:"admin.listen" placeholder:"HOST:PORT" help:"Serve profiles and administration here, on loopback (default 127.0.0.1:9242)."`
	NodeName   *string `name:"node.name" placeholder:"NAME" help:"The node's name in its cluster (default node-1)."`
	PeerListen *string `name:"peer.listen" placeholder:"HOST:PORT" help:"Talk to other nodes here (default 127.0.0.1:9241)."`
	Join       *string `name:"cluster.join" placeholder:"HOST:PORT,…" help:"Ports (peer.listen) of nodes whose cluster to join."`
	Expect     *string `name:"cluster.expect" placeholder:"N" help:"Found a cluster when N nodes with the same --cluster.join see each other."`
	Zone       *string `name:"cluster.zone" placeholder:"NAME" help:"The failure domain of the node."`
	Replicas   *string `name:"buckets.replicas" placeholder:"N" help:"How many nodes hold each set of new buckets (default 1)."`
	Local      int     `name:"cluster.local" placeholder:"N" help:"Try a cluster out: N nodes (2 to 9) on this machine, each a process of its own, with HTTP on port 9240, 9250, 9260 and so on, and three replicas."`
	LogLevel   *string `name:"log.level" placeholder:"LEVEL" help:"Least severe messages logged: debug, info, warn or error (default info)."`
	LogFormat  *string `name:"log.format" placeholder:"FORMAT" help:"Log as text or json (default text)."`
}

// Help says what the summary leaves out.
func (*serveCommand) Help() string {
	return `Flags win over the configuration file; docs/config.md describes every setting. SIGTERM or an interrupt drains the server and ends it; a second one ends it at once.`
}

// overrides are the settings given by flag.
func (c *serveCommand) overrides() []config.Override {
	var given []config.Override
	for _, flag := range []struct {
		name, setting string
		value         *string
	}{
		{"--data.dir", "data_dir", c.DataDir},
		{"--http.listen", "http.listen", c.HTTPListen},
		{"--admin.listen", "admin.listen", c.Admin},
		{"--node.name", "node_name", c.NodeName},
		{"--peer.listen", "peer.listen", c.PeerListen},
		{"--cluster.join", "cluster.join", c.Join},
		{"--cluster.expect", "cluster.expect", c.Expect},
		{"--cluster.zone", "cluster.zone", c.Zone},
		{"--buckets.replicas", "buckets.replicas", c.Replicas},
		{"--log.level", "log.level", c.LogLevel},
		{"--log.format", "log.format", c.LogFormat},
	} {
		if flag.value != nil {
			given = append(given, config.Override{Origin: flag.name, Setting: flag.setting, Value: *flag.value})
		}
	}
	return given
}

func (c *serveCommand) run(ctx context.Context, p process) error {
	cfg, err := config.Load(c.ConfigFile, c.overrides()...)
	if err != nil {
		if config.OfFlag(err) { // what a flag says is wrong, not what a file does
			return usageError{err}
		}
		return err
	}
	if c.Local != 0 {
		return c.runLocal(ctx, cfg, p)
	}
	return serve(ctx, cfg, p.stderr, p.exit)
}

// versionCommand prints the version.
type versionCommand struct{}

func (*versionCommand) run(_ context.Context, p process) error {
	_, err := fmt.Fprintln(p.stdout, "quorate", version())
	return err
}

// version is the module's version or, of a binary built from a checkout, the
// commit; then the version of Go.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	of := info.Main.Version
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && of == "(devel)" {
			of = s.Value
		}
	}
	return of + " " + info.GoVersion
}

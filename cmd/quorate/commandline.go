package main

import (
	"context"
	"fmt"
	"io"
	"runtime/debug"

	"github.com/alecthomas/kong"

	"github.com/quorate/quorate/internal/config"
)

const about = `A Prometheus-compatible remote-storage server.

Without flags it is a single node that holds all roles, with its data in ./data
and HTTP on 127.0.0.1:9240. Flags win over the configuration file; docs/config.md
describes every setting.`

// commandLine is what kong parses the arguments into. A flag that was not given
// is nil, so that it overrides nothing.
type commandLine struct {
	ConfigFile string           `name:"config.file" placeholder:"FILE" help:"YAML file with the settings."`
	DataDir    *string          `name:"data.dir" placeholder:"DIR" help:"Where everything is kept (default ./data)."`
	HTTPListen *string          `name:"http.listen" placeholder:"HOST:PORT" help:"Serve writes, queries, health and metrics here (default 127.0.0.1:9240)."`
	Admin      *string          `name:"admin.listen" placeholder:"HOST:PORT" help:"Serve profiles here, on loopback (default 127.0.0.1:9242)."`
	LogLevel   *string          `name:"log.level" placeholder:"LEVEL" help:"Least severe messages logged: debug, info, warn or error (default info)."`
	LogFormat  *string          `name:"log.format" placeholder:"FORMAT" help:"Log as text or json (default text)."`
	Version    kong.VersionFlag `name:"version" help:"Print the version and exit."`
}

// overrides are the settings given by flag.
func (c *commandLine) overrides() []config.Override {
	var given []config.Override
	for _, flag := range []struct {
		name, setting string
		value         *string
	}{
		{"--data.dir", "data_dir", c.DataDir},
		{"--http.listen", "http.listen", c.HTTPListen},
		{"--admin.listen", "admin.listen", c.Admin},
		{"--log.level", "log.level", c.LogLevel},
		{"--log.format", "log.format", c.LogFormat},
	} {
		if flag.value != nil {
			given = append(given, config.Override{Origin: flag.name, Setting: flag.setting, Value: *flag.value})
		}
	}
	return given
}

// run does what the arguments ask for: it serves until ctx is done, or prints
// help or the version. Exit ends the process at once.
func run(ctx context.Context, args []string, stdout, stderr io.Writer, exit func(code int)) error {
	var line commandLine
	printed := false // kong has answered --help or --version
	parser, err := kong.New(&line,
		kong.Name("quorate"),
		kong.Description(about),
		kong.Vars{"version": "quorate " + version()},
		kong.Writers(stdout, stderr),
		kong.Exit(func(int) { printed = true }),
	)
	if err != nil {
		return err
	}
	_, err = parser.Parse(args)
	if printed {
		return nil
	}
	if err != nil {
		return fmt.Errorf("%w (quorate --help lists the flags)", err)
	}
	cfg, err := config.Load(line.ConfigFile, line.overrides()...)
	if err != nil {
		return err
	}
	return serve(ctx, cfg, stderr, exit)
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

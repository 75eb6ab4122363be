package main

import (
	"bytes"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/quorate/quorate/internal/config"
)

// exitInTest stands in for os.Exit where nothing should end the process.
func exitInTest(code int) { panic(code) }

func TestHelpNamesEveryFlagWithItsDefault(t *testing.T) {
	var stdout, stderr bytes.Buffer
	if err := run(t.Context(), []string{"--help"}, &stdout, &stderr, exitInTest); err != nil {
		t.Fatal(err)
	}
	// The text wraps, so compare without its layout.
	text := strings.Join(strings.Fields(stdout.String()), " ")
	c := config.Default()
	for _, want := range []string{
		"--config.file=FILE", "--version",
		"--data.dir=DIR Where everything is kept (default " + c.DataDir + ")",
		"--http.listen=HOST:PORT", "(default " + c.HTTP.Listen + ")",
		"--admin.listen=HOST:PORT", "(default " + c.Admin.Listen + ")",
		"--peer.listen=HOST:PORT", "(default " + c.Peer.Listen + ")", "--cluster.join=", "--cluster.expect=N", "--cluster.local=N",
		"--log.level=LEVEL", "(default " + c.Log.Level + ")",
		"--log.format=FORMAT", "(default " + c.Log.Format + ")",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the help lacks %q:\n%s", want, &stdout)
		}
	}
}

func TestVersionIsPrinted(t *testing.T) {
	for _, arg := range []string{"--version", "version"} {
		var stdout, stderr bytes.Buffer
		if err := run(t.Context(), []string{arg}, &stdout, &stderr, exitInTest); err != nil {
			t.Fatal(err)
		}
		if !regexp.MustCompile(`^quorate \S+ go1\.\S+\n$`).Match(stdout.Bytes()) {
			t.Errorf("%s printed %q", arg, &stdout)
		}
	}
}

func TestHelpOfACommandSaysWhatItTakes(t *testing.T) {
	for command, wants := range map[string][]string{
		"serve":  {"--data.dir=DIR", "drains the server"},
		"import": {"<PATH> ...", "--url=URL", "--tenant=NAME", "--tenant-header=HEADER", "--match=SELECTOR", "--from=TIME", "--to=TIME", "--batch-samples=N", "--concurrency=N", "--state=FILE", "--dry-run", "--continue-on-error", "--give-up-after=DURATION", "snapshot"},
		"export": {"--url=URL", "--from=TIME", "--to=TIME", "--match=SELECTOR", "--block-span=DURATION", "--output=DIR", "promtool"},
		"verify": {"<DIR>", "--json", "--verbose", "exit code"},
		"ctl":    {"nodes", "buckets", "sets", "controllers"},
	} {
		var stdout, stderr bytes.Buffer
		if err := run(t.Context(), []string{command, "--help"}, &stdout, &stderr, exitInTest); err != nil {
			t.Fatal(err)
		}
		for _, want := range append(wants, "Usage: quorate "+command) {
			if !strings.Contains(stdout.String(), want) {
				t.Errorf("the help of %s lacks %q:\n%s", command, want, &stdout)
			}
		}
	}
	var stdout, stderr bytes.Buffer
	if err := run(t.Context(), []string{"--help"}, &stdout, &stderr, exitInTest); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"  serve ", "  import ", "  export ", "  verify ", "  version ", "Exit codes: 0"} {
		if !strings.Contains(stdout.String(), want) {
			t.Errorf("the help lacks %q:\n%s", want, &stdout)
		}
	}
}

func TestWrongArgumentsOfAToolHaveACodeOfTheirOwn(t *testing.T) {
	for name, c := range map[string]struct {
		args []string
		says string
		code int
	}{
		"an unknown flag":                 {[]string{"import", "--nonsense", "x"}, "unknown flag", exitUsage},
		"no path":                         {[]string{"import"}, "PATH", exitUsage},
		"a bad selector":                  {[]string{"import", "--match={", "x"}, `selector "{"`, exitUsage},
		"a URL of another kind":           {[]string{"import", "--url=ftp://x", "x"}, "want http://", exitUsage},
		"a bad time":                      {[]string{"import", "--from=yesterday", "x"}, "yesterday", exitUsage},
		"a path that is not there":        {[]string{"import", "--state=", t.TempDir() + "/x"}, "no such file", exitFailed},
		"an export without an output":     {[]string{"export", "--from=1", "--to=2"}, "--output", exitUsage},
		"an export of nothing":            {[]string{"export", "--from=2", "--to=1", "--output=x"}, "is empty", exitUsage},
		"a directory that is no server's": {[]string{"verify", t.TempDir()}, "no data directory", exitUsage},
		"a server's setting":              {[]string{"--log.level=loud"}, `--log.level: "loud"`, exitUsage},
	} {
		t.Run(name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			err := run(t.Context(), c.args, &stdout, &stderr, exitInTest)
			if err == nil || !strings.Contains(err.Error(), c.says) || exitCode(err) != c.code {
				t.Errorf("got %v with code %d, want %q with %d", err, exitCode(err), c.says, c.code)
			}
		})
	}
}

func TestTimesAreReadInTwoForms(t *testing.T) {
	for text, want := range map[string]int64{
		"2026-11-21T00:00:00Z": 1795219200000, "2026-11-21T01:00:00+01:00": 1795219200000, "1795219200": 1795219200000, "1.5": 1500,
	} {
		var at instant
		if err := at.UnmarshalText([]byte(text)); err != nil || at.ms != want {
			t.Errorf("%s is read as %d, %v; want %d", text, at.ms, err, want)
		}
	}
	for _, text := range []string{"", "now", "NaN", "1e300", "2026-11-21"} {
		var at instant
		if err := at.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q is read as %d", text, at.ms)
		}
	}
}

func TestWhatCannotBeServedStopsTheStart(t *testing.T) {
	file := t.TempDir() + "/quorate.yml"
	if err := os.WriteFile(file, []byte("log:\n  level: loud\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"an unknown flag":          {[]string{"--data-dir=x"}, "unknown flag --data-dir"},
		"an unknown command":       {[]string{"server"}, "unexpected argument server"},
		"a server's bad flag":      {[]string{"serve", "--log.level=loud"}, `--log.level: "loud"`},
		"a bad value of a flag":    {[]string{"--http.listen=here"}, `--http.listen: "here" is not host:port`},
		"an empty value of a flag": {[]string{"--data.dir="}, "--data.dir: data_dir: is empty"},
		"a bad value in the file":  {[]string{"--config.file=" + file}, file + `:2: log.level: "loud" is none of`},
		"a file that is not there": {[]string{"--config.file=" + file + "x"}, "no such file"},
		"an address for strangers": {[]string{"--http.listen=0.0.0.0:0"}, "http.allow_insecure"},
	} {
		t.Run(name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			err := run(t.Context(), c.args, &stdout, &stderr, exitInTest)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

func TestEveryFlagOverridesItsSetting(t *testing.T) {
	value := func(s string) *string { return &s }
	line := serveCommand{
		DataDir: value("d"), HTTPListen: value("127.0.0.1:1"), Admin: value("127.0.0.1:2"),
		NodeName: value("n"), PeerListen: value("127.0.0.1:3"), Join: value("127.0.0.1:4"), Expect: value("1"),
		Zone: value("z"), Replicas: value("3"), LogLevel: value("warn"), LogFormat: value("json"),
	}
	got, err := config.Load("", line.overrides()...)
	if err != nil {
		t.Fatal(err)
	}
	want := config.Default()
	want.DataDir, want.HTTP.Listen, want.Admin.Listen = "d", "127.0.0.1:1", "127.0.0.1:2"
	want.NodeName, want.Peer.Listen, want.Buckets.Replicas = "n", "127.0.0.1:3", 3
	want.Cluster.Join, want.Cluster.Expect, want.Cluster.Zone = "127.0.0.1:4", 1, "z"
	want.Log = config.Log{Level: "warn", Format: "json"}
	if got != want {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	given := reflect.TypeFor[serveCommand]()
	flags := 0
	for i := range given.NumField() {
		if given.Field(i).Type == reflect.TypeFor[*string]() {
			flags++
		}
	}
	if len(line.overrides()) != flags {
		t.Errorf("%d flags, %d overrides: a flag does nothing", flags, len(line.overrides()))
	}
}

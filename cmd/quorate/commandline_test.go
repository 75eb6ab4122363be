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
		"--log.level=LEVEL", "(default " + c.Log.Level + ")",
		"--log.format=FORMAT", "(default " + c.Log.Format + ")",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the help lacks %q:\n%s", want, &stdout)
		}
	}
}

func TestVersionIsPrinted(t *testing.T) {
	var stdout, stderr bytes.Buffer
	if err := run(t.Context(), []string{"--version"}, &stdout, &stderr, exitInTest); err != nil {
		t.Fatal(err)
	}
	if !regexp.MustCompile(`^quorate \S+ go1\.\S+\n$`).Match(stdout.Bytes()) {
		t.Errorf("printed %q", &stdout)
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
		"an argument":              {[]string{"serve"}, "unexpected argument serve"},
		"a bad value of a flag":    {[]string{"--http.listen=here"}, `--http.listen: http.listen: "here" is not host:port`},
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
	line := commandLine{
		DataDir: value("d"), HTTPListen: value("127.0.0.1:1"), Admin: value("127.0.0.1:2"),
		LogLevel: value("warn"), LogFormat: value("json"),
	}
	got, err := config.Load("", line.overrides()...)
	if err != nil {
		t.Fatal(err)
	}
	want := config.Default()
	want.DataDir, want.HTTP.Listen, want.Admin.Listen = "d", "127.0.0.1:1", "127.0.0.1:2"
	want.Log = config.Log{Level: "warn", Format: "json"}
	if got != want {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	given := reflect.TypeFor[commandLine]()
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

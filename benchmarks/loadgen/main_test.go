package main

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/alecthomas/kong"

	"github.com/quorate/quorate/benchmarks"
)

// parse reads a command line as main does.
func parse(t *testing.T, args ...string) *commandLine {
	t.Helper()
	var cl commandLine
	parser, err := kong.New(&cl)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parser.Parse(args); err != nil {
		t.Fatal(err)
	}
	return &cl
}

func serverThatAnswers(t *testing.T, status int) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }))
	t.Cleanup(s.Close)
	return s.URL
}

func TestTheReportIsPrinted(t *testing.T) {
	url := serverThatAnswers(t, http.StatusOK)
	t.Run("as a table", func(t *testing.T) {
		var out bytes.Buffer
		if err := parse(t, "--url", url, "--ready", url, "--series=10", "--rounds=2").run(t.Context(), &out); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(out.String(), "| steady |") {
			t.Errorf("no row for the steady phase:\n%s", out.String())
		}
	})
	t.Run("as JSON", func(t *testing.T) {
		var out bytes.Buffer
		if err := parse(t, "--url", url, "--series=10", "--rounds=2", "--start=2026-11-21T02:00:00Z", "--json").run(t.Context(), &out); err != nil {
			t.Fatal(err)
		}
		var report benchmarks.Report
		if err := json.Unmarshal(out.Bytes(), &report); err != nil {
			t.Fatal(err)
		}
		if report.Acknowledged() != 20 || report.Start.Unix() != 1795226400 {
			t.Errorf("report of %d samples from %s, want 20 from 2026-11-21T02:00:00Z", report.Acknowledged(), report.Start)
		}
	})
}

func TestFailedRequestsAreAnErrorAfterTheReport(t *testing.T) {
	url := serverThatAnswers(t, http.StatusBadRequest)
	var out bytes.Buffer
	err := parse(t, "--url", url, "--series=10", "--rounds=1").run(t.Context(), &out)
	if err == nil || !strings.Contains(err.Error(), "1 requests failed") {
		t.Errorf("error %v, want one that counts the failed request", err)
	}
	if !strings.Contains(out.String(), "failure: 400 Bad Request") {
		t.Errorf("the report does not name the failure:\n%s", out.String())
	}
}

func TestCommandLinesThatCannotBe(t *testing.T) {
	for _, test := range []struct{ name, arg, want string }{
		{"a start that is no time", "--start=yesterday", "--start"},
		{"no series", "--series=0", "0 series"},
		{"a server elsewhere", "--url=http://192.0.2.1/", "not loopback"},
		{"a server elsewhere to wait for", "--ready=http://192.0.2.1/", "not loopback"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var out bytes.Buffer
			err := parse(t, test.arg).run(t.Context(), &out)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want one with %q", err, test.want)
			}
		})
	}
}

func TestAProfileGoesToItsFile(t *testing.T) {
	if cfg := parse(t).config(); len(cfg.Profiles) != 0 {
		t.Errorf("profiles without being asked for: %v", cfg.Profiles)
	}
	want := []benchmarks.Profile{{URL: "http://localhost/p", Path: "x"}}
	if cfg := parse(t, "--profile=http://localhost/p", "--profile-out=x").config(); !slices.Equal(cfg.Profiles, want) {
		t.Errorf("profiles %v, want %v", cfg.Profiles, want)
	}
}

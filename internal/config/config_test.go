package config

import (
	"flag"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write the tables of docs/config.md anew")

const document = "../../docs/config.md"

func TestNoFileGivesTheDefaults(t *testing.T) {
	got, err := Load("")
	if err != nil {
		t.Fatal(err)
	}
	if got != Default() {
		t.Errorf("Load(\"\") = %+v, want %+v", got, Default())
	}
}

func TestTheDefaultsObeyTheirOwnRules(t *testing.T) {
	c := Default()
	for _, s := range settings(&c) {
		if err := s.value.set(s.value.String()); err != nil {
			t.Errorf("default of %s: %v", s.path, err)
		}
	}
	if c != Default() {
		t.Errorf("printing and parsing the defaults gives %+v, want %+v", c, Default())
	}
}

func TestEveryFieldIsOneSetting(t *testing.T) {
	var c Config
	bound := map[any][]string{}
	for _, s := range settings(&c) {
		bound[s.value.target()] = append(bound[s.value.target()], s.path)
	}
	count := 0
	var walk func(v reflect.Value, name string)
	walk = func(v reflect.Value, name string) {
		if v.Kind() == reflect.Struct {
			for i := range v.NumField() {
				walk(v.Field(i), name+"."+v.Type().Field(i).Name)
			}
			return
		}
		count++
		if paths := bound[v.Addr().Interface()]; len(paths) != 1 {
			t.Errorf("field Config%s is bound to the settings %q, want exactly one: declare it in settings.go", name, paths)
		}
	}
	walk(reflect.ValueOf(&c).Elem(), "")
	if count != len(bound) {
		t.Errorf("%d fields, %d settings", count, len(bound))
	}
}

// The document's tables are generated from the declarations, so that they
// cannot disagree; what stands around them is written by hand.
func TestTheDocumentHasEverySetting(t *testing.T) {
	content, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	const begin, end = "<!-- settings: begin (generated: go test ./internal/config -run Document -update) -->\n", "<!-- settings: end -->"
	before, rest, found := strings.Cut(string(content), begin)
	_, after, foundEnd := strings.Cut(rest, end)
	if !found || !foundEnd {
		t.Fatalf("%s lacks the line %q or %q", document, begin, end)
	}
	want := before + begin + settingsTables() + end + after
	if string(content) == want {
		return
	}
	if !*update {
		t.Fatalf("%s is not what the declarations say; run: go test ./internal/config -run Document -update", document)
	}
	if err := os.WriteFile(document, []byte(want), 0o644); err != nil {
		t.Fatal(err)
	}
}

func settingsTables() string {
	c := Default()
	var b strings.Builder
	section := "-"
	for _, s := range settings(&c) {
		if s.section() != section {
			section = s.section()
			title := "`" + section + "`"
			if section == "" {
				title = "Top level"
			}
			fmt.Fprintf(&b, "\n### %s\n\n| setting | value | default | meaning |\n|---|---|---|---|\n", title)
		}
		preset := "`" + s.value.String() + "`"
		if s.value.String() == "" {
			preset = "empty"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", s.path, s.value.kind()+": "+s.value.rule(), preset, s.meaning)
	}
	return b.String() + "\n"
}

func TestBytesAreReadAndPrintedInHumanForms(t *testing.T) {
	for text, want := range map[string]Bytes{
		"0": 0, "17": 17, "17B": 17, "64KiB": 65536, "64 MiB": 64 * MiB, "2GiB": 2 * GiB, "1KB": 1000, "3MB": 3_000_000, "1GB": 1_000_000_000,
	} {
		got, err := ParseBytes(text)
		if err != nil || got != want {
			t.Errorf("ParseBytes(%q) = %d, %v, want %d", text, got, err, want)
		}
		again, err := ParseBytes(got.String())
		if err != nil || again != got {
			t.Errorf("ParseBytes(%q) = %d, %v, want %d", got.String(), again, err, got)
		}
	}
	for _, text := range []string{"", "MiB", "-1", "-1MiB", "1.5MiB", "1TiB", "1 2", "9223372036854775807KiB", "0x10", "1_000"} {
		if got, err := ParseBytes(text); err == nil {
			t.Errorf("ParseBytes(%q) = %d, want an error", text, got)
		}
	}
}

func TestAFileChangesWhatItNames(t *testing.T) {
	got, err := Load(write(t, `
node_name: pear-7
data_dir: /srv/quorate   # a comment
http:
  listen: "[::1]:9000"
  allow_insecure: true
admin:
multi_tenancy: {enabled: true, header: X-Tenant}
write:
  max_wire_bytes: 1048576
  max_label_names: 60
query:
  timeout: 1m30s
buckets: {span: 12h, retention: 90d}
log:
  level: debug
  format: json
`), Override{"--log.level", "log.level", "error"})
	if err != nil {
		t.Fatal(err)
	}
	want := Default()
	want.NodeName, want.DataDir = "pear-7", "/srv/quorate"
	want.HTTP.Listen, want.HTTP.AllowInsecure = "[::1]:9000", true
	want.MultiTenancy = MultiTenancy{Enabled: true, Header: "X-Tenant"}
	want.Write.MaxWireBytes, want.Write.MaxLabelNames = MiB, 60
	want.Query.Timeout = 90 * time.Second
	want.Buckets.Span, want.Buckets.Retention = 12*time.Hour, 90*24*time.Hour
	want.Log = Log{Level: "error", Format: "json"}
	if got != want {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func write(t *testing.T, content string) string {
	t.Helper()
	path := t.TempDir() + "/quorate.yml"
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

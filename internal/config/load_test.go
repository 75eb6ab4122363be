package config

import (
	"errors"
	"io/fs"
	"os"
	"strings"
	"testing"
)

func TestAnErrorNamesFileLineSettingAndRule(t *testing.T) {
	for name, c := range map[string]struct{ file, want string }{
		"an unknown setting":          {"log:\n  levle: info", `:2: log.levle: is not a setting; known here: level, format`},
		"an unknown section":          {"\nquerry:\n  timeout: 1m", `:2: querry: is not a setting; known here: node_name, data_dir, http, `},
		"a setting used as a section": {"data_dir:\n  x: 1", `:2: data_dir: wants one path, not a list or a section`},
		"a section used as a setting": {"log: info", `:1: log: is not a list of`},
		"a list as the file":          {"- a\n- b", `:1: the file: is not a list of`},
		"a setting set twice":         {"data_dir: a\nnode_name: b\ndata_dir: c", `:3: data_dir: is set twice, first on line 1`},
		"a section set twice":         {"log: {level: info}\nlog: {level: warn}", `:2: log: is set twice, first on line 1`},
		"a setting written with dots": {"query.timeout: 1m\nquery: {timeout: 3m}", `:1: query.timeout: is written with dots`},
		"a setting without a value":   {"query:\n  timeout:\n", `:2: query.timeout: has no value; it wants one duration`},
		"an empty text":               {`data_dir: ""`, `:1: data_dir: is empty`},
		"a word for a number":         {"query:\n  concurrency: many", `:2: query.concurrency: "many" is not a whole number`},
		"a quoted number":             {"query:\n  concurrency: \"20\"", `:2: query.concurrency: "20" is not a whole number`},
		"a fraction for a number":     {"query:\n  concurrency: 1.5", `:2: query.concurrency: "1.5" is not a whole number`},
		"a number out of range":       {"buckets:\n\n  shards: 0", `:3: buckets.shards: 0 is outside 1 to 1024`},
		"yes for true":                {"multi_tenancy:\n  enabled: yes", `:2: multi_tenancy.enabled: "yes" is not a boolean`},
		"a bad size":                  {"raft:\n  segment_bytes: 8 mib", `:2: raft.segment_bytes: "8 mib" is not a size such as`},
		"a size out of range":         {"raft: {segment_bytes: 2GiB}", `:1: raft.segment_bytes: 2GiB is outside 64KiB to 256MiB`},
		"a bad duration":              {"query: {timeout: 5x}", `:1: query.timeout: "5x" is not a duration such as`},
		"a duration without a unit":   {"query: {timeout: 5}", `:1: query.timeout: "5" is not a duration such as`},
		"a negative duration":         {"query: {timeout: -5s}", `:1: query.timeout: "-5s" is not a duration such as`},
		"a duration out of range":     {"flush: {max_age: 2d}", `:1: flush.max_age: 2d is outside 1s to 1d`},
		"a word that is no choice":    {"log: {level: loud}", `:1: log.level: "loud" is none of debug, info, warn, error`},
		"an alias":                    {"log: {level: &a info, format: *a}", `:1: log.format: is an alias`},
		"a bad node name":             {"node_name: a/b", `:1: node_name: "a/b" has the byte '/' at offset 1`},
		"a bad header name":           {"multi_tenancy: {header: 'X Y'}", `:1: multi_tenancy.header: "X Y" is not a valid HTTP header name`},
		"an address without a port":   {"http: {listen: localhost}", `:1: http.listen: "localhost" is not host:port`},
		"an address with a bad port":  {"http: {listen: 'localhost:99999'}", `:1: http.listen: "localhost:99999" has no port of 0 to 65535`},
		"a missing web configuration": {"http: {web_config_file: /nowhere/web.yml}", `:1: http.web_config_file: web configuration /nowhere/web.yml: `},
		"profiles for strangers":      {"admin: {listen: '0.0.0.0:9242'}", `:1: admin.listen: "0.0.0.0:9242" is not a loopback address`},
		"two listeners on one port":   {"admin: {listen: '127.0.0.1:9240'}", `:1: admin.listen: "127.0.0.1:9240" is http.listen, too`},
		"a body larger than decoded":  {"write:\n  max_wire_bytes: 128MiB", `:2: write.max_wire_bytes: 128MiB is more than write.max_decoded_bytes, which is 64MiB`},
		"a limit below another":       {"write:\n  max_in_flight_bytes: 32MiB", `:2: write.max_decoded_bytes: 64MiB is more than write.max_in_flight_bytes, which is 32MiB`},
		"a late window over the span": {"buckets:\n  late_window: 25h", `:2: buckets.late_window: 1d1h is more than buckets.span, which is 1d`},
		"one shard over all":          {"flush:\n  max_memcache_bytes: 1GiB", `:2: flush.max_memcache_bytes: 1GiB is more than flush.max_total_memcache_bytes, which is 256MiB`},
		"retention under the span":    {"buckets:\n  retention: 12h", `:2: buckets.span: 1d is more than buckets.retention, which is 12h`},
		"a tab":                       {"log:\n\tlevel: info", `: yaml: `},
		"two documents":               {"node_name: a\n---\nnode_name: b", `:2: a second YAML document`},
		"a second broken document":    {"node_name: a\n---\n[", `: yaml: `},
	} {
		t.Run(name, func(t *testing.T) {
			path := write(t, c.file)
			_, err := Load(path)
			if err == nil {
				t.Fatal("no error")
			}
			if !strings.HasPrefix(err.Error(), path) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %q\nwant the path and %q", err, c.want)
			}
		})
	}
}

func TestAllErrorsAreReportedAtOnce(t *testing.T) {
	_, err := Load(write(t, "log:\n  level: loud\nquery:\n  concurrency: 0\nx: 1"), Override{"--data.dir", "data_dir", ""})
	var first *Error
	if !errors.As(err, &first) || first.Setting != "log.level" {
		t.Errorf("errors.As gives %+v, want the Error of log.level", first)
	}
	if got := strings.Count(err.Error(), "\n"); got != 3 {
		t.Errorf("got %d errors, want 4:\n%v", got+1, err)
	}
	if !strings.Contains(err.Error(), "--data.dir: data_dir: is empty") {
		t.Errorf("the flag's error is not named by the flag:\n%v", err)
	}
}

func TestAMissingFileStopsTheStart(t *testing.T) {
	if _, err := Load(t.TempDir() + "/none.yml"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want fs.ErrNotExist", err)
	}
}

func TestEmptyFilesAreFine(t *testing.T) {
	for _, content := range []string{"", "# nothing\n", "---\n", "{}", "log:\n", "log: {}\n"} {
		got, err := Load(write(t, content))
		if err != nil || got != Default() {
			t.Errorf("Load of %q = %+v, %v", content, got, err)
		}
	}
}

func TestStrangersAreServedOnlyWhenAskedTo(t *testing.T) {
	const hash = "$2y$10$QOauhQNbBCuQDKes6eFzPeMqBSjb7Mr5DUmpZ/VcEd00UAV/LDeSi"
	webConfig := func(content string) string {
		path := t.TempDir() + "/web.yml"
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	withUsers := webConfig("basic_auth_users:\n  alice: " + hash + "\n")
	withHeaders := webConfig("http_server_config:\n  http2: false\n")
	for name, c := range map[string]struct {
		file   string
		served bool
	}{
		"loopback v4":                          {"http: {listen: '127.0.0.1:1'}", true},
		"another loopback v4":                  {"http: {listen: '127.8.0.1:1'}", true},
		"loopback v6":                          {"http: {listen: '[::1]:1'}", true},
		"localhost":                            {"http: {listen: 'localhost:1'}", true},
		"every address":                        {"http: {listen: '0.0.0.0:1'}", false},
		"every address by omission":            {"http: {listen: ':1'}", false},
		"every v6 address":                     {"http: {listen: '[::]:1'}", false},
		"a name":                               {"http: {listen: 'db.example.org:1'}", false},
		"every address, insecure allowed":      {"http: {listen: ':1', allow_insecure: true}", true},
		"every address, with passwords":        {"http: {listen: ':1', web_config_file: " + withUsers + "}", true},
		"every address, web file without auth": {"http: {listen: ':1', web_config_file: " + withHeaders + "}", false},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Load(write(t, c.file))
			if c.served && err != nil {
				t.Errorf("got %v, want it served", err)
			}
			var refusal *Error
			if !c.served && (!errors.As(err, &refusal) || refusal.Setting != "http.listen" || !strings.Contains(err.Error(), "http.allow_insecure: true")) {
				t.Errorf("got %v, want it refused with the way out", err)
			}
		})
	}
}

func FuzzLoad(f *testing.F) {
	f.Add([]byte("log: {level: info}\nquery:\n  timeout: 1m\n"))
	f.Add([]byte("a: &x [*x]\n<<: *x\n"))
	f.Fuzz(func(t *testing.T, content []byte) {
		l := newLoader()
		if err := l.readFile("f", content); err != nil {
			return
		}
		l.checkTogether()
		for _, s := range l.known {
			if err := s.value.set(s.value.String()); err != nil {
				t.Errorf("%s holds %q, which it would refuse: %v", s.path, s.value, err)
			}
		}
	})
}

package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Override is a setting given outside the file. It wins over the file.
type Override struct {
	// Origin names it in errors, as "--query.timeout".
	Origin string
	// Setting is its path in the file.
	Setting string
	Value   string
}

// Load returns the defaults, changed by the YAML file at path, changed by the
// overrides; an empty path reads no file. The result is valid as a whole. The
// error joins an *Error for every setting that cannot stand; a file that is no
// YAML at all is the only error with a line but without a setting.
func Load(path string, overrides ...Override) (Config, error) {
	l := newLoader()
	if path != "" {
		content, err := os.ReadFile(path)
		if err != nil {
			return Config{}, fmt.Errorf("read the configuration: %w", err)
		}
		if err := l.readFile(path, content); err != nil {
			return Config{}, err
		}
	}
	for _, o := range overrides {
		l.set(o.Origin, o.Setting, o.Value)
	}
	l.checkTogether()
	if len(l.errs) > 0 {
		return Config{}, errors.Join(l.errs...)
	}
	return *l.config, nil
}

// loader collects values, where each came from, and what was wrong.
type loader struct {
	config  *Config
	known   []setting         // bound to config
	origins map[string]string // by path, of the settings that were set
	errs    []error
}

func newLoader() *loader {
	c := Default()
	return &loader{config: &c, known: settings(&c), origins: map[string]string{}}
}

func (l *loader) readFile(name string, content []byte) error {
	decoder := yaml.NewDecoder(bytes.NewReader(content))
	var document yaml.Node
	switch err := decoder.Decode(&document); {
	case errors.Is(err, io.EOF): // nothing but comments
		return nil
	case err != nil:
		return fmt.Errorf("%s: %w", name, err)
	}
	var second yaml.Node
	switch err := decoder.Decode(&second); {
	case err == nil:
		return fmt.Errorf("%s:%d: a second YAML document; the settings are one", name, second.Line)
	case !errors.Is(err, io.EOF):
		return fmt.Errorf("%s: %w", name, err)
	}
	l.readSection(name, "", document.Content[0])
	return nil
}

// readSection reads a mapping whose keys are settings, or at the top ("")
// settings and sections.
func (l *loader) readSection(file, section string, node *yaml.Node) {
	if node.Kind == yaml.ScalarNode && node.ShortTag() == "!!null" {
		return // "http:" with everything under it commented out
	}
	where := section
	if section == "" {
		where = "the file"
	}
	if node.Kind != yaml.MappingNode {
		l.fail(origin(file, node), where, errors.New("is not a list of `name: value` lines"))
		return
	}
	seen := map[string]int{}
	for i := 0; i+1 < len(node.Content); i += 2 {
		key, item := node.Content[i], node.Content[i+1]
		path := key.Value
		if section != "" {
			path = section + "." + path
		}
		if first, twice := seen[path]; twice {
			l.fail(origin(file, key), path, fmt.Errorf("is set twice, first on line %d", first))
			continue
		}
		seen[path] = key.Line
		switch {
		case section == "" && l.isSection(key.Value):
			l.readSection(file, key.Value, item)
		case strings.Contains(key.Value, ".") && l.find(path) != nil:
			// One way to write a setting, so that it cannot stand there twice.
			l.fail(origin(file, key), path, errors.New("is written with dots; write it under its section"))
		case l.find(path) == nil:
			l.fail(origin(file, key), path, l.unknown(section))
		default:
			l.readValue(origin(file, item), path, item)
		}
	}
}

func (l *loader) readValue(from, path string, node *yaml.Node) {
	v := l.find(path).value
	tag := node.ShortTag()
	switch tags := v.tags(); {
	case node.Kind == yaml.AliasNode:
		l.fail(from, path, errors.New("is an alias; write the value itself"))
	case node.Kind != yaml.ScalarNode:
		l.fail(from, path, fmt.Errorf("wants one %s, not a list or a section", v.kind()))
	case tag == "!!null":
		l.fail(from, path, fmt.Errorf("has no value; it wants one %s", v.kind()))
	case tags != nil && !slices.Contains(tags, tag):
		l.fail(from, path, fmt.Errorf("%q is not a %s", node.Value, v.kind()))
	default:
		l.set(from, path, node.Value)
	}
}

func (l *loader) set(from, path, text string) {
	s := l.find(path)
	if s == nil {
		l.fail(from, path, errors.New("is not a setting"))
		return
	}
	if err := s.value.set(text); err != nil {
		l.fail(from, path, err)
		return
	}
	l.origins[path] = from
}

// checkTogether judges the rules that bind two settings. Each is reported
// where the setting that it constrains was set.
func (l *loader) checkTogether() {
	c := l.config
	atMost := func(lower, upper string, holds bool) {
		if !holds {
			l.failTogether(lower, upper, fmt.Errorf("%v is more than %s, which is %v",
				l.find(lower).value, upper, l.find(upper).value))
		}
	}
	atMost("write.max_wire_bytes", "write.max_decoded_bytes", c.Write.MaxWireBytes <= c.Write.MaxDecodedBytes)
	atMost("write.max_decoded_bytes", "write.max_in_flight_bytes", c.Write.MaxDecodedBytes <= c.Write.MaxInFlightBytes)
	atMost("flush.max_memcache_bytes", "flush.max_total_memcache_bytes", c.Flush.MaxMemcacheBytes <= c.Flush.MaxTotalMemcacheBytes)
	atMost("storage.full_space_bytes", "storage.low_space_bytes", c.Storage.FullSpaceBytes <= c.Storage.LowSpaceBytes)
	atMost("storage.reserve_space_bytes", "storage.full_space_bytes", c.Storage.ReserveSpaceBytes <= c.Storage.FullSpaceBytes)
	for _, rule := range bucketRules(&c.Buckets) {
		atMost(rule.lower, rule.upper, rule.holds)
	}
	if samePort(c.HTTP.Listen, c.Admin.Listen) {
		l.failTogether("admin.listen", "http.listen", fmt.Errorf("%q is http.listen, too", c.Admin.Listen))
	}
	l.checkExposure()
	l.checkCluster()
}

// checkExposure refuses to serve strangers without having been asked to.
func (l *loader) checkExposure() {
	h := l.config.HTTP
	if isLoopback(h.Listen) || h.AllowInsecure {
		return
	}
	why := "no http.web_config_file authenticates them"
	if h.WebConfigFile != "" {
		known, err := webConfigAuthenticates(h.WebConfigFile)
		if err != nil {
			l.fail(l.origins["http.web_config_file"], "http.web_config_file", err)
			return
		}
		if known {
			return
		}
		why = h.WebConfigFile + " authenticates nobody (it has no basic_auth_users, nor client_auth_type: RequireAndVerifyClientCert)"
	}
	l.failTogether("http.listen", "http.allow_insecure", fmt.Errorf(
		"%q can be reached by others, and %s; give one that does, or set http.allow_insecure: true", h.Listen, why))
}

func (l *loader) fail(from, path string, err error) {
	l.errs = append(l.errs, &Error{Origin: from, Setting: path, Err: err})
}

// failTogether reports a rule between two settings at the one of them that was
// set, the first rather than the second.
func (l *loader) failTogether(path, other string, err error) {
	from, set := l.origins[path]
	if !set {
		if from, set = l.origins[other]; !set {
			from = "default"
		}
	}
	l.fail(from, path, err)
}

func (l *loader) find(path string) *setting {
	i := slices.IndexFunc(l.known, func(s setting) bool { return s.path == path })
	if i < 0 {
		return nil
	}
	return &l.known[i]
}

func (l *loader) isSection(name string) bool {
	return slices.ContainsFunc(l.known, func(s setting) bool { return s.section() == name && name != "" })
}

// unknown says what could have stood there instead.
func (l *loader) unknown(section string) error {
	var names []string
	for _, s := range l.known {
		name := strings.TrimPrefix(s.path, section+".")
		if s.section() != section {
			if section != "" {
				continue
			}
			name = s.section()
		}
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return fmt.Errorf("is not a setting; known here: %s", strings.Join(names, ", "))
}

func origin(file string, node *yaml.Node) string { return fmt.Sprintf("%s:%d", file, node.Line) }

package e2e

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"text/template"
)

// realPrometheus is a running Prometheus that scrapes and writes to a server.
type realPrometheus struct {
	*process
	address string
	config  prometheusConfig
	path    string
}

// prometheusConfig is what differs between the configurations of the tests.
type prometheusConfig struct {
	Own, Quorate, Shop string // addresses
	Protobuf           string // the message of remote write
	Scrape             bool
}

// CustomBuckets tells whether remote write takes histograms with custom buckets.
func (c prometheusConfig) CustomBuckets() bool { return c.Protobuf == remoteWrite2 }

const (
	remoteWrite1 = "prometheus.WriteRequest"
	remoteWrite2 = "io.prometheus.write.v2.Request"
)

// The jobs cover what a scrape can carry: exemplars, classic and native
// histograms with integer buckets, histograms with custom buckets, a target
// that does not answer, and names in UTF-8, for which Prometheus asks only when
// it scrapes text. There are no external
// labels, so that both servers hold the same series.
const prometheusYAML = `
global:
  scrape_interval: 1s
  scrape_timeout: 1s
  scrape_native_histograms: true
  always_scrape_classic_histograms: true
{{- if .Scrape}}
scrape_configs:
- job_name: prometheus
  static_configs: [{targets: ["{{.Own}}"]}]
- job_name: quorate
  static_configs: [{targets: ["{{.Quorate}}"]}]
- job_name: shop
  static_configs: [{targets: ["{{.Shop}}"]}]
- job_name: shop-text
  scrape_native_histograms: false
  scrape_protocols: [OpenMetricsText1.0.0]
  static_configs: [{targets: ["{{.Shop}}"]}]
{{/* Prometheus drops histograms with custom buckets when it writes by 1.0. */}}
{{- if .CustomBuckets}}
- job_name: shop-custom-buckets
  always_scrape_classic_histograms: false
  convert_classic_histograms_to_nhcb: true
  static_configs: [{targets: ["{{.Shop}}"]}]
{{- end}}
- job_name: nobody
  static_configs: [{targets: ["127.0.0.1:1"]}]
{{- end}}
remote_write:
- url: http://{{.Quorate}}/api/v1/write
  protobuf_message: {{.Protobuf}}
  send_exemplars: true
  send_native_histograms: true
  metadata_config: {send: true, send_interval: 1s}
  queue_config: {batch_send_deadline: 1s}
`

// startPrometheus starts a real Prometheus with its own empty storage.
func startPrometheus(t *testing.T, quorate, shop, protobuf string) *realPrometheus {
	t.Helper()
	binary, _ := buildPrometheus(t)
	dir := t.TempDir()
	p := &realPrometheus{address: freeAddress(t), path: filepath.Join(dir, "prometheus.yml")}
	p.config = prometheusConfig{Own: p.address, Quorate: quorate, Shop: shop, Protobuf: protobuf, Scrape: true}
	p.writeConfig(t)
	p.process = startProcess(t, "prometheus", dir, binary,
		"--config.file=prometheus.yml", "--storage.tsdb.path=data", "--web.listen-address="+p.address,
		"--web.enable-lifecycle", "--enable-feature=exemplar-storage,metadata-wal-records")
	p.waitReady(t, p.url("/-/ready"))
	return p
}

func (p *realPrometheus) writeConfig(t *testing.T) {
	t.Helper()
	var out strings.Builder
	if err := template.Must(template.New("").Parse(prometheusYAML)).Execute(&out, p.config); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(p.path, []byte(out.String()), 0o600); err != nil {
		t.Fatal(err)
	}
}

// stopScraping takes all jobs out of the configuration; what was scraped goes
// on being sent.
func (p *realPrometheus) stopScraping(t *testing.T) {
	t.Helper()
	p.config.Scrape = false
	p.writeConfig(t)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, p.url("/-/reload"), http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	if status, body := do(t, req); status != http.StatusOK {
		t.Fatalf("reload Prometheus: %d %s", status, body)
	}
}

func (p *realPrometheus) url(path string) string { return "http://" + p.address + path }

// Package dashboards holds the Grafana dashboards of Quorate's own metrics, and
// what it takes to check them: that every query parses and that every metric in
// it is one that a server exposes.
//
// Import a dashboard in Grafana from its JSON file; it asks for a Prometheus
// data source, of the server that scrapes Quorate's /metrics.
package dashboards

package node

import "github.com/prometheus/client_golang/prometheus"

// passingMetrics registers metrics of something that may end before the node
// does, and come again.
type passingMetrics struct {
	prometheus.Registerer

	registered []prometheus.Collector
}

// Register registers a collector and remembers it.
func (m *passingMetrics) Register(c prometheus.Collector) error {
	if m.Registerer == nil {
		return nil
	}
	if err := m.Registerer.Register(c); err != nil {
		return err
	}
	m.registered = append(m.registered, c)
	return nil
}

// unregister takes back what was registered.
func (m *passingMetrics) unregister() {
	for _, c := range m.registered {
		m.Unregister(c)
	}
	m.registered = nil
}

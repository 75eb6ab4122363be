package metasvc

import "github.com/prometheus/client_golang/prometheus"

// mapGauges count what the newest map shows, when they are asked.
func mapGauges(newest func() *Map) (list []prometheus.Collector) {
	count := func(which func(*ReplicaSet) bool) func() float64 {
		return func() float64 {
			n := 0
			for _, s := range newest().Sets() {
				if which(s) {
					n++
				}
			}
			return float64(n)
		}
	}
	for state := ReplicaSetForming; state <= ReplicaSetDropping; state++ {
		list = append(list, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name:        "quorate_meta_replica_sets",
			Help:        "ReplicaSets in this node's map, by state. A disputed one needs an operator: its replicas differ.",
			ConstLabels: prometheus.Labels{"state": state.String()},
		}, count(func(s *ReplicaSet) bool { return s.State == state })))
	}
	return append(list,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "quorate_meta_sealing_sets",
			Help: "ReplicaSets whose seal is under way, disputed ones included.",
		}, count(func(s *ReplicaSet) bool { return s.Sealing() != nil })),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "quorate_meta_overlays",
			Help: "Overlays that hold late samples of sealed sets and are not sealed into them yet.",
		}, count(func(s *ReplicaSet) bool {
			return s.Base != 0 && s.State != ReplicaSetSealed && s.State != ReplicaSetDropping
		})),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "quorate_meta_sealed_deletions",
			Help: "Deletions that reads of sealed sets apply because no file has them folded in yet.",
		}, func() float64 { return float64(len(newest().tables.deletionIDs)) }),
	)
}

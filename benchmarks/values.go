package benchmarks

import "math"

// kind is how a metric's values move.
type kind uint8

const (
	integerCounter kind = iota // grows by whole numbers each round
	secondsCounter             // grows by milliseconds, counted in seconds
	decimalGauge               // wanders, two decimals
	byteGauge                  // wanders, multiples of 4096
	constantGauge              // never moves
	bucketCounter              // cumulative histogram bucket that moves in one round of six
	fullFloatGauge             // all 53 bits of the mantissa
)

// metrics are what each target exposes: 30 % integer counters, 10 % seconds
// counters, 16 % decimal gauges, 8 % byte gauges, 16 % constants, 16 % rarely
// moving buckets and 4 % floats that no decimal encoding shortens.
var metrics = [...]struct {
	name string
	kind kind
}{
	{"http_requests_total", integerCounter},
	{"http_request_body_bytes_total", integerCounter},
	{"http_response_body_bytes_total", integerCounter},
	{"http_responses_by_status_code_total", integerCounter},
	{"http_connections_accepted_total", integerCounter},
	{"http_request_retries_total", integerCounter},
	{"http_request_timeouts_total", integerCounter},
	{"rpc_client_messages_sent_total", integerCounter},
	{"rpc_client_messages_received_total", integerCounter},
	{"rpc_server_handled_total", integerCounter},
	{"cache_lookups_total", integerCounter},
	{"cache_hits_total", integerCounter},
	{"cache_evictions_total", integerCounter},
	{"database_queries_total", integerCounter},
	{"database_rows_read_total", integerCounter},
	{"http_request_duration_seconds_sum", secondsCounter},
	{"rpc_server_handling_seconds_sum", secondsCounter},
	{"database_query_duration_seconds_sum", secondsCounter},
	{"process_cpu_seconds_total", secondsCounter},
	{"queue_wait_duration_seconds_sum", secondsCounter},
	{"http_requests_in_flight_average", decimalGauge},
	{"queue_depth_average", decimalGauge},
	{"worker_utilisation_percent", decimalGauge},
	{"cache_hit_percent", decimalGauge},
	{"database_pool_utilisation_percent", decimalGauge},
	{"upstream_latency_milliseconds", decimalGauge},
	{"request_rate_limit_remaining_percent", decimalGauge},
	{"circuit_breaker_error_percent", decimalGauge},
	{"process_resident_memory_bytes", byteGauge},
	{"process_heap_in_use_bytes", byteGauge},
	{"cache_resident_size_bytes", byteGauge},
	{"request_buffer_pool_size_bytes", byteGauge},
	{"build_info", constantGauge},
	{"process_start_time_seconds", constantGauge},
	{"process_max_open_files", constantGauge},
	{"cache_capacity_entries", constantGauge},
	{"database_pool_connections_max", constantGauge},
	{"circuit_breaker_open", constantGauge},
	{"feature_flag_enabled", constantGauge},
	{"config_last_reload_successful", constantGauge},
	{"http_request_duration_seconds_bucket", bucketCounter},
	{"http_request_size_bytes_bucket", bucketCounter},
	{"http_response_size_bytes_bucket", bucketCounter},
	{"rpc_server_handling_seconds_bucket", bucketCounter},
	{"rpc_client_roundtrip_seconds_bucket", bucketCounter},
	{"database_query_duration_seconds_bucket", bucketCounter},
	{"queue_wait_duration_seconds_bucket", bucketCounter},
	{"garbage_collection_pause_seconds_bucket", bucketCounter},
	{"scheduler_load_ratio", fullFloatGauge},
	{"upstream_health_score_ratio", fullFloatGauge},
}

var (
	jobs         = [...]string{"checkout", "payments", "catalogue", "identity", "search", "shipping", "invoicing", "gateway", "inventory", "recommender"}
	zones        = [...]string{"eu-west-1a", "eu-west-1b", "eu-west-1c"}
	handlers     = [...]string{"/api/v1/items", "/api/v1/orders", "/api/v1/users", "/api/v1/search", "/healthz"}
	methods      = [...]string{"GET", "POST"}
	bucketBounds = [seriesPerMetric]string{"0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1", "5", "+Inf"}
)

// values makes the samples of a range of series round after round. It keeps one
// number a series; the rest is a hash of seed, series and round. It is not safe
// for concurrent use.
type values struct {
	w           *Workload
	first       int
	accumulated []int64
	round       int
}

func newValues(w *Workload, first, last int) *values {
	v := &values{w: w, first: first, accumulated: make([]int64, last-first)}
	for i := range v.accumulated {
		v.accumulated[i] = v.initial(first + i)
	}
	return v
}

// next moves on to the next round.
func (v *values) next() {
	v.round++
	for i := range v.accumulated {
		v.accumulated[i] += v.step(v.first + i)
	}
}

func (v *values) initial(i int) int64 {
	h := mix(v.w.cfg.Seed, uint64(i))
	switch metrics[i%seriesPerTarget/seriesPerMetric].kind {
	case integerCounter, secondsCounter:
		return int64(h % 1_000_000)
	case decimalGauge:
		return int64(h % 10_000)
	case byteGauge:
		return 10_000 + int64(h%100_000)
	case constantGauge:
		return int64(h % 2)
	case bucketCounter:
		// Cumulative over the bounds: later buckets start no lower.
		return int64(1000 * (i%seriesPerMetric + 1))
	case fullFloatGauge:
	}
	return 0
}

// step is what a series gains in the present round.
func (v *values) step(i int) int64 {
	h := mix(mix(v.w.cfg.Seed, uint64(i)), uint64(v.round))
	switch metrics[i%seriesPerTarget/seriesPerMetric].kind {
	case integerCounter:
		// Each series has a rate of its own, from idle to a thousand a round.
		rate := mix(v.w.cfg.Seed, uint64(i)) >> 20 % 10
		return int64(h % (1 + 1<<rate))
	case secondsCounter:
		return int64(h % 5000)
	case decimalGauge:
		return int64(h%201) - 100
	case byteGauge:
		return int64(h%65) - 32
	case bucketCounter:
		return v.observed(i)
	case constantGauge, fullFloatGauge:
	}
	return 0
}

// observed is what a bucket gains: the buckets of one histogram hash to one
// event, so that they stay cumulative.
func (v *values) observed(i int) int64 {
	h := mix(mix(^v.w.cfg.Seed, uint64(i/seriesPerMetric)), uint64(v.round))
	if h%6 != 0 || int(h>>16%seriesPerMetric) > i%seriesPerMetric {
		return 0
	}
	return 1 + int64(h>>32%4)
}

// at returns the value of series i, counted from the start of the workload, in
// the present round.
func (v *values) at(i int) float64 {
	a := v.accumulated[i-v.first]
	switch metrics[i%seriesPerTarget/seriesPerMetric].kind {
	case secondsCounter:
		return float64(a) / 1000
	case decimalGauge:
		return float64(a) / 100
	case byteGauge:
		return float64(a) * 4096
	case fullFloatGauge:
		h := mix(mix(v.w.cfg.Seed, uint64(i)), uint64(v.round))
		return math.Float64frombits(h>>12|1<<62) - 2 // 0 to 2, every bit of the mantissa in use
	case integerCounter, constantGauge, bucketCounter:
	}
	return float64(a)
}

// mix hashes two numbers into one: the finaliser of SplitMix64 (Steele, Lea and
// Flood, 2014) over their combination. A generator per series would have to be
// kept; a hash can be asked for any series and round.
func mix(a, b uint64) uint64 {
	z := a + (b+1)*0x9e3779b97f4a7c15
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

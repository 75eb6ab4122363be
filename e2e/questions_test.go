package e2e

import (
	"net/url"
	"strconv"
	"time"
)

// question is one request that two servers must answer alike.
type question struct {
	path   string
	params url.Values
	// ordered answers are compared in the order in which they come; others as sets.
	ordered bool
	// mayBeEmpty is for questions whose right answer is nothing. All others
	// must find something, since comparing nothing with nothing proves nothing.
	mayBeEmpty bool
}

// window is the time in which Prometheus scraped.
type window struct{ start, end time.Time }

func (w window) at(part float64) string {
	return seconds(w.start.Add(time.Duration(part * float64(w.end.Sub(w.start)))))
}

func seconds(t time.Time) string {
	return strconv.FormatFloat(float64(t.UnixMilli())/1000, 'f', 3, 64)
}

// expression is PromQL that is asked as an instant query at three times and as
// a range query with two steps.
type expression struct {
	promql string
	// flags are "ordered" and "empty", as the fields of question.
	ordered, empty bool
}

// expressions avoid what no two servers need to agree on: which of equal values
// topk takes, and the last digit of stdvar, which depends on the order in which
// the storage gives the series to the engine (sum and avg compensate for it).
func expressions(customBuckets bool) []expression {
	var all []expression
	for _, promql := range []string{
		// Selectors.
		`up`,
		`up == 0`,
		`{__name__=~"shop_.+",country!=""}`,
		`{"shop.größe"}`,
		`{"shop.größe","maß.einheit"=~"ö.*"}`,
		`shop_extreme`,
		`shop_orders_total{country=~"a.|d.",method!~"ca.h"}`,
		`shop_visitor_present`,
		`go_info{job=~"prometheus|quorate"}`,
		// Counters.
		`rate(prometheus_http_requests_total[1m])`,
		`rate(shop_orders_total[10s])`,
		`irate(shop_orders_total[10s])`,
		`increase(shop_worker_jobs_total[15s])`,
		`resets(shop_worker_jobs_total[20s])`,
		`changes(shop_worker_jobs_total[20s])`,
		`sum by (job) (rate(process_cpu_seconds_total[15s]))`,
		`sum without (instance, handler) (rate(prometheus_http_requests_total[20s]))`,
		// Over time.
		`avg_over_time(shop_temperature_celsius[10s])`,
		`min_over_time(shop_temperature_celsius[10s])`,
		`max_over_time(shop_temperature_celsius[10s])`,
		`sum_over_time(shop_temperature_celsius[10s])`,
		`stddev_over_time(shop_temperature_celsius[10s])`,
		`quantile_over_time(0.7, shop_temperature_celsius[10s])`,
		`last_over_time(shop_visitor_present[3s])`,
		`present_over_time(shop_visitor_present[5s])`,
		`count_over_time({country="at",method="card"}[10s])`,
		`deriv(shop_temperature_celsius[10s])`,
		`delta(shop_temperature_celsius[10s])`,
		`idelta(shop_temperature_celsius[10s])`,
		`predict_linear(shop_temperature_celsius[10s], 60)`,
		`absent_over_time(shop_nothing[10s])`,
		// Subqueries, offsets, @.
		`max_over_time(rate(shop_orders_total[5s])[15s:2s])`,
		`sum_over_time(sum by (country) (shop_orders_total)[10s:1s])`,
		`shop_temperature_celsius offset 7s`,
		`rate(shop_orders_total[10s] offset 5s)`,
		`shop_temperature_celsius offset -3s`,
		`shop_temperature_celsius @ end()`,
		`rate(shop_orders_total[10s] @ start())`,
		// Aggregations.
		`sum by (country) (shop_orders_total)`,
		`avg by (method) (shop_orders_total)`,
		`min(shop_temperature_celsius)`,
		`max(shop_temperature_celsius)`,
		`count by (job) (up)`,
		`count by (job) ({__name__=~".+"})`,
		`group by (job) (up)`,
		`round(stdvar(shop_temperature_celsius), 0.000001)`,
		`quantile(0.3, shop_temperature_celsius)`,
		`count_values("value", up)`,
		`bottomk(1, shop_order_seconds_sum)`,
		// Binary operators.
		`shop_orders_total{method="card"} / on (country, instance, job) shop_orders_total{method="cash"}`,
		`shop_orders_total - ignoring (method) group_left () sum without (method) (shop_orders_total)`,
		`up * on (job, instance) group_right () shop_temperature_celsius`,
		`shop_extreme > 1`,
		`shop_temperature_celsius > bool 5`,
		`up and on (job) shop_temperature_celsius`,
		`up unless on (job) shop_temperature_celsius`,
		`up or vector(17)`,
		`shop_temperature_celsius ^ 2 % 7`,
		`-shop_temperature_celsius atan2 3`,
		// Functions of labels and time.
		`label_replace(up, "place", "$1", "instance", "(.*):.*")`,
		`label_join(shop_orders_total, "both", "/", "country", "method")`,
		`absent(shop_nothing{room="attic"})`,
		`timestamp(shop_temperature_celsius)`,
		`clamp(shop_temperature_celsius, -5, 5)`,
		`round(shop_temperature_celsius, 0.5)`,
		`scalar(shop_temperature_celsius{job="shop",room="hall"}) + vector(time())`,
		`day_of_week()`,
		// Classic histograms.
		`histogram_quantile(0.9, sum by (le) (rate(shop_order_seconds_bucket[15s])))`,
		`histogram_quantile(0.5, rate(prometheus_http_request_duration_seconds_bucket[20s]))`,
		`histogram_fraction(0.1, 0.5, sum by (le) (rate(shop_order_seconds_bucket[15s])))`,
		`rate(shop_cart_items_sum{job="shop"}[15s]) / rate(shop_cart_items_count{job="shop"}[15s])`,
		`shop_queue_seconds`,
		// Native histograms, with exponential and with custom buckets.
		`shop_order_seconds`,
		`shop_balance_euros`,
		`{__name__=~".+"} and on () vector(1) and {__name__="shop_order_seconds"}`,
		`rate(shop_order_seconds[10s])`,
		`increase(shop_balance_euros[10s])`,
		`histogram_quantile(0.95, sum by (country) (rate(shop_order_seconds[15s])))`,
		`histogram_quantile(0.1, shop_balance_euros)`,
		`histogram_count(shop_order_seconds)`,
		`histogram_sum(rate(shop_order_seconds[15s]))`,
		`histogram_avg(shop_order_seconds)`,
		`histogram_stddev(shop_balance_euros)`,
		`histogram_fraction(-10, 10, shop_balance_euros)`,
		`sum(shop_order_seconds)`,
		`avg_over_time(shop_order_seconds[5s])`,
		`resets(shop_order_seconds[20s])`,
		`count_over_time(shop_order_seconds[20s])`,
		`prometheus_http_request_duration_seconds`,
	} {
		all = append(all, expression{promql: promql})
	}
	if customBuckets {
		all = append(all,
			expression{promql: `shop_cart_items{job="shop-custom-buckets"}`},
			expression{promql: `histogram_quantile(0.8, rate(shop_cart_items{job="shop-custom-buckets"}[10s]))`},
		)
	}
	return append(all,
		expression{promql: `topk(2, shop_order_seconds_sum)`, ordered: true},
		expression{promql: `sort_desc(shop_order_seconds_sum)`, ordered: true},
		expression{promql: `absent(up)`, empty: true},
		expression{promql: `shop_nothing`, empty: true},
	)
}

// questions are everything that is asked about a window.
func questions(w window, customBuckets bool) []question {
	var all []question
	for _, e := range expressions(customBuckets) {
		for _, part := range []float64{0.55, 0.8, 0.97} {
			all = append(all, question{
				path: "/api/v1/query", params: params("query", e.promql, "time", w.at(part)),
				ordered: e.ordered, mayBeEmpty: e.empty,
			})
		}
		for _, step := range []string{"1", "3.7"} {
			all = append(all, question{
				path: "/api/v1/query_range", params: params("query", e.promql, "start", w.at(0.3), "end", w.at(1), "step", step),
				ordered: true, mayBeEmpty: e.empty,
			})
		}
	}
	return append(all, inventory(w)...)
}

// inventory asks for what there is: whole series, labels, exemplars.
func inventory(w window) []question {
	whole := func(pairs ...string) url.Values {
		return params(append(pairs, "start", w.at(-1), "end", w.at(2))...)
	}
	length := strconv.Itoa(int(w.end.Sub(w.start).Seconds())+120) + "s"
	return []question{
		// Every sample of every series, staleness markers aside.
		{path: "/api/v1/query", params: params("query", `{__name__=~".+"}[`+length+`]`, "time", seconds(w.end.Add(time.Minute)))},
		{path: "/api/v1/query", params: params("query", `shop_order_seconds[`+length+`]`, "time", seconds(w.end.Add(time.Minute)))},
		// After the end everything is stale.
		{path: "/api/v1/query", params: params("query", `{__name__=~".+"}`, "time", seconds(w.end.Add(30*time.Second))), mayBeEmpty: true},
		// Before the start there is nothing.
		{path: "/api/v1/query", params: params("query", `up`, "time", seconds(w.start.Add(-time.Hour))), mayBeEmpty: true},
		{path: "/api/v1/series", params: whole("match[]", `{__name__=~".+"}`)},
		{path: "/api/v1/series", params: whole("match[]", `up`, "match[]", `{country="at"}`)},
		{path: "/api/v1/series", params: whole("match[]", `shop_nothing`), mayBeEmpty: true},
		{path: "/api/v1/labels", params: whole(), ordered: true},
		{path: "/api/v1/labels", params: whole("match[]", `shop_orders_total`), ordered: true},
		{path: "/api/v1/labels", params: whole("match[]", `{job="shop"}`, "limit", "5"), ordered: true},
		{path: "/api/v1/label/job/values", params: whole(), ordered: true},
		{path: "/api/v1/label/__name__/values", params: whole(), ordered: true},
		{path: "/api/v1/label/__name__/values", params: whole("match[]", `{country="at"}`, "match[]", `up`), ordered: true},
		{path: "/api/v1/label/U__ma_df__2e_einheit/values", params: whole(), ordered: true},
		{path: "/api/v1/label/handler/values", params: whole("limit", "3"), ordered: true},
		{path: "/api/v1/label/nothing/values", params: whole(), mayBeEmpty: true},
		{path: "/api/v1/query_exemplars", params: whole("query", `shop_orders_total`)},
		{path: "/api/v1/query_exemplars", params: whole("query", `shop_order_seconds`)},
		{path: "/api/v1/query_exemplars", params: whole("query", `rate(shop_order_seconds_bucket{country="at"}[1m]) or shop_orders_total`)},
		{path: "/api/v1/query_exemplars", params: params("query", `shop_orders_total`, "start", w.at(0.3), "end", w.at(0.6))},
		{path: "/api/v1/query_exemplars", params: whole("query", `up`), mayBeEmpty: true},
		{path: "/api/v1/parse_query", params: params("query", `sum by (a) (rate(b[5m]))`)},
		{path: "/api/v1/format_query", params: params("query", `sum by(a)(rate(b[5m]))`)},
	}
}

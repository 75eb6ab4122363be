package wire

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/quorate/quorate"
)

// scrapeRows fills a batch with one scrape of n known series at round r, in
// the mix in which the engine's figures are given: 30 % integer counters, 10 %
// counters of seconds (3 decimals), 15 % gauges with 2 or 3 decimals, 8 % byte
// gauges, 17 % constants, 17 % bucket counters that rarely move, 3 % floats
// with a full mantissa.
func scrapeRows(b *Batch, n, r int) {
	chance := rand.New(rand.NewPCG(7, uint64(r)))
	b.Reset(1, 1)
	for i := range n {
		b.Series = append(b.Series, ByRef(SeriesRef(1000+i)))
		b.Timestamps = append(b.Timestamps, 1_770_000_000_000+int64(r)*15_000)
		b.Values = append(b.Values, mixedValue(chance, i, r))
	}
}

func mixedValue(chance *rand.Rand, i, r int) float64 {
	switch p := i % 100; {
	case p < 30:
		return float64(i*1000 + r*(i%37))
	case p < 40:
		return math.Round(float64(i)*1000+float64(r)*15*chance.Float64()*1000) / 1000
	case p < 55:
		d := [2]float64{100, 1000}[i%2]
		return math.Round(chance.Float64()*100*d) / d
	case p < 63:
		return float64(chance.IntN(1<<20)) * 4096
	case p < 80:
		return float64(i % 3)
	case p < 97:
		return float64(i*10 + r/20)
	}
	return chance.Float64()
}

const benchRows = 2000

func BenchmarkBatchAppend(b *testing.B) {
	var batch Batch
	scrapeRows(&batch, benchRows, 100)
	dst := batch.Append(nil)
	b.ReportAllocs()
	for b.Loop() {
		dst = batch.Append(dst[:0])
	}
	perRow(b, len(dst))
}

func BenchmarkBatchDecode(b *testing.B) {
	var batch Batch
	scrapeRows(&batch, benchRows, 100)
	data := batch.Append(nil)
	b.ReportAllocs()
	for b.Loop() {
		if err := batch.Decode(data); err != nil {
			b.Fatal(err)
		}
	}
	perRow(b, len(data))
}

func BenchmarkEntryEncode(b *testing.B) {
	var batch Batch
	scrapeRows(&batch, benchRows, 100)
	var e Encoder
	var command, dst []byte
	b.ReportAllocs()
	for b.Loop() {
		command = batch.Append(command[:0])
		dst = e.Append(dst[:0], KindWrite, command)
	}
	perRow(b, len(dst))
}

func BenchmarkEntryDecode(b *testing.B) {
	var batch Batch
	scrapeRows(&batch, benchRows, 100)
	var e Encoder
	entry := e.Append(nil, KindWrite, batch.Append(nil))
	var d Decoder
	b.ReportAllocs()
	for b.Loop() {
		decoded, err := d.Decode(entry)
		if err != nil {
			b.Fatal(err)
		}
		for _, c := range decoded.Commands {
			if err := batch.Decode(c); err != nil {
				b.Fatal(err)
			}
		}
	}
	perRow(b, len(entry))
}

func BenchmarkShardHash(b *testing.B) {
	labels := exampleLabels()
	for b.Loop() {
		ShardHash(quorate.TenantID(1), labels)
	}
}

func perRow(b *testing.B, bytes int) {
	b.Helper()
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/benchRows, "ns/row")
	b.ReportMetric(float64(bytes)/benchRows, "B/row")
}

func exampleLabels() []byte {
	var l []byte
	for _, p := range [][2]string{
		{"__name__", "http_request_duration_seconds_bucket"}, {"cluster", "eu-west-1"}, {"handler", "/api/v1/query_range"},
		{"instance", "10.0.12.34:9090"}, {"job", "prometheus"}, {"le", "0.25"}, {"method", "GET"},
		{"namespace", "monitoring"}, {"pod", "prometheus-k8s-0"}, {"status", "200"},
	} {
		l = AppendLabel(l, p[0], p[1])
	}
	return l
}

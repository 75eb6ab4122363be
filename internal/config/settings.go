package config

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"
)

// setting is one leaf of the file.
type setting struct {
	path    string // in the file, sections joined by dots
	meaning string // one or two sentences, for docs/config.md
	value   value
}

// section is the path without its last element; empty for a top-level setting.
func (s setting) section() string {
	before, _, found := strings.Cut(s.path, ".")
	if !found {
		return ""
	}
	return before
}

const (
	minute = time.Minute
	hour   = time.Hour
	day    = 24 * time.Hour
	year   = 365 * day
)

// settings binds every setting to its field of c, in the order of the document.
func settings(c *Config) []setting {
	all := []setting{
		{"node_name", "The node's name in the cluster. Its identity is this name and a number minted once in the data directory.",
			textValue{&c.NodeName, "name", "1 to 63 letters, digits, `-`, `_` and `.`, a letter or digit first", checkNodeName}},
		{"data_dir", "The directory that holds everything the server keeps. Made at the first start; a relative path starts at the working directory.",
			textValue{&c.DataDir, "path", "not empty", checkNotEmpty}},
	}
	all = append(all, listenerSettings(c)...)
	all = append(all, clusterSettings(c)...)
	all = append(all, writeSettings(&c.Write)...)
	all = append(all, querySettings(&c.Query)...)
	all = append(all, bucketSettings(&c.Buckets)...)
	all = append(all, storageSettings(c)...)
	return append(all,
		setting{"log.level", "The least severe messages that are logged.",
			choiceValue{&c.Log.Level, []string{"debug", "info", "warn", "error"}}},
		setting{"log.format", "How a message is written to standard error: logfmt text, or one JSON object a line.",
			choiceValue{&c.Log.Format, []string{"text", "json"}}},
	)
}

func listenerSettings(c *Config) []setting {
	return []setting{
		{"http.listen", "Where writes, queries, health checks and metrics are served. Port 0 takes a free port. An address that is not loopback needs `http.web_config_file` with authentication, or `http.allow_insecure`.",
			textValue{&c.HTTP.Listen, "address", "`host:port`", checkAddress}},
		{"http.allow_insecure", "Serve an address that is not loopback without authentication: whoever reaches it can read and write everything.",
			boolValue{&c.HTTP.AllowInsecure}},
		{"http.web_config_file", "TLS and basic authentication by Prometheus' web configuration file (exporter-toolkit); empty for plain HTTP. A relative path starts at the working directory.",
			textValue{&c.HTTP.WebConfigFile, "path", "a valid web configuration, or empty", checkWebConfigFile}},
		{"http.enable_admin_api", "Serve the admin endpoints (`/api/v1/admin/…`: flush, seal, delete series, retention of a tenant) here too, to whoever may write and query. They are always served on `admin.listen`.",
			boolValue{&c.HTTP.EnableAdminAPI}},
		{"admin.listen", "Where the admin endpoints (`/api/v1/admin/…`) and profiles (`/debug/pprof/`) are served, without authentication. Port 0 takes a free port.",
			textValue{&c.Admin.Listen, "address", "`host:port` on loopback", checkLoopback}},
		{"multi_tenancy.enabled", "Whether every request must name its tenant. While this is false, every request speaks for the tenant `anonymous` and the header is ignored.",
			boolValue{&c.MultiTenancy.Enabled}},
		{"multi_tenancy.header", "The request header that names the tenant.",
			textValue{&c.MultiTenancy.Header, "header name", "a valid HTTP header name", checkHeaderName}},
	}
}

func writeSettings(w *Write) []setting {
	return []setting{
		{"write.max_wire_bytes", "The largest body of a write request as it comes over the wire (413 above).",
			bytesValue{&w.MaxWireBytes, 64 * KiB, GiB}},
		{"write.max_decoded_bytes", "The largest body of a write request after decompression, judged by the declared size before anything is allocated (413 above). At least `write.max_wire_bytes`.",
			bytesValue{&w.MaxDecodedBytes, 64 * KiB, GiB}},
		{"write.max_in_flight_bytes", "How much memory all write requests together may hold; requests beyond it are told to retry (503). At least `write.max_decoded_bytes`.",
			bytesValue{&w.MaxInFlightBytes, MiB, 64 * GiB}},
		{"write.max_label_names", "The most labels a series may have, its name included (400 above).",
			countValue{&w.MaxLabelNames, 1, 1000}},
		{"write.max_label_name_bytes", "The longest label name (400 above).",
			bytesValue{&w.MaxLabelNameBytes, 1, 64 * KiB}},
		{"write.max_label_value_bytes", "The longest label value (400 above).",
			bytesValue{&w.MaxLabelValueBytes, 1, 64 * KiB}},
		{"write.sort_unsorted_labels", "Take series whose labels are not sorted by name, as some senders other than Prometheus send them, and sort them. " +
			"While this is false they are refused (400), as the remote-write specification has it.",
			boolValue{&w.SortUnsortedLabels}},
	}
}

func querySettings(q *Query) []setting {
	return []setting{
		{"query.timeout", "How long one query may run before it is cancelled (503).",
			durationValue{&q.Timeout, time.Second, hour}},
		{"query.max_samples", "How many samples one query may hold in memory at once (422 above).",
			countValue{&q.MaxSamples, 1000, 10_000_000_000}},
		{"query.lookback", "How far back an instant looks for the newest sample of a series.",
			durationValue{&q.Lookback, time.Second, day}},
		{"query.concurrency", "How many queries run at once; further ones wait.",
			countValue{&q.Concurrency, 1, 10_000}},
		{"query.max_remote_bytes", "How many encoded bytes of samples and labels one query may take in from other nodes (422 above); they are held until it ends.",
			bytesValue{&q.MaxRemoteBytes, MiB, 64 * GiB}},
	}
}

// foundsPolicy is said of every setting of the default policy.
const foundsPolicy = " In a cluster of several nodes `quorate ctl policies alter` changes it."

func bucketSettings(b *Buckets) []setting {
	return []setting{
		{"buckets.span", "How much time one bucket covers; buckets start at multiples of it (UTC). Spans below an hour are for tests." + foundsPolicy,
			durationValue{&b.Span, minute, year}},
		{"buckets.shards", "Into how many ReplicaSets the series of a new bucket are spread. Existing buckets keep theirs." + foundsPolicy,
			countValue{&b.Shards, 1, 1024}},
		{"buckets.replicas", "How many nodes hold each ReplicaSet of a new bucket; a write is acknowledged when a majority of them has it on disk. A cluster of fewer data nodes takes no writes. An odd number: an even one survives no more failures than the odd one below it. Existing ones get more when it grows, and keep what they have when it falls." + foundsPolicy,
			countValue{&b.Replicas, 1, 9}},
		{"buckets.late_window", "How long after its end a bucket waits for samples that come late before it is sealed: compacted for good and checked. At most `buckets.span`. Later ones are taken as well, at a higher cost, and sealed in their turn when none has come for as long." + foundsPolicy,
			durationValue{&b.LateWindow, time.Second, year}},
		{"buckets.retention", "How old samples may get. Older ones are refused (400), and a bucket is dropped when all of it is older. At least `buckets.span`. What was dropped is not taken again when this grows." + foundsPolicy,
			durationValue{&b.Retention, minute, 100 * year}},
		{"buckets.future_bound", "How far ahead of the server's clock a sample's time may lie (400 above). At most `buckets.span`." + foundsPolicy,
			durationValue{&b.FutureBound, time.Second, day}},
	}
}

func storageSettings(c *Config) []setting {
	return []setting{
		{"flush.max_memcache_bytes", "How much memory the unflushed samples of one shard may take before they are written to a file.",
			bytesValue{&c.Flush.MaxMemcacheBytes, 64 * KiB, 16 * GiB}},
		{"flush.max_total_memcache_bytes", "How much memory the unflushed samples of all shards together may take before the largest are written to files. At least `flush.max_memcache_bytes`.",
			bytesValue{&c.Flush.MaxTotalMemcacheBytes, 64 * KiB, 256 * GiB}},
		{"flush.max_log_bytes", "How much a shard's log may grow before the shard is flushed. It bounds how much a restart replays.",
			bytesValue{&c.Flush.MaxLogBytes, 64 * KiB, 64 * GiB}},
		{"flush.max_age", "How old the oldest unflushed sample of a shard may get before the shard is flushed.",
			durationValue{&c.Flush.MaxAge, time.Second, day}},
		{"flush.shutdown_timeout", "How long a server that stops may take to flush the logs of 1 MiB and more that its next start would have to replay; 0s replays them.",
			durationValue{&c.Flush.ShutdownTimeout, 0, hour}},
		{"storage.page_cache_bytes", "How much memory the pages of blocks take that queries read most recently, over all shards. What else the system has free caches the files.",
			bytesValue{&c.Storage.PageCacheBytes, MiB, 1024 * GiB}},
		{"storage.trash_keep", "How long files that are not needed any more (dropped buckets, and the logs and blocks of sealed ones) stay in `data_dir`/trash before they are deleted.",
			durationValue{&c.Storage.TrashKeep, time.Second, year}},
		{"storage.min_free_bytes", "While the file system of `data_dir` has less space left, what lies in the trash is deleted at once, the oldest first.",
			bytesValue{&c.Storage.MinFreeBytes, 0, 1024 * GiB}},
		{"storage.low_space_bytes", "While the file system of `data_dir` has less space left, the node gets no replica that can lie on another, and hands its leads to members that have more. 0 is never.",
			bytesValue{&c.Storage.LowSpaceBytes, 0, 1024 * GiB}},
		{"storage.full_space_bytes", "While it has less left, the node takes no writes for sets that it leads (503) and stores only what it follows. At most `storage.low_space_bytes`. 0 is never.",
			bytesValue{&c.Storage.FullSpaceBytes, 0, 1024 * GiB}},
		{"storage.reserve_space_bytes", "While it has less left, the node stores nothing more, so that no log runs into a full disk. At most `storage.full_space_bytes`. 0 is never.",
			bytesValue{&c.Storage.ReserveSpaceBytes, 0, 1024 * GiB}},
		{"storage.scrub_bytes_per_second", "How fast files of samples are read again in the background and compared with their hashes, so that what has rotted is found while another replica has it still. 0 does not.",
			bytesValue{&c.Storage.ScrubBytesPerSecond, 0, 16 * GiB}},
		{"storage.scrub_every", "How long after the start of such a pass over all files the next one starts.",
			durationValue{&c.Storage.ScrubEvery, time.Second, year}},
		{"raft.segment_bytes", "The size of one segment file of a ReplicaSet's log. Each open set preallocates one.",
			bytesValue{&c.Raft.SegmentBytes, 64 * KiB, 256 * MiB}},
	}
}

func checkNotEmpty(text string) error {
	if text == "" {
		return errors.New("is empty")
	}
	return nil
}

func checkNodeName(text string) error {
	if len(text) < 1 || len(text) > 63 {
		return fmt.Errorf("%q has %d bytes, not 1 to 63", text, len(text))
	}
	for i := range len(text) {
		c := text[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case i > 0 && strings.IndexByte("-_.", c) >= 0:
		default:
			return fmt.Errorf("%q has the byte %q at offset %d; allowed are letters and digits and, not first, any of -_. too", text, c, i)
		}
	}
	return nil
}

func checkHeaderName(text string) error {
	if !httpguts.ValidHeaderFieldName(text) {
		return fmt.Errorf("%q is not a valid HTTP header name", text)
	}
	return nil
}

package verify

import "fmt"

// Finding is what is to be said of one file or directory.
type Finding struct {
	// File is a path below the data directory.
	File string `json:"file"`
	// Offset is where in the file, in bytes; -1 when it is about the whole or
	// What says where.
	Offset int64 `json:"offset"`
	// What says what is wrong, Remedy what to do about it.
	What   string `json:"what"`
	Remedy string `json:"remedy,omitempty"`
}

// String is the finding on one line.
func (f Finding) String() string {
	text := f.File
	if f.Offset >= 0 {
		text += fmt.Sprintf(" at offset %d", f.Offset)
	}
	text += ": " + f.What
	if f.Remedy != "" {
		text += " -- " + f.Remedy
	}
	return text
}

// The states of a replica.
const (
	// StateMetadata is the state of the replica of the metadata group.
	StateMetadata = "metadata"
	// StateOpen is that of a replica with a log.
	StateOpen = "open"
	// StateSealed is that of one that is served from its canonical file.
	StateSealed = "sealed"
	// StateUnformed is that of a directory in which no replica was ever born.
	StateUnformed = "unformed"
	// StateQuarantined is that of one whose log was taken out of service. There
	// may be another of the same set and number that was put beside it.
	StateQuarantined = "quarantined"
)

// Replica is one replica of a ReplicaSet in the directory.
type Replica struct {
	Set     uint64 `json:"set"`
	Replica uint64 `json:"replica"`
	State   string `json:"state"`
	// Index is the manifest's log index, FirstEntry to LastEntry the log, and
	// Entries how many of its entries were checked.
	Index      uint64 `json:"index"`
	FirstEntry uint64 `json:"first_entry"`
	LastEntry  uint64 `json:"last_entry"`
	Entries    uint64 `json:"entries"`
	// Unflushed is how many commands the log has that no block has.
	Unflushed uint64 `json:"unflushed"`
	// Files are its blocks of samples; Series, Samples and Bytes what they hold
	// and take.
	Files   int    `json:"files"`
	Series  uint64 `json:"series"`
	Samples uint64 `json:"samples"`
	Bytes   uint64 `json:"bytes"`
	// Problems is how many were found in its files.
	Problems int `json:"problems"`
}

// String is the replica on one line.
func (r Replica) String() string {
	return fmt.Sprintf("set=%d replica=%d state=%s index=%d log=%d-%d entries=%d files=%d series=%d samples=%d bytes=%d problems=%d",
		r.Set, r.Replica, r.State, r.Index, r.FirstEntry, r.LastEntry, r.Entries, r.Files, r.Series, r.Samples, r.Bytes, r.Problems)
}

// Report is what was found in a data directory.
type Report struct {
	Dir string `json:"dir"`
	// Cluster and Node are whose directory it is.
	Cluster string `json:"cluster"`
	Node    string `json:"node"`
	// Replicas are those found, by rising set.
	Replicas []Replica `json:"replicas"`
	// Problems are what a start of the server will not settle, Notes what it
	// will.
	Problems []Finding `json:"problems"`
	Notes    []Finding `json:"notes"`
	// Series, Samples and Bytes are the sums over the blocks of samples. A
	// series counts once in each set that has it; what is in logs alone is not
	// counted.
	Series  uint64 `json:"series"`
	Samples uint64 `json:"samples"`
	Bytes   uint64 `json:"bytes"`
	// LogEntries are the commands that the logs of open replicas have beyond their
	// blocks: what they hold is not in the sums.
	LogEntries uint64 `json:"log_entries"`
	// BytesPerSample is Bytes by Samples; 0 without samples.
	BytesPerSample float64 `json:"bytes_per_sample"`
}

// Summary is the report's last line: what the blocks hold and take.
func (r *Report) Summary() string {
	return fmt.Sprintf("series=%d samples=%d bytes=%d bytes_per_sample=%.3f", r.Series, r.Samples, r.Bytes, r.BytesPerSample)
}

// InLogs says what the summary leaves out; it is empty where that is nothing.
func (r *Report) InLogs() string {
	logs := 0
	for _, one := range r.Replicas {
		if one.inLog() > 0 {
			logs++
		}
	}
	if logs == 0 {
		return ""
	}
	return fmt.Sprintf("%d entries in the logs of %d replicas are not in blocks yet, and not in the counts below", r.LogEntries, logs)
}

// inLog is how many commands an open replica has in its log alone.
func (r *Replica) inLog() uint64 {
	if r.State != StateOpen {
		return 0
	}
	return r.Unflushed
}

// sum adds the replicas up.
func (r *Report) sum() {
	for _, one := range r.Replicas {
		r.Series += one.Series
		r.Samples += one.Samples
		r.Bytes += one.Bytes
		r.LogEntries += one.inLog()
	}
	if r.Samples > 0 {
		r.BytesPerSample = float64(r.Bytes) / float64(r.Samples)
	}
}

package raftset

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/hashicorp/raft"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/cursor"
)

// Messages between members are in the form that docs/format/rpc.md describes: a
// version, a kind, the body, and the CRC32C of all of it. The answer to one has
// the same frame, with a verdict in the place of the kind.
const (
	peerVersion = 1
	// peerFrame is the length of a message without body.
	peerFrame = 2 + recordCRCLen
	// entryOverhead is at least what an entry takes beside its data.
	entryOverhead = 4
	// maxReasonBytes bounds the text of a refusal.
	maxReasonBytes = 512
)

// messageKind says what a message asks.
type messageKind uint8

const (
	askAppend messageKind = iota + 1
	askVote
	askPreVote
	askElection // "run for leader now": the library's TimeoutNow
	askPrepare  // fetch the files that a manifest names
	askInstall  // take over the manifest
	askTerms    // what are the current terms of these replicas
	askPromise  // a heartbeat that asks for a promise
)

// verdict says how a message was met.
type verdict uint8

const (
	answered verdict = iota
	refusedMalformed
	refusedNotOpen  // no replica of the set is open there
	refusedReplica  // the set's replica there is another than the addressed
	refusedSender   // the sender is not the member it says it is
	refusedStopped  // the replica failed or stops
	refusedOverload // too much waits to be handled there
	refusedStale    // the message is of a term that is over
	refusedFailed   // it was tried, and failed
	refusedNoSpace  // its disk has no room for it
)

func (v verdict) String() string {
	switch v {
	case answered:
		return "answered"
	case refusedMalformed:
		return "malformed"
	case refusedNotOpen:
		return "not open"
	case refusedReplica:
		return "another replica"
	case refusedSender:
		return "another sender"
	case refusedStopped:
		return "stopped"
	case refusedOverload:
		return "overloaded"
	case refusedStale:
		return "stale"
	case refusedFailed:
		return "failed"
	case refusedNoSpace:
		return "no space"
	}
	return fmt.Sprintf("verdict(%d)", uint8(v))
}

// errMalformed is wrapped by every error about a message's bytes.
var errMalformed = errors.New("the message is malformed")

// envelope heads the messages of one group.
type envelope struct {
	kind messageKind
	set  quorate.ReplicaSetID
	// to and from are the replicas addressed and sending. The sender's node is
	// known from the connection.
	to, from quorate.ReplicaID
}

// begin starts a message with room for a body.
func (e envelope) begin(room int) []byte {
	b := append(make([]byte, 0, peerFrame+3*binary.MaxVarintLen64+room), peerVersion, byte(e.kind))
	b = binary.AppendUvarint(b, uint64(e.set))
	b = binary.AppendUvarint(b, uint64(e.to))
	return binary.AppendUvarint(b, uint64(e.from))
}

// openMessage checks a frame and returns its second byte and the rest.
func openMessage(message []byte) (byte, *cursor.Cursor, error) {
	if len(message) < peerFrame {
		return 0, nil, fmt.Errorf("%w: %d bytes are shorter than its frame", errMalformed, len(message))
	}
	body := message[:len(message)-recordCRCLen]
	if got, want := checksum(body), binary.LittleEndian.Uint32(message[len(body):]); got != want {
		return 0, nil, fmt.Errorf("%w: its checksum is %08x, its bytes give %08x", errMalformed, want, got)
	}
	if body[0] != peerVersion {
		return 0, nil, fmt.Errorf("%w: version %d is not known", errMalformed, body[0])
	}
	return body[1], &cursor.Cursor{B: body[2:]}, nil
}

// readEnvelope reads what begin wrote behind the kind.
func readEnvelope(kind byte, c *cursor.Cursor) envelope {
	return envelope{
		kind: messageKind(kind),
		set:  quorate.ReplicaSetID(c.Uvarint()),
		to:   quorate.ReplicaID(c.Uvarint()),
		from: quorate.ReplicaID(c.Uvarint()),
	}
}

// appendRequest encodes log entries, or a heartbeat. Their indexes follow the
// previous entry's, and are not sent.
func (e envelope) appendRequest(r *raft.AppendEntriesRequest) ([]byte, error) {
	room := 5 * binary.MaxVarintLen64
	for i, l := range r.Entries {
		if l.Index != r.PrevLogEntry+1+uint64(i) {
			return nil, fmt.Errorf("entry %d follows entry %d at position %d", l.Index, r.PrevLogEntry, i)
		}
		room += len(l.Data) + len(l.Extensions) + 3*binary.MaxVarintLen64 + 1
	}
	b := e.begin(room)
	b = binary.AppendUvarint(b, r.Term)
	b = binary.AppendUvarint(b, r.PrevLogEntry)
	b = binary.AppendUvarint(b, r.PrevLogTerm)
	b = binary.AppendUvarint(b, r.LeaderCommitIndex)
	b = binary.AppendUvarint(b, uint64(len(r.Entries)))
	for _, l := range r.Entries {
		b = binary.AppendUvarint(b, l.Term)
		b = append(b, byte(l.Type))
		b = cursor.AppendBytes(b, l.Data)
		b = cursor.AppendBytes(b, l.Extensions)
	}
	return sealRecord(b), nil
}

// readAppend reads what appendRequest wrote. The entries alias the message.
func readAppend(c *cursor.Cursor) (*raft.AppendEntriesRequest, error) {
	r := &raft.AppendEntriesRequest{
		Term: c.Uvarint(), PrevLogEntry: c.Uvarint(), PrevLogTerm: c.Uvarint(), LeaderCommitIndex: c.Uvarint(),
	}
	n := c.Count(entryOverhead)
	if n > maxAppendEntries {
		return nil, fmt.Errorf("%w: %d entries are over the limit of %d", errMalformed, n, maxAppendEntries)
	}
	logs := make([]raft.Log, n)
	r.Entries = make([]*raft.Log, n)
	term := r.PrevLogTerm
	for i := range logs {
		l := &logs[i]
		l.Index, l.Term, l.Type = r.PrevLogEntry+1+uint64(i), c.Uvarint(), raft.LogType(c.U8())
		l.Data, l.Extensions = c.Bytes(), c.Bytes()
		if len(l.Extensions) == 0 {
			l.Extensions = nil
		}
		r.Entries[i] = l
		if c.Bad {
			break
		}
		if err := checkReceived(l, term, r.Term); err != nil {
			return nil, err
		}
		term = l.Term
	}
	if r.PrevLogEntry > math.MaxUint64-maxAppendEntries {
		c.Fail()
	}
	return r, c.Finish(errMalformed, "entries")
}

// checkReceived lets no entry pass that would make the library panic.
func checkReceived(l *raft.Log, before, leader uint64) error {
	if l.Term < before || l.Term > leader {
		return fmt.Errorf("%w: entry %d has term %d, between an entry of term %d and a leader of term %d", errMalformed, l.Index, l.Term, before, leader)
	}
	switch l.Type {
	case raft.LogCommand, raft.LogNoop, raft.LogBarrier:
		return nil
	case raft.LogConfiguration:
		if _, err := decodeConfiguration(l.Data); err != nil {
			return fmt.Errorf("%w: entry %d: %w", errMalformed, l.Index, err)
		}
		return nil
	case raft.LogAddPeerDeprecated, raft.LogRemovePeerDeprecated:
	}
	return fmt.Errorf("%w: entry %d has type %d", errMalformed, l.Index, l.Type)
}

func (e envelope) voteRequest(r *raft.RequestVoteRequest) []byte {
	b := e.begin(3*binary.MaxVarintLen64 + 1)
	b = binary.AppendUvarint(b, r.Term)
	b = binary.AppendUvarint(b, r.LastLogIndex)
	b = binary.AppendUvarint(b, r.LastLogTerm)
	return sealRecord(appendFlag(b, r.LeadershipTransfer))
}

func readVote(c *cursor.Cursor) (*raft.RequestVoteRequest, error) {
	r := &raft.RequestVoteRequest{Term: c.Uvarint(), LastLogIndex: c.Uvarint(), LastLogTerm: c.Uvarint(), LeadershipTransfer: readFlag(c)}
	return r, c.Finish(errMalformed, "vote request")
}

func (e envelope) preVoteRequest(r *raft.RequestPreVoteRequest) []byte {
	b := e.begin(3 * binary.MaxVarintLen64)
	b = binary.AppendUvarint(b, r.Term)
	b = binary.AppendUvarint(b, r.LastLogIndex)
	return sealRecord(binary.AppendUvarint(b, r.LastLogTerm))
}

func readPreVote(c *cursor.Cursor) (*raft.RequestPreVoteRequest, error) {
	r := &raft.RequestPreVoteRequest{Term: c.Uvarint(), LastLogIndex: c.Uvarint(), LastLogTerm: c.Uvarint()}
	return r, c.Finish(errMalformed, "pre-vote request")
}

// electionRequest carries the term of the leader that hands over, which the
// library's request does not.
func (e envelope) electionRequest(term uint64) []byte {
	return sealRecord(binary.AppendUvarint(e.begin(binary.MaxVarintLen64), term))
}

func readElection(c *cursor.Cursor) (term uint64, err error) {
	term = c.Uvarint()
	return term, c.Finish(errMalformed, "election request")
}

// preparation is what a follower fetches before it installs a manifest.
type preparation struct {
	term                uint64 // of the leader
	index, manifestTerm uint64
	payload             []byte
}

func (e envelope) prepareRequest(p preparation) []byte {
	b := e.begin(4*binary.MaxVarintLen64 + len(p.payload))
	b = binary.AppendUvarint(b, p.term)
	b = binary.AppendUvarint(b, p.index)
	b = binary.AppendUvarint(b, p.manifestTerm)
	return sealRecord(cursor.AppendBytes(b, p.payload))
}

func readPrepare(c *cursor.Cursor) (preparation, error) {
	p := preparation{term: c.Uvarint(), index: c.Uvarint(), manifestTerm: c.Uvarint(), payload: c.Bytes()}
	return p, c.Finish(errMalformed, "manifest to prepare")
}

// installRequest encodes a manifest; its configuration goes in the form of the
// manifest's own.
func (e envelope) installRequest(r *raft.InstallSnapshotRequest, payload []byte) ([]byte, error) {
	servers, err := decodeConfiguration(r.Configuration)
	if err != nil {
		return nil, err
	}
	b := e.begin(6*binary.MaxVarintLen64 + len(servers)*128 + len(payload))
	b = binary.AppendUvarint(b, r.Term)
	b = binary.AppendUvarint(b, r.LastLogIndex)
	b = binary.AppendUvarint(b, r.LastLogTerm)
	b = binary.AppendUvarint(b, r.ConfigurationIndex)
	b = appendServers(b, servers)
	return sealRecord(cursor.AppendBytes(b, payload)), nil
}

func readInstall(c *cursor.Cursor) (*raft.InstallSnapshotRequest, []byte, error) {
	m := &manifest{}
	r := &raft.InstallSnapshotRequest{SnapshotVersion: raft.SnapshotVersionMax, Term: c.Uvarint()}
	m.index, m.term, m.configurationIndex = c.Uvarint(), c.Uvarint(), c.Uvarint()
	records := &recordReader{*c}
	m.servers = readServers(records)
	m.payload = records.Bytes()
	if err := records.Cursor.Finish(errMalformed, "manifest to install"); err != nil {
		return nil, nil, err
	}
	if err := m.validate(); err != nil {
		return nil, nil, fmt.Errorf("%w: %w", errMalformed, err)
	}
	r.LastLogIndex, r.LastLogTerm, r.ConfigurationIndex = m.index, m.term, m.configurationIndex
	r.Configuration = raft.EncodeConfiguration(toConfiguration(m.servers))
	r.Size = int64(len(m.payload))
	return r, m.payload, nil
}

// seat is one replica whose term is asked for.
type seat struct {
	set     quorate.ReplicaSetID
	replica quorate.ReplicaID
}

func termsRequest(seats []seat) []byte {
	b := append(make([]byte, 0, peerFrame+(1+2*len(seats))*binary.MaxVarintLen64), peerVersion, byte(askTerms))
	b = binary.AppendUvarint(b, uint64(len(seats)))
	for _, s := range seats {
		b = binary.AppendUvarint(b, uint64(s.set))
		b = binary.AppendUvarint(b, uint64(s.replica))
	}
	return sealRecord(b)
}

// maxSeats is of how many replicas one message asks at most: many more than a
// node has.
const maxSeats = 1 << 20

func readSeats(c *cursor.Cursor) ([]seat, error) {
	n := c.Count(2)
	if n > maxSeats {
		return nil, fmt.Errorf("%w: it asks of %d replicas, over the limit of %d", errMalformed, n, maxSeats)
	}
	seats := make([]seat, n)
	for i := range seats {
		seats[i] = seat{set: quorate.ReplicaSetID(c.Uvarint()), replica: quorate.ReplicaID(c.Uvarint())}
	}
	return seats, c.Finish(errMalformed, "list of replicas")
}

func termsReply(terms []uint64) []byte {
	b := append(make([]byte, 0, peerFrame+(1+len(terms))*binary.MaxVarintLen64), peerVersion, byte(answered))
	b = binary.AppendUvarint(b, uint64(len(terms)))
	for _, term := range terms {
		b = binary.AppendUvarint(b, term)
	}
	return sealRecord(b)
}

func readTerms(c *cursor.Cursor) ([]uint64, error) {
	terms := make([]uint64, c.Count(1))
	for i := range terms {
		terms[i] = c.Uvarint()
	}
	return terms, c.Finish(errMalformed, "list of terms")
}

func appendFlag(b []byte, set bool) []byte {
	if set {
		return append(b, 1)
	}
	return append(b, 0)
}

func readFlag(c *cursor.Cursor) bool {
	v := c.U8()
	if v > 1 {
		c.Fail()
	}
	return v == 1
}

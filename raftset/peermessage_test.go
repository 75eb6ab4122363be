package raftset

import (
	"bytes"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/quorate/quorate/internal/cursor"
)

// decoded is whatever a message holds.
type decoded struct {
	envelope envelope
	body     any
}

// decodeAny decodes any message, as Deliver and inbox.handle do together.
func decodeAny(message []byte) (decoded, error) {
	kind, c, err := openMessage(message)
	if err != nil {
		return decoded{}, err
	}
	if messageKind(kind) == askTerms {
		seats, err := readSeats(c)
		return decoded{envelope: envelope{kind: askTerms}, body: seats}, err
	}
	d := decoded{envelope: readEnvelope(kind, c)}
	switch d.envelope.kind {
	case askAppend, askPromise:
		d.body, err = readAppend(c)
	case askVote:
		d.body, err = readVote(c)
	case askPreVote:
		d.body, err = readPreVote(c)
	case askElection:
		d.body, err = readElection(c)
	case askPrepare:
		d.body, err = readPrepare(c)
	case askInstall:
		r, payload, e := readInstall(c)
		if e == nil {
			d.body = []any{*r, payload}
		}
		err = e
	default:
		err = errMalformed
	}
	return d, err
}

// encode encodes what decodeAny found.
func (d decoded) encode() ([]byte, error) {
	switch b := d.body.(type) {
	case []seat:
		return termsRequest(b), nil
	case *raft.AppendEntriesRequest:
		return d.envelope.appendRequest(b)
	case *raft.RequestVoteRequest:
		return d.envelope.voteRequest(b), nil
	case *raft.RequestPreVoteRequest:
		return d.envelope.preVoteRequest(b), nil
	case uint64:
		return d.envelope.electionRequest(b), nil
	case preparation:
		return d.envelope.prepareRequest(b), nil
	case []any:
		r := b[0].(raft.InstallSnapshotRequest)
		return d.envelope.installRequest(&r, b[1].([]byte))
	}
	return nil, errMalformed
}

func exampleMessages(t testing.TB) map[string][]byte {
	t.Helper()
	e := func(kind messageKind) envelope { return envelope{kind: kind, set: 300, to: 2, from: 1} }
	configuration := raft.EncodeConfiguration(toConfiguration([]server{{Member: member(1)}, {Member: member(2), suffrage: raft.Nonvoter}}))
	entries, err := e(askAppend).appendRequest(&raft.AppendEntriesRequest{
		Term: 7, PrevLogEntry: 1000, PrevLogTerm: 5, LeaderCommitIndex: 999,
		Entries: []*raft.Log{
			{Index: 1001, Term: 5, Type: raft.LogCommand, Data: []byte("data"), Extensions: []byte("ext")},
			{Index: 1002, Term: 6, Type: raft.LogConfiguration, Data: configuration},
			{Index: 1003, Term: 7, Type: raft.LogNoop, Data: []byte{}},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	heartbeat, err := e(askAppend).appendRequest(&raft.AppendEntriesRequest{Term: 7})
	if err != nil {
		t.Fatal(err)
	}
	promise, err := e(askPromise).appendRequest(&raft.AppendEntriesRequest{Term: 7})
	if err != nil {
		t.Fatal(err)
	}
	install, err := e(askInstall).installRequest(&raft.InstallSnapshotRequest{
		Term: 7, LastLogIndex: 1000, LastLogTerm: 5, ConfigurationIndex: 900, Configuration: configuration,
	}, []byte("payload"))
	if err != nil {
		t.Fatal(err)
	}
	return map[string][]byte{
		"entries":   entries,
		"heartbeat": heartbeat,
		"promise":   promise,
		"vote":      e(askVote).voteRequest(&raft.RequestVoteRequest{Term: 7, LastLogIndex: 1000, LastLogTerm: 6, LeadershipTransfer: true}),
		"pre-vote":  e(askPreVote).preVoteRequest(&raft.RequestPreVoteRequest{Term: 7, LastLogIndex: 1000, LastLogTerm: 6}),
		"election":  e(askElection).electionRequest(7),
		"prepare":   e(askPrepare).prepareRequest(preparation{term: 7, index: 1000, manifestTerm: 5, payload: []byte("payload")}),
		"install":   install,
		"terms":     termsRequest([]seat{{300, 2}, {301, 9}}),
	}
}

func TestMessagesAreReadAsWritten(t *testing.T) {
	for name, message := range exampleMessages(t) {
		d, err := decodeAny(message)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if again, err := d.encode(); err != nil || !bytes.Equal(again, message) {
			t.Errorf("%s comes back as %x, %v\nwant %x", name, again, err, message)
		}
		for cut := range message {
			if _, err := decodeAny(message[:cut]); !errors.Is(err, errMalformed) {
				t.Errorf("%s cut to %d bytes: %v", name, cut, err)
			}
		}
	}
	d, err := decodeAny(exampleMessages(t)["entries"])
	if err != nil {
		t.Fatal(err)
	}
	r := d.body.(*raft.AppendEntriesRequest)
	if d.envelope != (envelope{kind: askAppend, set: 300, to: 2, from: 1}) || r.Term != 7 || r.PrevLogEntry != 1000 ||
		r.PrevLogTerm != 5 || r.LeaderCommitIndex != 999 || len(r.Entries) != 3 {
		t.Errorf("entries are read as %+v, %+v", d.envelope, r)
	}
	if l := r.Entries[0]; l.Index != 1001 || l.Term != 5 || string(l.Data) != "data" || string(l.Extensions) != "ext" {
		t.Errorf("the first entry is read as %+v", l)
	}
}

func TestEntriesThatDoNotFollowAreNotSent(t *testing.T) {
	_, err := envelope{kind: askAppend}.appendRequest(&raft.AppendEntriesRequest{PrevLogEntry: 4, Entries: []*raft.Log{{Index: 6}}})
	if err == nil {
		t.Error("entry 6 was sent behind entry 4")
	}
}

func TestAnswersAreReadAsWritten(t *testing.T) {
	for _, want := range []any{
		&raft.AppendEntriesResponse{Term: 300, LastLog: 1000, Success: true},
		&raft.AppendEntriesResponse{Term: 300, LastLog: 1000, NoRetryBackoff: true},
		&promised{AppendEntriesResponse: raft.AppendEntriesResponse{Term: 300, Success: true}, span: 900 * time.Millisecond},
		&promised{AppendEntriesResponse: raft.AppendEntriesResponse{Term: 300}},
		&promised{span: maxPromise},
		&raft.RequestVoteResponse{Term: 300, Granted: true},
		&raft.RequestPreVoteResponse{Term: 300},
		&raft.InstallSnapshotResponse{Term: 300, Success: true},
		&raft.TimeoutNowResponse{},
	} {
		message, err := reply(want)
		if err != nil {
			t.Fatal(err)
		}
		got := reflect.New(reflect.TypeOf(want).Elem()).Interface()
		c, err := openReply(message)
		if err == nil {
			err = readReply(c, got)
		}
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%T %+v is read as %+v, %v", want, want, got, err)
		}
	}
	tooLong, err := reply(&promised{span: maxPromise + time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	c, err := openReply(tooLong)
	if err != nil {
		t.Fatal(err)
	}
	if err := readReply(c, &promised{}); !errors.Is(err, errMalformed) {
		t.Errorf("a promise for longer than anybody makes is read: %v", err)
	}
	for v := refusedMalformed; v <= refusedNoSpace; v++ {
		_, err := openReply(refusal(&refusedError{verdict: v, reason: strings.Repeat("x", 2*maxReasonBytes)}))
		var refused *refusedError
		if !errors.As(err, &refused) || refused.verdict != v || len(refused.reason) != maxReasonBytes {
			t.Errorf("the refusal %q is read as %v", v, err)
		}
	}
}

// FuzzMessage: whatever arrives, decoding neither panics nor takes memory that
// the bytes do not pay for, and what it takes is what encodes to the same.
func FuzzMessage(f *testing.F) {
	for _, message := range exampleMessages(f) {
		f.Add(message[:len(message)-recordCRCLen])
	}
	f.Add(termsReply([]uint64{5, 7}))
	f.Fuzz(func(t *testing.T, body []byte) {
		// The checksum would keep the fuzzer out.
		message := sealRecord(bytes.Clone(body))
		d, err := decodeAny(message)
		if err != nil {
			if !errors.Is(err, errMalformed) {
				t.Errorf("%v does not wrap errMalformed", err)
			}
			return
		}
		again, err := d.encode()
		if err != nil {
			t.Fatalf("what was read does not encode: %v", err)
		}
		twice, err := decodeAny(again)
		if err != nil || !reflect.DeepEqual(d, twice) {
			t.Errorf("it was read as %+v, then as %+v (%v)", d, twice, err)
		}
	})
}

// FuzzAnswer does the same for what comes back.
func FuzzAnswer(f *testing.F) {
	for _, r := range []any{
		&raft.AppendEntriesResponse{Term: 300, Success: true}, &raft.RequestVoteResponse{Term: 300, Granted: true}, &raft.TimeoutNowResponse{},
	} {
		message, err := reply(r)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(message[:len(message)-recordCRCLen])
	}
	f.Add([]byte{peerVersion, byte(refusedFailed), 3, 'w', 'h', 'y'})
	f.Fuzz(func(t *testing.T, body []byte) {
		message := sealRecord(bytes.Clone(body))
		c, err := openReply(message)
		if err != nil {
			return
		}
		rest := c.B
		for _, r := range []any{
			&raft.AppendEntriesResponse{}, &promised{}, &raft.RequestVoteResponse{}, &raft.RequestPreVoteResponse{}, &raft.InstallSnapshotResponse{}, nil,
		} {
			if err := readReply(&cursor.Cursor{B: rest}, r); err != nil && !errors.Is(err, errMalformed) {
				t.Errorf("%v does not wrap errMalformed", err)
			}
		}
		_, _ = readTerms(&cursor.Cursor{B: rest})
	})
}

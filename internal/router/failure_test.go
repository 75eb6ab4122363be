package router

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/metasvc"
)

// countedMeta fails to give tenants after the first few times, and counts.
type countedMeta struct {
	Meta
	good  int64
	asked atomic.Int64
	err   error
}

func (m *countedMeta) TenantMap(ctx context.Context, id quorate.TenantID) (metasvc.Tenant, *metasvc.Map, error) {
	if n := m.asked.Add(1); n > m.good {
		if n > m.good+100 {
			panic("the metadata is asked without a pause")
		}
		return metasvc.Tenant{}, nil, m.err
	}
	return m.Meta.TenantMap(ctx, id)
}

// What an earlier round, or an earlier request with the same memory, had ready
// does not make a round that failed be repeated without a pause.
func TestARoundThatFailsIsNotRepeatedAtOnce(t *testing.T) {
	r := newRig(t)
	own := r.meta
	for _, good := range []int64{0, 1} {
		meta := &countedMeta{Meta: own, good: good, err: retriable(quorate.Errorf(quorate.Unavailable, "no metadata"))}
		r.meta = meta
		q := &request{ready: true}
		q.begin(r.Router, r.tenant, (&sent{metrics: manySeries(4, at(-10))}).request())
		q.resolve()
		for range good {
			if err := q.attempt(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if err := q.attempt(t.Context()); !errors.Is(err, meta.err) || meta.asked.Load() != good+1 {
			t.Errorf("after %d good rounds: %v, and the metadata was asked %d times", good, err, meta.asked.Load())
		}
		q.release()
	}
}

// A set's request of another version: what a node of the next release sends, or
// one of this release to it. It is a matter of moments until both are the same.
func TestAMessageOfAnotherVersionIsUnavailableAndTriedAgain(t *testing.T) {
	r := newRigOf(t, 2)
	next := setRequest{Set: 1}.encode()
	next[0] = messageVersion + 1
	_, err := r.askPatiently(t.Context(), r.nodes[0], methodWrite, next)
	if quorate.KindOf(err) != quorate.Unavailable || !isRetriable(err) {
		t.Errorf("it is answered with %v of kind %v, retriable %v", err, quorate.KindOf(err), isRetriable(err))
	}
	r.network.setHarm(func(_ context.Context, _ quorate.NodeID, method string, _ int) error {
		if method == methodWrite {
			return overWire(quorate.Errorf(quorate.Invalid, "the node says what nobody understands"))
		}
		return nil
	})
	r.writeTimeout = 50 * time.Millisecond
	_, err = r.Append(t.Context(), r.tenant, (&sent{metrics: manySeries(4, at(-10))}).request())
	if quorate.KindOf(err) != quorate.Unavailable {
		t.Errorf("a write that another node cannot make sense of got %v of kind %v, want Unavailable", err, quorate.KindOf(err))
	}
}

// refusingMeta refuses to make buckets.
type refusingMeta struct {
	Meta
	err error
}

func (m refusingMeta) EnsureBucket(context.Context, quorate.PolicyID, int64) (*metasvc.Bucket, error) {
	return nil, m.err
}

// The metadata log refuses a placement on a node whose role was just taken away.
// The rows are as good as they were.
func TestAPlacementThatIsOvertakenRefusesNoRow(t *testing.T) {
	r := newRig(t)
	refused := &metasvc.Refusal{Reason: metasvc.ReasonInvalid, Rule: "node n2 holds no data"}
	r.meta = refusingMeta{r.meta, &quorate.Error{Kind: refused.Kind(), Err: refused}}
	result, _, err := r.write(t, metric{labels.FromStrings("__name__", "m"), []float{{at(-24 * 3600), 1}, {at(-10), 1}}})
	if quorate.KindOf(err) != quorate.Unavailable || result.Refused != 0 || result.Floats != 1 {
		t.Errorf("got %+v, %v of kind %v; want one row written, none refused, Unavailable", result, err, quorate.KindOf(err))
	}
}

func TestOfSeveralFailuresTheStrongestCounts(t *testing.T) {
	large := quorate.Errorf(quorate.TooLarge, "too large")
	internal := errors.New("a fault")
	gone := quorate.Errorf(quorate.Unavailable, "no leader")
	for _, order := range [][]error{{large, internal, gone}, {gone, internal, large}, {internal, gone, large}} {
		q := &request{}
		for _, err := range order {
			q.fail(err)
		}
		if !errors.Is(q.failure, gone) {
			t.Errorf("of %v it is %v", order, q.failure)
		}
	}
	for _, kind := range []quorate.ErrorKind{quorate.Invalid, quorate.NotFound, quorate.Unsupported} {
		q := &request{}
		q.fail(quorate.Errorf(kind, "what a node said"))
		if quorate.KindOf(q.failure) != quorate.Unavailable {
			t.Errorf("a failure of kind %v is the client's: %v", kind, q.failure)
		}
	}
}

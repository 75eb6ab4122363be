package peer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/testwait"
)

func TestCallReturnsTheHandlersAnswer(t *testing.T) {
	noLeaks(t)
	a := newAtlas()
	n1, n2 := a.open(t, "n1"), a.open(t, "n2")
	n2.Handle("add", func(_ context.Context, from quorate.NodeID, request []byte) ([]byte, error) {
		return fmt.Appendf(nil, "%s from %s", request, from.Name), nil
	})
	answer, err := n1.Call(t.Context(), nodeID("n2"), "add", []byte("1"))
	if err != nil || string(answer) != "1 from n1" {
		t.Errorf("got %q, %v", answer, err)
	}
	answer, err = n1.CallAddress(t.Context(), n2.Address(), "add", []byte("2"))
	if err != nil || string(answer) != "2 from n1" {
		t.Errorf("by address: got %q, %v", answer, err)
	}
	if got := testutil.ToFloat64(n1.metrics.calls.WithLabelValues("add", "ok")); got != 2 {
		t.Errorf("calls counted: want 2, got %v", got)
	}
	if got := testutil.ToFloat64(n2.metrics.handled.WithLabelValues("add", "ok")); got != 2 {
		t.Errorf("calls handled: want 2, got %v", got)
	}
}

func TestErrorsKeepTheirKindAcrossTheWire(t *testing.T) {
	a := newAtlas()
	n1, n2 := a.open(t, "n1"), a.open(t, "n2")
	var failure error
	n2.Handle("fail", func(context.Context, quorate.NodeID, []byte) ([]byte, error) { return nil, failure })
	n2.HandleStream("fail", func(_ context.Context, _ quorate.NodeID, _ []byte, send func([]byte) error) error {
		return errors.Join(send([]byte("one")), failure)
	})
	for kind := quorate.Internal; kind <= quorate.Unavailable; kind++ {
		failure = fmt.Errorf("of the disk: %w", &quorate.Error{Kind: kind, Err: errors.New("on fire"), RetryAfter: 1500 * time.Millisecond})
		check := func(err error) {
			t.Helper()
			wantErr(t, err, kind, nil)
			var kinded *quorate.Error
			var remote *RemoteError
			if !errors.As(err, &kinded) || kinded.RetryAfter != 1500*time.Millisecond {
				t.Errorf("%v: RetryAfter was lost: %v", kind, err)
			}
			if !errors.As(err, &remote) || remote.Node != "n2" || !strings.Contains(remote.Text, "of the disk: on fire") {
				t.Errorf("%v: want n2's text, got %v", kind, err)
			}
			if notDoneOf(err) {
				t.Errorf("%v: a handler's error is no proof that it did nothing", kind)
			}
		}
		_, err := n1.Call(t.Context(), nodeID("n2"), "fail", nil)
		check(err)
		recv, err := n1.Stream(t.Context(), nodeID("n2"), "fail", nil)
		if err != nil {
			t.Fatal(err)
		}
		if element, err := recv(); err != nil || string(element) != "one" {
			t.Fatalf("got %q, %v", element, err)
		}
		_, err = recv()
		check(err)
		if _, again := recv(); again != err { //nolint:errorlint // the very same
			t.Errorf("want the same error again, got %v", again)
		}
	}
	failure = context.DeadlineExceeded
	_, err := n1.Call(t.Context(), nodeID("n2"), "fail", nil)
	wantErr(t, err, quorate.Unavailable, nil)
	failure = errors.New("a bug")
	_, err = n1.Call(t.Context(), nodeID("n2"), "fail", nil)
	wantErr(t, err, quorate.Internal, nil)
}

func TestAMethodThatNothingHandlesIsOfANodeThatStarts(t *testing.T) {
	a := newAtlas()
	n1, n2 := a.open(t, "n1"), a.open(t, "n2")
	_, err := n1.Call(t.Context(), nodeID("n2"), "later", nil)
	wantErr(t, err, quorate.Unavailable, ErrStarting)
	if !notDoneOf(err) {
		t.Errorf("want proof that nothing was done, got %v", err)
	}
	recv, err := n1.Stream(t.Context(), nodeID("n2"), "later", nil)
	if err == nil {
		_, err = recv()
	}
	wantErr(t, err, quorate.Unavailable, ErrStarting)
	r := await(t, post(n1, nodeID("n2"), laneData, "m", patience))
	wantErr(t, r.err, quorate.Unavailable, ErrStarting)

	n2.Handle("later", constant("now"))
	if answer, err := n1.Call(t.Context(), nodeID("n2"), "later", nil); err != nil || string(answer) != "now" {
		t.Errorf("got %q, %v", answer, err)
	}
}

func TestAPanicOfAHandlerIsAnInternalError(t *testing.T) {
	a := newAtlas()
	n1, n2 := a.open(t, "n1"), a.open(t, "n2")
	n2.Handle("bug", func(context.Context, quorate.NodeID, []byte) ([]byte, error) { panic("nil map") })
	n2.HandleStream("bug", func(context.Context, quorate.NodeID, []byte, func([]byte) error) error { panic("nil map") })
	var calls atomic.Int32
	n2.HandleMessages(func(from quorate.NodeID, message []byte, answer func([]byte)) {
		if calls.Add(1) == 1 {
			panic("nil map")
		}
		echo(from, message, answer)
	})
	_, err := n1.Call(t.Context(), nodeID("n2"), "bug", nil)
	wantErr(t, err, quorate.Internal, nil)
	recv, err := n1.Stream(t.Context(), nodeID("n2"), "bug", nil)
	if err != nil {
		t.Fatal(err)
	}
	_, err = recv()
	wantErr(t, err, quorate.Internal, nil)
	dropped := post(n1, nodeID("n2"), laneData, "first", time.Second)
	if r := await(t, post(n1, nodeID("n2"), laneData, "second", patience)); r.err != nil {
		t.Errorf("a message after one whose handler panicked: %v", r.err)
	}
	wantErr(t, await(t, dropped).err, quorate.Unavailable, ErrTimeout)
}

func TestSizesAreLimited(t *testing.T) {
	a := newAtlas()
	small := func(c *Config) { c.MaxMessageBytes = 1000 }
	n1, n2 := a.open(t, "n1", small), a.open(t, "n2", small)
	n2.HandleMessages(echo)
	n2.Handle("blow up", func(_ context.Context, _ quorate.NodeID, request []byte) ([]byte, error) {
		return bytes.Repeat(request, 2), nil
	})
	n2.HandleStream("blow up", func(_ context.Context, _ quorate.NodeID, request []byte, send func([]byte) error) error {
		return send(bytes.Repeat(request, 2))
	})
	at, over := make([]byte, 1000), make([]byte, 1001)
	if answer, err := n1.Call(t.Context(), nodeID("n2"), "blow up", at[:500]); err != nil || len(answer) != 1000 {
		t.Errorf("at the limit: got %d bytes, %v", len(answer), err)
	}
	_, err := n1.Call(t.Context(), nodeID("n2"), "blow up", over)
	wantErr(t, err, quorate.TooLarge, nil)
	_, err = n1.Stream(t.Context(), nodeID("n2"), "blow up", over)
	wantErr(t, err, quorate.TooLarge, nil)
	_, err = n1.Call(t.Context(), nodeID("n2"), "blow up", at)
	wantErr(t, err, quorate.Internal, nil)
	recv, err := n1.Stream(t.Context(), nodeID("n2"), "blow up", at)
	if err != nil {
		t.Fatal(err)
	}
	_, err = recv()
	wantErr(t, err, quorate.Internal, nil)
	wantErr(t, await(t, post(n1, nodeID("n2"), laneData, string(over), patience)).err, quorate.TooLarge, nil)
	if r := await(t, post(n1, nodeID("n2"), laneData, string(at), patience)); r.err != nil {
		t.Errorf("at the limit: %v", r.err)
	}
}

func TestTheRequestMayBeUsedAgainAfterACallThatWasGivenUp(t *testing.T) {
	a := newAtlas()
	n1, n2 := a.open(t, "n1"), a.open(t, "n2")
	n2.Handle("sum", func(_ context.Context, _ quorate.NodeID, request []byte) ([]byte, error) {
		if bytes.ContainsAny(request, "\x02") {
			return nil, errors.New("the request was changed under way")
		}
		return nil, nil
	})
	request := bytes.Repeat([]byte{1}, 1<<20)
	for range 20 {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Microsecond)
		_, err := n1.Call(ctx, nodeID("n2"), "sum", request)
		cancel()
		if quorate.KindOf(err) == quorate.Internal && err != nil {
			t.Fatal(err)
		}
		for i := range request {
			request[i] = 2
		}
		for i := range request {
			request[i] = 1
		}
	}
}

func TestStreamDeliversItsElementsInOrderAndThenEOF(t *testing.T) {
	noLeaks(t)
	a := newAtlas()
	n1, n2 := a.open(t, "n1"), a.open(t, "n2")
	n2.HandleStream("count", func(_ context.Context, from quorate.NodeID, request []byte, send func([]byte) error) error {
		reused := make([]byte, 0, 1<<16)
		for i := range 1000 {
			reused = fmt.Appendf(reused[:0], "%s %s %d %s", from.Name, request, i, strings.Repeat("x", i*20))
			if err := send(reused); err != nil {
				return err
			}
		}
		return nil
	})
	recv, err := n1.Stream(t.Context(), nodeID("n2"), "count", []byte("up"))
	if err != nil {
		t.Fatal(err)
	}
	for i := range 1000 {
		element, err := recv()
		if want := fmt.Sprintf("n1 up %d %s", i, strings.Repeat("x", i*20)); err != nil || string(element) != want {
			t.Fatalf("element %d: got %.40q…, %v", i, element, err)
		}
	}
	for range 2 {
		if _, err := recv(); err != io.EOF { //nolint:errorlint // promised bare
			t.Errorf("want io.EOF, got %v", err)
		}
	}
}

func TestAStreamEndsWhenItsCallerGoes(t *testing.T) {
	noLeaks(t)
	a := newAtlas()
	n1, n2 := a.open(t, "n1"), a.open(t, "n2")
	sendFailed := make(chan error, 1)
	n2.HandleStream("flood", func(_ context.Context, _ quorate.NodeID, _ []byte, send func([]byte) error) error {
		for {
			if err := send(make([]byte, 1<<16)); err != nil {
				sendFailed <- err
				return err
			}
		}
	})
	ctx, cancel := context.WithCancel(t.Context())
	recv, err := n1.Stream(ctx, nodeID("n2"), "flood", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := recv(); err != nil {
		t.Fatal(err)
	}
	cancel()
	testwait.For(t, "the stream's end at its caller", func() bool { _, err = recv(); return err != nil })
	wantErr(t, err, quorate.Unavailable, context.Canceled)
	wantErr(t, <-sendFailed, quorate.Unavailable, context.Canceled)
}

func TestAStreamEndsWhenItsNodeGoes(t *testing.T) {
	noLeaks(t)
	a := newAtlas()
	n1, n2 := a.open(t, "n1"), a.open(t, "n2")
	n2.HandleStream("wait", func(ctx context.Context, _ quorate.NodeID, _ []byte, send func([]byte) error) error {
		if err := send([]byte("one")); err != nil {
			return err
		}
		<-ctx.Done()
		return ctx.Err()
	})
	recv, err := n1.Stream(t.Context(), nodeID("n2"), "wait", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := recv(); err != nil {
		t.Fatal(err)
	}
	if err := n2.Close(); err != nil {
		t.Fatal(err)
	}
	_, err = recv()
	wantErr(t, err, quorate.Unavailable, nil)
}

func TestACallEndsWithItsContext(t *testing.T) {
	noLeaks(t)
	a := newAtlas()
	n1, n2 := a.open(t, "n1"), a.open(t, "n2")
	gone := make(chan struct{})
	n2.Handle("hang", func(ctx context.Context, _ quorate.NodeID, _ []byte) ([]byte, error) {
		<-ctx.Done()
		close(gone)
		return nil, ctx.Err()
	})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := n1.Call(ctx, nodeID("n2"), "hang", nil)
	wantErr(t, err, quorate.Unavailable, context.DeadlineExceeded)
	if notDoneOf(err) {
		t.Error("a call that timed out may have been done")
	}
	<-gone
}

func TestANodeThatCannotBeReached(t *testing.T) {
	noLeaks(t)
	a := newAtlas()
	n1 := a.open(t, "n1")
	l := listen(t, "127.0.0.1:0")
	a.move(nodeID("down"), l.Addr().String())
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"down", "unknown"} {
		_, err := n1.Call(t.Context(), nodeID(name), "ping", nil)
		wantErr(t, err, quorate.Unavailable, ErrUnreachable)
		if !notDoneOf(err) {
			t.Errorf("%s: want proof that nothing was done, got %v", name, err)
		}
		_, err = n1.Stream(t.Context(), nodeID(name), "ping", nil)
		wantErr(t, err, quorate.Unavailable, ErrUnreachable)
		wantErr(t, await(t, post(n1, nodeID(name), laneControl, "m", patience)).err, quorate.Unavailable, ErrUnreachable)
	}
	_, err := n1.CallAddress(t.Context(), l.Addr().String(), "ping", nil)
	wantErr(t, err, quorate.Unavailable, ErrUnreachable)
}

func TestANodeThatRestartsIsFoundAgain(t *testing.T) {
	for _, test := range []struct {
		name string
		same bool
	}{{"at the same address", true}, {"at another address", false}} {
		t.Run(test.name, func(t *testing.T) {
			noLeaks(t)
			a := newAtlas()
			n1 := a.open(t, "n1")
			address := "127.0.0.1:0"
			for range 3 {
				var l net.Listener
				testwait.Until(t, "the address", func() (err error) {
					l, err = new(net.ListenConfig).Listen(t.Context(), "tcp", address)
					return err
				})
				n2 := a.open(t, "n2", func(c *Config) { c.Listener = l })
				n2.Handle("ping", constant("pong"))
				n2.HandleMessages(echo)
				if test.same {
					address = n2.Address()
				}
				connect(t, n1, nodeID("n2"))
				for lane := range laneCount {
					testwait.Until(t, "an answer by "+laneName(lane), func() error {
						return await(t, post(n1, nodeID("n2"), lane, "m", patience)).err
					})
				}
				if err := n2.Close(); err != nil {
					t.Fatal(err)
				}
				_, err := n1.Call(t.Context(), nodeID("n2"), "ping", nil)
				wantErr(t, err, quorate.Unavailable, nil)
			}
		})
	}
}

func TestAClosedPort(t *testing.T) {
	noLeaks(t)
	a := newAtlas()
	n1, n2 := a.open(t, "n1"), a.open(t, "n2")
	entered := make(chan struct{})
	n2.Handle("hang", func(ctx context.Context, _ quorate.NodeID, _ []byte) ([]byte, error) {
		close(entered)
		<-ctx.Done()
		return nil, ctx.Err()
	})
	failed := make(chan error, 1)
	go func() {
		_, err := n1.Call(t.Context(), nodeID("n2"), "hang", nil)
		failed <- err
	}()
	<-entered
	for range 2 {
		if err := n1.Close(); err != nil {
			t.Fatal(err)
		}
	}
	wantErr(t, <-failed, quorate.Unavailable, nil)
	_, err := n1.Call(t.Context(), nodeID("n2"), "hang", nil)
	wantErr(t, err, quorate.Unavailable, ErrClosed)
	_, err = n1.Stream(t.Context(), nodeID("n2"), "hang", nil)
	wantErr(t, err, quorate.Unavailable, ErrClosed)
	_, err = n1.CallAddress(t.Context(), n2.Address(), "hang", nil)
	wantErr(t, err, quorate.Unavailable, ErrClosed)
	wantErr(t, await(t, post(n1, nodeID("n2"), laneData, "m", patience)).err, quorate.Unavailable, ErrClosed)
}

package peer

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/testwait"
)

func TestMessagesOfALaneArriveInOrder(t *testing.T) {
	noLeaks(t)
	a := newAtlas()
	n1, n2 := a.open(t, "n1"), a.open(t, "n2")
	var mu sync.Mutex
	got := make(map[byte][]uint64) // by lane
	n2.HandleMessages(func(_ quorate.NodeID, message []byte, answer func([]byte)) {
		mu.Lock()
		got[message[0]] = append(got[message[0]], binary.LittleEndian.Uint64(message[1:]))
		mu.Unlock()
		answer(message[:9])
		answer([]byte("an answer too many"))
	})
	const count = 2000
	var left sync.WaitGroup
	for lane := range laneCount {
		left.Go(func() {
			for i := range uint64(count) {
				// Of all sizes, so that some share a frame and some need their own.
				m := make([]byte, 9+(i*i)%(3*copyBytes))
				m[0] = lane
				binary.LittleEndian.PutUint64(m[1:], i)
				left.Add(1)
				n1.Send(nodeID("n2"), lane, m, patience, func(answer []byte, err error) {
					defer left.Done()
					if err != nil || !bytes.Equal(answer, m[:9]) {
						t.Errorf("lane %d, message %d: answered with %x, %v", lane, i, answer, err)
					}
				})
			}
		})
	}
	left.Wait()
	for lane := range laneCount {
		if n := len(got[lane]); n != count || !slices.IsSorted(got[lane]) {
			t.Errorf("lane %d: got %d of %d messages, in order: %v", lane, n, count, slices.IsSorted(got[lane]))
		}
	}
	m := &n1.metrics.lanes[laneData]
	if sent, frames := testutil.ToFloat64(m.sent), testutil.ToFloat64(m.frames); sent != count || frames >= count {
		t.Errorf("want %d messages in fewer frames, got %v in %v", count, sent, frames)
	}
	if queued := testutil.ToFloat64(m.queued); queued != 0 {
		t.Errorf("%v bytes are counted as queued, and nothing is", queued)
	}
}

func TestAnswersMayComeOutOfOrder(t *testing.T) {
	a := newAtlas()
	n1, n2 := a.open(t, "n1"), a.open(t, "n2")
	var held func([]byte)
	n2.HandleMessages(func(_ quorate.NodeID, message []byte, answer func([]byte)) {
		if string(message) == "first" {
			held = answer
			return
		}
		answer([]byte("to the second"))
		held([]byte("to the first"))
	})
	first := post(n1, nodeID("n2"), laneData, "first", patience)
	second := post(n1, nodeID("n2"), laneData, "second", patience)
	if r := await(t, second); string(r.answer) != "to the second" || r.err != nil {
		t.Errorf("got %q, %v", r.answer, r.err)
	}
	if r := await(t, first); string(r.answer) != "to the first" || r.err != nil {
		t.Errorf("got %q, %v", r.answer, r.err)
	}
}

// TestDataDoesNotHoldUpControl fills the data lane of a node that takes none of
// it, and sends control messages past it: were there one queue or one
// connection, they would wait for the data.
func TestDataDoesNotHoldUpControl(t *testing.T) {
	noLeaks(t)
	a := newAtlas()
	n1, n2 := a.open(t, "n1"), a.open(t, "n2")
	stuck := make(chan struct{})
	var data atomic.Int32
	n2.HandleMessages(func(from quorate.NodeID, message []byte, answer func([]byte)) {
		if len(message) > 100 {
			data.Add(1)
			<-stuck
		}
		echo(from, message[:1], answer)
	})
	var pending []<-chan result
	for range 40 {
		pending = append(pending, post(n1, nodeID("n2"), laneData, string(make([]byte, 1<<20)), patience))
	}
	testwait.For(t, "data to arrive", func() bool { return data.Load() == 1 })
	for i := range 20 {
		if r := await(t, post(n1, nodeID("n2"), laneControl, fmt.Sprint(i%10), patience)); r.err != nil {
			t.Fatal(r.err)
		}
	}
	if n := data.Load(); n != 1 {
		t.Errorf("want the data held up all the while, %d messages of it came", n)
	}
	for _, p := range pending {
		select {
		case r := <-p:
			t.Errorf("data was answered before it was taken: %v", r.err)
		default:
		}
	}
	close(stuck)
	for _, p := range pending {
		if r := await(t, p); r.err != nil {
			t.Error(r.err)
		}
	}
}

func TestMessagesThatNobodyAnswersTimeOutInTheirOrder(t *testing.T) {
	noLeaks(t)
	a := newAtlas()
	n1, n2 := a.open(t, "n1"), a.open(t, "n2")
	answers := make(chan func([]byte), 10)
	n2.HandleMessages(func(_ quorate.NodeID, _ []byte, answer func([]byte)) { answers <- answer })
	order := make(chan int, 3)
	for i, timeout := range []time.Duration{3 * time.Second, 100 * time.Millisecond, 400 * time.Millisecond} {
		n1.Send(nodeID("n2"), laneData, []byte("m"), timeout, func(_ []byte, err error) {
			wantErr(t, err, quorate.Unavailable, ErrTimeout)
			order <- i
		})
	}
	if got := []int{<-order, <-order, <-order}; !slices.Equal(got, []int{1, 2, 0}) {
		t.Errorf("want the shortest timeout first, got %v", got)
	}
	for range 3 {
		(<-answers)([]byte("too late"))
	}
	n2.HandleMessages(echo)
	// The stream goes on; it was opened for the old handler.
	late := post(n1, nodeID("n2"), laneData, "m", patience)
	(<-answers)([]byte("in time"))
	if r := await(t, late); r.err != nil || string(r.answer) != "in time" {
		t.Errorf("got %q, %v", r.answer, r.err)
	}
	if n := testutil.ToFloat64(n1.metrics.lanes[laneData].timeouts); n != 3 {
		t.Errorf("want 3 timeouts counted, got %v", n)
	}
}

func TestAFullQueueFailsAtOnce(t *testing.T) {
	noLeaks(t)
	a := newAtlas()
	n1 := a.open(t, "n1", func(c *Config) { c.MaxQueueBytes = 10 << 20 })
	n2 := a.open(t, "n2")
	stuck := make(chan struct{})
	n2.HandleMessages(func(from quorate.NodeID, message []byte, answer func([]byte)) {
		<-stuck
		echo(from, nil, answer)
	})
	// Connection and stream hold some; what they do not take waits, and the
	// queue does not take more than its limit.
	results := make(chan result, 100)
	for range cap(results) {
		n1.Send(nodeID("n2"), laneData, make([]byte, 1<<20), patience, func(answer []byte, err error) { results <- result{answer, err} })
	}
	r := <-results
	wantErr(t, r.err, quorate.Unavailable, ErrQueueFull)
	if !notDoneOf(r.err) {
		t.Errorf("want proof that nothing was done, got %v", r.err)
	}
	if queued := testutil.ToFloat64(n1.metrics.lanes[laneData].queued); queued > 10<<20 {
		t.Errorf("%v bytes are queued, over the limit", queued)
	}
	close(stuck)
	full := 1
	for range cap(results) - 1 {
		if r := <-results; r.err != nil {
			wantErr(t, r.err, quorate.Unavailable, ErrQueueFull)
			full++
		}
	}
	if full < 50 || full >= 100 {
		t.Errorf("want most messages refused and some answered, %d of 100 were refused", full)
	}
}

func TestDoneIsCalledOnceWhateverEndsAMessage(t *testing.T) {
	for _, test := range []struct {
		name string
		end  func(t *testing.T, n1, n2 *Port)
	}{
		{"the other node closes", func(t *testing.T, _, n2 *Port) {
			if err := n2.Close(); err != nil {
				t.Error(err)
			}
		}},
		{"this node closes", func(t *testing.T, n1, _ *Port) {
			if err := n1.Close(); err != nil {
				t.Error(err)
			}
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			noLeaks(t)
			a := newAtlas()
			n1, n2 := a.open(t, "n1"), a.open(t, "n2")
			var seen atomic.Int64
			n2.HandleMessages(func(from quorate.NodeID, message []byte, answer func([]byte)) {
				if seen.Add(1)%3 == 0 {
					echo(from, message, answer)
				}
			})
			const count = 3000
			var calls [count]atomic.Int32
			var left sync.WaitGroup
			left.Add(count)
			var sending sync.WaitGroup
			for lane := range laneCount {
				sending.Go(func() {
					for i := int(lane); i < count; i += int(laneCount) {
						n1.Send(nodeID("n2"), lane, make([]byte, 100+i), 5*time.Second, func([]byte, error) {
							if calls[i].Add(1) == 1 {
								left.Done()
							}
						})
					}
				})
			}
			testwait.For(t, "messages to arrive", func() bool { return seen.Load() > 100 })
			test.end(t, n1, n2)
			sending.Wait()
			left.Wait()
			for i := range calls {
				if n := calls[i].Load(); n != 1 {
					t.Errorf("message %d: done was called %d times", i, n)
				}
			}
		})
	}
}

func TestThreeNodesTalkToEachOther(t *testing.T) {
	noLeaks(t)
	a := newAtlas()
	names := []string{"n1", "n2", "n3"}
	ports := make([]*Port, len(names))
	for i, name := range names {
		ports[i] = a.open(t, name)
		ports[i].HandleMessages(func(from quorate.NodeID, message []byte, answer func([]byte)) {
			answer(fmt.Appendf(nil, "%s to %s: %s", name, from.Name, message))
		})
	}
	var pending sync.WaitGroup
	for i, p := range ports {
		for _, to := range names {
			for k := range 200 {
				pending.Add(1)
				p.Send(nodeID(to), uint8(k%3), fmt.Append(nil, k), patience, func(answer []byte, err error) {
					defer pending.Done()
					if want := fmt.Sprintf("%s to %s: %d", to, names[i], k); err != nil || string(answer) != want {
						t.Errorf("want %q, got %q, %v", want, answer, err)
					}
				})
			}
		}
	}
	pending.Wait()
	if n := testutil.ToFloat64(ports[0].metrics.outbound); n != 9 {
		t.Errorf("want 9 connections, for three lanes to three nodes, got %v", n)
	}
	if n := testutil.ToFloat64(ports[0].metrics.inbound); n != 9 {
		t.Errorf("want 9 connections from the others, got %v", n)
	}
}

func TestALaneThatDoesNotExist(t *testing.T) {
	a := newAtlas()
	n1 := a.open(t, "n1")
	if r := await(t, post(n1, nodeID("n2"), laneCount, "m", patience)); r.err == nil {
		t.Error("want an error, got none")
	}
}

func TestANodeThatHangsFailsWhatIsSentInItsTime(t *testing.T) {
	noLeaks(t)
	a := newAtlas()
	n1 := a.open(t, "n1")
	// It accepts, and says nothing ever.
	mute := listen(t, "127.0.0.1:0")
	defer mute.Close()
	a.move(nodeID("mute"), mute.Addr().String())
	wantErr(t, await(t, post(n1, nodeID("mute"), laneControl, "m", 100*time.Millisecond)).err, quorate.Unavailable, ErrTimeout)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err := n1.Call(ctx, nodeID("mute"), "ping", nil)
	wantErr(t, err, quorate.Unavailable, context.DeadlineExceeded)
	if !notDoneOf(err) {
		t.Errorf("want proof that nothing was done, got %v", err)
	}
}

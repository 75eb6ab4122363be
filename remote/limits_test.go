package remote

import (
	"bytes"
	"encoding/binary"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/snappy"
	"github.com/stretchr/testify/require"

	"github.com/quorate/quorate/internal/testwait"
)

func TestSizeLimits(t *testing.T) {
	packed := snappy.Encode(nil, exampleBodyV1(100))
	config := Config{MaxWireBytes: int64(len(packed)), MaxDecodedBytes: int64(len(exampleBodyV1(100))), MaxRows: 200}
	h := newTestHandler(t, config, &recorder{})
	require.Equal(t, http.StatusNoContent, post(h, typeV1, packed).Code, "at the limits")

	over := config
	over.MaxWireBytes--
	w := post(newTestHandler(t, over, &recorder{}), typeV1, packed)
	require.Equal(t, http.StatusRequestEntityTooLarge, w.Code)
	r := httptest.NewRequest(http.MethodPost, "/", struct{ io.Reader }{bytes.NewReader(packed)}) // no length given
	w = httptest.NewRecorder()
	newTestHandler(t, over, &recorder{}).ServeHTTP(w, r)
	require.Equal(t, http.StatusRequestEntityTooLarge, w.Code)

	over = config
	over.MaxDecodedBytes--
	w = post(newTestHandler(t, over, &recorder{}), typeV1, packed)
	require.Equal(t, http.StatusRequestEntityTooLarge, w.Code)
	require.Contains(t, w.Body.String(), "over the limit")

	over = config
	over.MaxRows--
	a := &recorder{}
	w = post(newTestHandler(t, over, a), typeV1, packed)
	require.Equal(t, http.StatusRequestEntityTooLarge, w.Code)
	require.Empty(t, a.rows)
}

func TestEmptyMessagesDoNotMultiplyMemory(t *testing.T) {
	for name, tc := range map[string]struct {
		contentType string
		unit        []byte
	}{
		"symbols":   {typeV2, []byte{0x22, 0}},
		"samples":   {typeV1, []byte{0x12, 0}},
		"exemplars": {typeV1, []byte{0x1a, 0}},
	} {
		t.Run(name, func(t *testing.T) {
			body := bytes.Repeat(tc.unit, 3<<20)
			if tc.contentType == typeV1 {
				body = append(binary.AppendUvarint([]byte{0x0a}, uint64(len(body))), body...)
			}
			packed := snappy.Encode(nil, body)
			h := newTestHandler(t, Config{}, &recorder{})
			grown := allocated(func() {
				require.Equal(t, http.StatusRequestEntityTooLarge, post(h, tc.contentType, packed).Code)
			})
			require.Less(t, grown, uint64(512<<20))
		})
	}
}

// allocated tells how many bytes f allocated in all, collected or not.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

func TestAHundredBombsTakeNoMemory(t *testing.T) {
	h := newTestHandler(t, Config{}, &recorder{})
	bombs := [][]byte{
		binary.AppendUvarint(nil, 1<<32-1),                    // 4 GiB in five bytes
		append(binary.AppendUvarint(nil, 64<<20), 0xfe, 0, 0), // the limit in seven
		append(binary.AppendUvarint(nil, 1<<20), make([]byte, 9)...),
	}
	grown := allocated(func() {
		var wg sync.WaitGroup
		for i := range 100 {
			wg.Go(func() {
				code := post(h, typeV2, bombs[i%len(bombs)]).Code
				if code != http.StatusRequestEntityTooLarge && code != http.StatusBadRequest {
					t.Errorf("status %d", code)
				}
			})
		}
		wg.Wait()
	})
	require.Less(t, grown, uint64(32<<20), "bytes allocated for 100 bombs")
	require.Zero(t, h.bytes.used.Load())
}

func TestBytesInFlightAreBounded(t *testing.T) {
	body := exampleBodyV1(100)
	a := &recorder{hold: make(chan struct{}), entered: make(chan struct{}, 10)}
	h := newTestHandler(t, Config{MaxInflightBytes: 3 * int64(len(body))}, a)
	packed := snappy.Encode(nil, body)
	first := make(chan int)
	go func() { first <- post(h, typeV1, packed).Code }()
	<-a.entered
	require.Equal(t, 2*int64(len(body)), h.bytes.used.Load(), "what is held while storing")
	w := post(h, typeV1, packed)
	require.Equal(t, http.StatusServiceUnavailable, w.Code)
	require.Equal(t, "1", w.Header().Get("Retry-After"))
	close(a.hold)
	require.Equal(t, http.StatusNoContent, <-first)
	require.Zero(t, h.bytes.used.Load())
	require.Equal(t, http.StatusNoContent, post(h, typeV1, packed).Code, "room again")
}

func TestRequestsAtWorkAreBounded(t *testing.T) {
	a := &recorder{hold: make(chan struct{}), entered: make(chan struct{}, 10)}
	h := newTestHandler(t, Config{MaxConcurrent: 1}, a)
	packed := snappy.Encode(nil, exampleBodyV1(1))
	first := make(chan int)
	go func() { first <- post(h, typeV1, packed).Code }()
	<-a.entered
	require.Equal(t, http.StatusServiceUnavailable, post(h, typeV1, packed).Code)
	close(a.hold)
	require.Equal(t, http.StatusNoContent, <-first)
	require.Equal(t, http.StatusNoContent, post(h, typeV1, packed).Code)
}

func TestAnAppendThatHangsIsGivenUp(t *testing.T) {
	a := &recorder{hold: make(chan struct{})}
	w := post(newTestHandler(t, Config{AppendTimeout: time.Millisecond}, a), typeV1, snappy.Encode(nil, exampleBodyV1(1)))
	require.Equal(t, http.StatusServiceUnavailable, w.Code)
	require.NotEmpty(t, w.Header().Get("Retry-After"))
}

func TestASlowBodyIsCut(t *testing.T) {
	h := newTestHandler(t, Config{BodyTimeout: 20 * time.Millisecond}, &recorder{})
	server := httptest.NewServer(h)
	defer server.Close()
	reader, writer := io.Pipe()
	defer writer.Close()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL, reader)
	require.NoError(t, err)
	go writer.Write([]byte("one byte at a time")) //nolint:errcheck // the server hangs up
	resp, err := server.Client().Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	require.Equal(t, http.StatusServiceUnavailable, resp.StatusCode)
	server.Client().CloseIdleConnections()
	testwait.For(t, "the budget to be given back", func() bool { return h.bytes.used.Load() == 0 })
}

func TestTheBodysDeadlineDoesNotCutTheStoring(t *testing.T) {
	const timeout = 30 * time.Millisecond
	a := &recorder{hold: make(chan struct{}), entered: make(chan struct{}, 1)}
	server := httptest.NewServer(newTestHandler(t, Config{BodyTimeout: timeout}, a))
	defer server.Close()
	go func() {
		<-a.entered
		// The deadline passes while the rows are being stored.
		timer := time.NewTimer(4 * timeout)
		defer timer.Stop()
		<-timer.C
		close(a.hold)
	}()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL, bytes.NewReader(snappy.Encode(nil, exampleBodyV1(1))))
	require.NoError(t, err)
	resp, err := server.Client().Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	require.Equal(t, http.StatusNoContent, resp.StatusCode)
	server.Client().CloseIdleConnections()
}

package promql

import (
	"net/http"
	"time"
)

// pieceBytes is the most that is written under one deadline: some handlers
// write a whole answer at once, for which a slow client may need any time.
const pieceBytes = 64 << 10

// impatient cuts off clients that accept nothing of an answer for as long as
// stall: the write fails, by which the handler ends.
func impatient(next http.Handler, stall time.Duration) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s := &stallWriter{ResponseWriter: w, control: http.NewResponseController(w), stall: stall}
		// The server sends what it has buffered after the handler; for the
		// next request of the connection it lifts the deadline itself.
		defer s.arm()
		next.ServeHTTP(s, r)
	})
}

// stallWriter gives each piece of an answer its own deadline. Between them
// there is none, for what a query computes meanwhile is not the client's delay;
// HTTP/2 resets a stream at its deadline whether a write waits or not.
type stallWriter struct {
	http.ResponseWriter
	control *http.ResponseController
	stall   time.Duration
}

// arm and disarm ignore the one error there is: that of a writer without
// deadlines, as tests have them.
func (w *stallWriter) arm()    { _ = w.control.SetWriteDeadline(time.Now().Add(w.stall)) }
func (w *stallWriter) disarm() { _ = w.control.SetWriteDeadline(time.Time{}) }

// Write sends p piece by piece.
func (w *stallWriter) Write(p []byte) (written int, err error) {
	defer w.disarm()
	for {
		piece := p[written:min(len(p), written+pieceBytes)]
		w.arm()
		n, err := w.ResponseWriter.Write(piece)
		written += n
		if err != nil || written == len(p) {
			return written, err
		}
	}
}

// Flush sends what is buffered. That it failed shows at the next Write.
func (w *stallWriter) Flush() {
	defer w.disarm()
	w.arm()
	_ = w.control.Flush()
}

package main

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// barEvery and lineEvery are how often the progress is drawn on a terminal
	// and printed elsewhere.
	barEvery  = 200 * time.Millisecond
	lineEvery = 10 * time.Second

	barWidth = 24
	// clearLine brings the cursor to the start of the line and erases it.
	clearLine = "\r\x1b[K"
)

// screen shows on standard error how far a tool is: as a bar that is redrawn if
// that is a terminal, else as a line now and then. Log lines go between. It is
// safe for concurrent use.
type screen struct {
	out      io.Writer
	unit     string
	terminal bool
	width    int // of the terminal
	now      func() time.Time

	mu          sync.Mutex
	begin, last time.Time
	first       float64 // done when it began
	done, total float64
	text        string
	drawn       bool // a bar stands on the last line
	shown       bool // a line was printed
	closed      bool
}

// newScreen makes a screen that counts units.
func newScreen(out io.Writer, unit string) *screen {
	s := &screen{out: out, unit: unit, now: time.Now}
	if f, ok := out.(*os.File); ok {
		if size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ); err == nil {
			s.terminal, s.width = true, int(size.Col)
		}
	}
	return s
}

// note sets what stands beside the numbers from the next show on.
func (s *screen) note(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.text = text
}

// show tells how far the work is.
func (s *screen) show(done, total float64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	if s.begin.IsZero() {
		s.begin, s.first = now, done
	}
	s.done, s.total = done, total
	every := lineEvery
	if s.terminal {
		every = barEvery
	}
	if s.last.IsZero() {
		s.last = now
		if !s.terminal {
			return // the first line comes when there is something to tell
		}
	} else if now.Sub(s.last) < every {
		return
	}
	s.last = now
	s.drawLocked(now)
}

func (s *screen) drawLocked(now time.Time) {
	line := s.lineLocked(now)
	if !s.terminal {
		s.shown = true
		s.writeLocked(line + "\n")
		return
	}
	if s.width > 0 && len(line) >= s.width {
		line = line[:s.width-1]
	}
	s.drawn = true
	s.writeLocked(clearLine + line)
}

// writeLocked writes to standard error, of whose failures nobody can be told.
func (s *screen) writeLocked(text string) { _, _ = io.WriteString(s.out, text) }

// lineLocked is the progress in words.
func (s *screen) lineLocked(now time.Time) string {
	var b strings.Builder
	part := 1.0
	if s.total > 0 {
		part = min(s.done/s.total, 1)
	}
	if s.terminal {
		full := int(part * barWidth)
		fmt.Fprintf(&b, "[%s%s] ", strings.Repeat("=", full), strings.Repeat(" ", barWidth-full))
	}
	fmt.Fprintf(&b, "%5.1f%% %s of %s %s", 100*part, short(s.done), short(s.total), s.unit)
	if spent := now.Sub(s.begin).Seconds(); spent > 0 && s.done > s.first {
		rate := (s.done - s.first) / spent
		fmt.Fprintf(&b, ", %s/s", short(rate))
		if part < 1 {
			eta := time.Duration((s.total - s.done) / rate * float64(time.Second))
			fmt.Fprintf(&b, ", %s left", eta.Round(time.Second))
		}
	}
	if s.text != "" {
		fmt.Fprintf(&b, "; %s", s.text)
	}
	return b.String()
}

// short prints a number with three digits or so.
func short(v float64) string {
	for _, unit := range []struct {
		size   float64
		suffix string
	}{{1e12, "T"}, {1e9, "G"}, {1e6, "M"}, {1e3, "k"}} {
		if v >= unit.size {
			return fmt.Sprintf("%.3g%s", v/unit.size, unit.suffix)
		}
	}
	return fmt.Sprintf("%.3g", v)
}

// Write writes a log line above the bar.
func (s *screen) Write(line []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.drawn {
		s.writeLocked(clearLine)
		s.drawn = false
	}
	return s.out.Write(line)
}

// logger makes the logger of a tool: for a person, so without the time.
func (s *screen) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(s, &slog.HandlerOptions{ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
		if len(groups) == 0 && a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}}))
}

// close shows the end, if anything was shown before, and leaves the line. A
// second close does nothing.
func (s *screen) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	s.closed = true
	if s.shown || s.drawn || s.terminal && s.total > 0 {
		s.drawLocked(s.now())
	}
	if s.drawn {
		s.writeLocked("\n")
	}
}

package main

import (
	"bytes"
	"regexp"
	"strings"
	"testing"
	"time"
)

// shownAs shows progress every so often and returns what was written.
func shownAs(terminal bool, every time.Duration, dones ...float64) string {
	var out bytes.Buffer
	s := newScreen(&out, "samples")
	at := time.Unix(0, 0)
	s.terminal, s.width, s.now = terminal, 80, func() time.Time { return at }
	for i, done := range dones {
		s.show(done, dones[len(dones)-1])
		if i == 1 {
			s.logger().Warn("the server is asked again", "pause", "1s")
		}
		at = at.Add(every)
	}
	s.close()
	s.close()
	return out.String()
}

func TestABarIsDrawnOnATerminal(t *testing.T) {
	got := shownAs(true, time.Second, 0, 250_000, 500_000, 1_000_000)
	for _, want := range []string{
		"25.0% 250k of 1M samples, 250k/s, 3s left",
		"[============            ]  50.0% 500k of 1M samples, 250k/s, 2s left",
		clearLine + "level=WARN msg=\"the server is asked again\" pause=1s\n", // the bar gives way
		"100.0% 1M of 1M samples",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("it lacks %q:\n%q", want, got)
		}
	}
	if !strings.HasSuffix(got, "\n") || strings.Count(got, "\n") != 2 {
		t.Errorf("it leaves the line as %q", got)
	}
}

func TestLinesArePrintedElsewhere(t *testing.T) {
	got := shownAs(false, 6*time.Second, 0, 100, 200, 300, 400)
	if strings.ContainsAny(got, "\r\x1b[") {
		t.Errorf("it has a terminal's signs: %q", got)
	}
	if lines := regexp.MustCompile(`(?m)^ *\d+\.\d% .* samples, .*/s.*$`).FindAllString(got, -1); len(lines) != 3 || !strings.Contains(lines[2], "100.0%") {
		t.Errorf("it prints %d lines: %q", len(lines), got)
	}
}

func TestWhatIsOverAtOnceShowsNothing(t *testing.T) {
	if got := shownAs(false, time.Millisecond, 0, 10); strings.Contains(got, "%") {
		t.Errorf("it prints %q", got)
	}
}

func TestABarFitsItsTerminal(t *testing.T) {
	var out bytes.Buffer
	s := newScreen(&out, "samples")
	s.terminal, s.width = true, 30
	s.note(strings.Repeat("x", 100))
	s.show(1, 2)
	if line := strings.TrimPrefix(out.String(), clearLine); len(line) >= 30 {
		t.Errorf("a line of %d characters: %q", len(line), line)
	}
}

package benchmarks

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// clockTick is the unit of CPU time in /proc: USER_HZ is 100 on every Linux
// that Go runs on.
const clockTick = 10 * time.Millisecond

// Processes are the server's processes by their PIDs. What they used is summed.
// The zero value measures nothing.
type Processes struct {
	// PIDs are the processes; Linux only.
	PIDs []int
	// Root is where /proc is mounted; empty means "/proc".
	Root string
}

// CPU returns the user and system time that the processes have used since they
// started, in steps of 10 ms. Children that they have waited for do not count.
func (p Processes) CPU() (time.Duration, error) {
	var total time.Duration
	for _, pid := range p.PIDs {
		stat, err := os.ReadFile(p.path(pid, "stat"))
		if err != nil {
			return 0, fmt.Errorf("CPU time of process %d: %w", pid, err)
		}
		ticks, err := cpuTicks(stat)
		if err != nil {
			return 0, fmt.Errorf("CPU time of process %d: %w", pid, err)
		}
		total += time.Duration(ticks) * clockTick
	}
	return total, nil
}

// cpuTicks reads utime and stime, fields 14 and 15 of proc_pid_stat(5). The
// second field is the command in parentheses and may hold anything.
func cpuTicks(stat []byte) (int64, error) {
	_, rest, found := bytes.Cut(stat[max(0, bytes.LastIndexByte(stat, ')')):], []byte(") "))
	fields := bytes.Fields(rest)
	if !found || len(fields) < 13 {
		return 0, fmt.Errorf("malformed stat %q", stat)
	}
	user, err := strconv.ParseInt(string(fields[11]), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("malformed user time in stat: %w", err)
	}
	system, err := strconv.ParseInt(string(fields[12]), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("malformed system time in stat: %w", err)
	}
	return user + system, nil
}

// RSS returns the resident memory of the processes now, in bytes.
func (p Processes) RSS() (int64, error) { return p.status("VmRSS:") }

// PeakRSS returns the sum of each process' largest resident memory so far, in
// bytes.
func (p Processes) PeakRSS() (int64, error) { return p.status("VmHWM:") }

func (p Processes) status(field string) (int64, error) {
	var total int64
	for _, pid := range p.PIDs {
		status, err := os.ReadFile(p.path(pid, "status"))
		if err != nil {
			return 0, fmt.Errorf("memory of process %d: %w", pid, err)
		}
		kib, err := statusField(status, field)
		if err != nil {
			return 0, fmt.Errorf("memory of process %d: %w", pid, err)
		}
		total += kib << 10
	}
	return total, nil
}

// statusField reads a line such as "VmHWM:	  123456 kB".
func statusField(status []byte, field string) (int64, error) {
	for line := range bytes.Lines(status) {
		rest, found := bytes.CutPrefix(line, []byte(field))
		if !found {
			continue
		}
		value, unit, _ := bytes.Cut(bytes.TrimSpace(rest), []byte(" "))
		if string(unit) != "kB" {
			return 0, fmt.Errorf("malformed line %q in status", line)
		}
		return strconv.ParseInt(string(value), 10, 64)
	}
	return 0, fmt.Errorf("no %s in status", field)
}

func (p Processes) path(pid int, file string) string {
	root := p.Root
	if root == "" {
		root = "/proc"
	}
	return filepath.Join(root, strconv.Itoa(pid), file)
}

package raftset

import (
	"io"
	"log"
	"log/slog"
	"strings"

	"github.com/hashicorp/go-hclog"
)

// libraryLogger lets hashicorp/raft and raft-wal log to slog. They warn about
// every ordinary election and report as errors what their callers are told
// anyway, so that each is taken one level down; what they say below a warning
// is dropped unformatted.
type libraryLogger struct {
	log *slog.Logger
	// errors is the level of what the library calls an error.
	errors slog.Level
}

func newLibraryLogger(logger *slog.Logger) hclog.Logger {
	return libraryLogger{log: logger, errors: slog.LevelWarn}
}

// newRaftLogger is for hashicorp/raft, whose every error reaches somebody else
// too, and which reports each heartbeat that a member does not answer as one.
func newRaftLogger(logger *slog.Logger) hclog.Logger {
	return libraryLogger{log: logger, errors: slog.LevelDebug}
}

// Log implements hclog.Logger.
func (l libraryLogger) Log(level hclog.Level, msg string, args ...any) {
	switch level {
	case hclog.Warn:
		l.Warn(msg, args...)
	case hclog.Error:
		l.Error(msg, args...)
	case hclog.NoLevel, hclog.Trace, hclog.Debug, hclog.Info, hclog.Off:
	}
}

// Trace drops the message.
func (libraryLogger) Trace(string, ...any) {}

// Debug drops the message.
func (libraryLogger) Debug(string, ...any) {}

// Info drops the message.
func (libraryLogger) Info(string, ...any) {}

// Warn logs at slog's level Debug.
func (l libraryLogger) Warn(msg string, args ...any) {
	l.log.Debug("raft library warns", append([]any{"event", msg}, attributes(args)...)...)
}

// Error logs at slog's level Warn or Debug.
func (l libraryLogger) Error(msg string, args ...any) {
	tell := l.log.Warn
	if l.errors < slog.LevelWarn {
		tell = l.log.Debug
	}
	tell("raft library reports an error", append([]any{"event", msg}, attributes(args)...)...)
}

// IsTrace tells that traces are dropped.
func (libraryLogger) IsTrace() bool { return false }

// IsDebug tells that debug messages are dropped.
func (libraryLogger) IsDebug() bool { return false }

// IsInfo tells that informational messages are dropped.
func (libraryLogger) IsInfo() bool { return false }

// IsWarn tells that warnings are taken.
func (libraryLogger) IsWarn() bool { return true }

// IsError tells that errors are taken.
func (libraryLogger) IsError() bool { return true }

// ImpliedArgs implements hclog.Logger.
func (libraryLogger) ImpliedArgs() []any { return nil }

// With implements hclog.Logger.
func (l libraryLogger) With(args ...any) hclog.Logger {
	return libraryLogger{log: l.log.With(attributes(args)...), errors: l.errors}
}

// Name implements hclog.Logger.
func (libraryLogger) Name() string { return "" }

// Named implements hclog.Logger; names are not used.
func (l libraryLogger) Named(string) hclog.Logger { return l }

// ResetNamed implements hclog.Logger; names are not used.
func (l libraryLogger) ResetNamed(string) hclog.Logger { return l }

// SetLevel implements hclog.Logger; the level is slog's to decide.
func (libraryLogger) SetLevel(hclog.Level) {}

// GetLevel implements hclog.Logger.
func (libraryLogger) GetLevel() hclog.Level { return hclog.Warn }

// StandardLogger implements hclog.Logger; the libraries do not use it.
func (l libraryLogger) StandardLogger(*hclog.StandardLoggerOptions) *log.Logger {
	return slog.NewLogLogger(l.log.Handler(), slog.LevelDebug)
}

// StandardWriter implements hclog.Logger; the libraries do not use it.
func (l libraryLogger) StandardWriter(*hclog.StandardLoggerOptions) io.Writer {
	return l.StandardLogger(nil).Writer()
}

// attributes rewrites hclog's key-value pairs to slog's, keys in snake case.
func attributes(args []any) []any {
	out := make([]any, len(args))
	copy(out, args)
	for i := 0; i < len(out); i += 2 {
		if key, ok := out[i].(string); ok {
			out[i] = strings.ReplaceAll(key, "-", "_")
		}
	}
	return out
}

package main

import (
	"fmt"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/logutil"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// When etcd calls a request slow. By its own measure, 100 and 300 ms, each
// request of a busy small machine is logged at length three times over, which
// was half of the process's work there.
const (
	slowApply   = time.Second
	slowRequest = 3 * time.Second
)

// newLogger is etcd's own logger, less its traces of single requests.
func newLogger(level string) (*zap.Logger, error) {
	log, err := logutil.CreateDefaultZapLogger(logutil.ConvertToZapLevel(level))
	if err != nil {
		return nil, fmt.Errorf("make the log: %w", err)
	}
	return log.WithOptions(zap.WrapCore(func(core zapcore.Core) zapcore.Core { return withoutTraces{core} })), nil
}

// withoutTraces leaves out what traceutil logs of every request above 100 ms,
// which is a constant of its own.
type withoutTraces struct{ zapcore.Core }

// With implements zapcore.Core.
func (w withoutTraces) With(fields []zapcore.Field) zapcore.Core {
	return withoutTraces{w.Core.With(fields)}
}

// Check implements zapcore.Core.
func (w withoutTraces) Check(entry zapcore.Entry, checked *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if entry.Message == "trace" && entry.Level == zapcore.InfoLevel {
		return checked
	}
	return w.Core.Check(entry, checked)
}

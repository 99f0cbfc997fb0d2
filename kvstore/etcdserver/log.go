package etcdserver

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/sirupsen/logrus"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// serverLog passes etcd's errors on to logrus, and its warnings as debug messages; it
// drops the rest.
type serverLog struct {
	to *logrus.Entry
	// quiet is set on close, when etcd calls each closed listener an error.
	quiet atomic.Bool
	// died is closed when etcd has ended by itself; death then says why.
	died  chan struct{}
	death error
	once  sync.Once
}

// tooNew is no error: a store that was just made has nothing yet to note its
// version in, and etcd tries again.
const tooNew = "failed to update storage version"

// logger takes etcd's fatal errors, by which it would end this process.
func (l *serverLog) logger() *zap.Logger {
	return zap.New(l, zap.WithFatalHook(l), zap.WithPanicHook(l))
}

// OnWrite implements [zapcore.CheckWriteHook]: it ends the goroutine of etcd that
// cannot go on.
func (l *serverLog) OnWrite(entry *zapcore.CheckedEntry, fields []zapcore.Field) {
	l.once.Do(func() {
		l.death = errors.New(entry.Message)
		for _, field := range fields {
			if err, ok := field.Interface.(error); ok && field.Type == zapcore.ErrorType {
				l.death = fmt.Errorf("%s: %w", entry.Message, err)
			}
		}
		close(l.died)
	})
	runtime.Goexit()
}

// Enabled implements [zapcore.Core].
func (l *serverLog) Enabled(level zapcore.Level) bool {
	return l.to != nil && level >= zapcore.WarnLevel && !l.quiet.Load()
}

// With implements [zapcore.Core]. etcd's own fields repeat its configuration.
func (l *serverLog) With([]zapcore.Field) zapcore.Core { return l }

// Check implements [zapcore.Core].
func (l *serverLog) Check(entry zapcore.Entry, checked *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if l.Enabled(entry.Level) {
		return checked.AddCore(entry, l)
	}
	return checked
}

// Write implements [zapcore.Core].
func (l *serverLog) Write(entry zapcore.Entry, fields []zapcore.Field) error {
	encoder := zapcore.NewMapObjectEncoder()
	for _, field := range fields {
		field.AddTo(encoder)
	}
	level := logrus.DebugLevel
	if entry.Level > zapcore.WarnLevel && entry.Message != tooNew {
		level = logrus.ErrorLevel
	}
	l.to.WithFields(encoder.Fields).Log(level, "etcd: "+entry.Message)
	return nil
}

// Sync implements [zapcore.Core].
func (l *serverLog) Sync() error { return nil }

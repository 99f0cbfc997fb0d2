package kvstore

import (
	"sync/atomic"

	"github.com/sirupsen/logrus"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// serverLog passes etcd's errors on to logrus, and its warnings as debug
// messages; the rest is chatter.
type serverLog struct {
	to *logrus.Entry
	// quiet is set on close, when etcd calls each closed listener an error.
	quiet atomic.Bool
}

// tooNew is no error: a store that was just made has nothing yet to note its
// version in, and etcd tries again.
const tooNew = "failed to update storage version"

// logger makes a fatal error of etcd a panic, which startServer catches.
func (l *serverLog) logger() *zap.Logger {
	return zap.New(l, zap.WithFatalHook(zapcore.WriteThenPanic))
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

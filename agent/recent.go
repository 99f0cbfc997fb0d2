package agent

import (
	"io"
	"sync"

	"github.com/sirupsen/logrus"
)

// recentLines are kept of the log: some 400 kB.
const recentLines = 2000

// Recent is a [logrus.Hook] that keeps the last lines of the log, for "causeway report" on
// hosts whose log is somewhere else. The zero value is ready.
type Recent struct {
	mu    sync.Mutex // guards lines and next
	lines [][]byte
	next  int // the oldest line, once there are recentLines
}

// Levels implements [logrus.Hook].
func (r *Recent) Levels() []logrus.Level { return logrus.AllLevels }

// Fire implements [logrus.Hook].
func (r *Recent) Fire(entry *logrus.Entry) error {
	line, err := entry.Bytes()
	if err != nil {
		return err
	}
	line = append([]byte{}, line...) // entry's buffer is used again
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.lines) < recentLines {
		r.lines = append(r.lines, line)
		return nil
	}
	r.lines[r.next] = line
	r.next = (r.next + 1) % recentLines
	return nil
}

// write writes the lines, the oldest first.
func (r *Recent) write(w io.Writer) error {
	r.mu.Lock()
	lines := append(append([][]byte{}, r.lines[r.next:]...), r.lines[:r.next]...)
	r.mu.Unlock()
	for _, line := range lines {
		if _, err := w.Write(line); err != nil {
			return err
		}
	}
	return nil
}

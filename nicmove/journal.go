package nicmove

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/sirupsen/logrus"

	"github.com/causeway-net/causeway/internal/rtmsg"
	"github.com/causeway-net/causeway/internal/statefile"
)

// phase is how far a move has come.
type phase string

const (
	enslaving phase = "taking"    // the NIC's addresses are being moved to the bridge, or are not confirmed there
	enslaved  phase = "taken"     // they are there
	releasing phase = "returning" // they are being moved back
)

// record is one bridge of ours. It is written before the kernel is touched and
// erased after the last trace is gone: it tells a later process what was meant.
type record struct {
	Place
	// Index and MAC are the parent's, Boot is that of the kernel which gave them.
	Index int    `json:"index"`
	MAC   string `json:"mac"`
	Boot  string `json:"boot"`
	// WasDown says that the parent was down, and is to be so again.
	WasDown bool  `json:"was_down,omitempty"`
	Phase   phase `json:"phase"`
	// Confirm says that the move has to be confirmed; Answered is what must answer.
	Confirm  bool     `json:"confirm,omitempty"`
	Answered []string `json:"answered,omitempty"`
	// Saved is what the port had when it was enslaved or, in phase releasing, the bridge.
	Saved rtmsg.State `json:"saved"`
}

// journal keeps records in a folder, a file for each bridge.
type journal string

func (j journal) path(bridge string) string { return filepath.Join(string(j), bridge+".json") }

// write stores the record; it is on the disk when write returns.
func (j journal) write(r *record) error {
	err := os.MkdirAll(string(j), 0o700)
	if err == nil {
		err = statefile.Write(j.path(r.Bridge), r)
	}
	if err != nil {
		return fmt.Errorf("write journal of bridge %s: %w", r.Bridge, err)
	}
	return nil
}

func (j journal) erase(r *record) error {
	err := os.Remove(j.path(r.Bridge))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("erase journal of bridge %s: %w", r.Bridge, err)
	}
	return syncFolder(string(j))
}

// read returns all records by bridge. What was being written when the host went
// down has the suffix .new and counts for nothing. A file that says nothing is
// set aside for a repair by hand: what the kernel has is adopted.
func (j journal) read(log *logrus.Entry) (map[string]*record, error) {
	records := make(map[string]*record)
	entries, err := os.ReadDir(string(j))
	if errors.Is(err, fs.ErrNotExist) {
		return records, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read journal: %w", err)
	}
	for _, entry := range entries {
		if !strings.HasSuffix(entry.Name(), ".json") {
			continue
		}
		path := filepath.Join(string(j), entry.Name())
		r, err := readRecord(path)
		if err != nil {
			log.WithError(err).Errorf("read journal %s: set aside as %[1]s.bad", path)
			if err := os.Rename(path, path+".bad"); err != nil {
				log.WithError(err).Errorf("set journal %s aside", path)
			}
			continue
		}
		records[r.Bridge] = r
	}
	return records, nil
}

func readRecord(path string) (*record, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	r := new(record)
	if err := json.Unmarshal(text, r); err != nil {
		return nil, err
	}
	if r.Bridge == "" || r.Parent == "" {
		return nil, errors.New("it names no bridge and no parent")
	}
	return r, nil
}

func syncFolder(path string) error {
	folder, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}

package kvstore

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// etcd takes 128 of each in a transaction unless told otherwise. One guard is
// the store's identity.
const (
	maxOps    = 128
	maxGuards = maxOps - 1
)

// write is an Op with its value as JSON.
type write struct {
	kind  opKind
	key   string
	value []byte
}

// writes encodes txn's values and refuses what etcd would: a key that is put
// and written a second time, since the order within a transaction is not defined.
func (txn Txn) writes() ([]write, error) {
	if len(txn.If) > maxGuards || len(txn.Then) > maxOps {
		return nil, fmt.Errorf("a transaction of %d guards and %d writes: etcd takes at most %d and %d",
			len(txn.If), len(txn.Then), maxGuards, maxOps)
	}
	var writes []write
	put := make(map[string]bool)
	for _, op := range txn.Then {
		w := write{kind: op.kind, key: op.key}
		switch op.kind {
		case opPut:
			if put[op.key] {
				return nil, errWrittenTwice(op.key)
			}
			put[op.key] = true
			data, err := encode(op.key, op.value)
			if err != nil {
				return nil, err
			}
			if len(data) > MaxRecord {
				return nil, fmt.Errorf("record %s: %d bytes are more than the %d that a record may have", op.key, len(data), MaxRecord)
			}
			w.value = data
		case opDeletePrefix:
			if err := checkPrefix(op.key); err != nil {
				return nil, err
			}
		}
		writes = append(writes, w)
	}
	for _, w := range writes {
		if w.kind == opPut {
			continue
		}
		for key := range put {
			if key == w.key || w.kind == opDeletePrefix && strings.HasPrefix(key, w.key) {
				return nil, errWrittenTwice(key)
			}
		}
	}
	return writes, nil
}

func errWrittenTwice(key string) error {
	return fmt.Errorf("record %s is written twice in one transaction", key)
}

// conflict is the error of a txn whose guards did not hold. It names what was guarded.
func (txn Txn) conflict() error {
	var keys []string
	for _, guard := range txn.If {
		keys = append(keys, guard.key)
	}
	const most = 3
	if len(keys) > most {
		keys = append(keys[:most:most], "…")
	}
	return fmt.Errorf("%s %w", strings.Join(keys, ", "), ErrConflict)
}

// checkPrefix refuses a prefix that siblings would match; the empty one is all records.
func checkPrefix(prefix string) error {
	if prefix != "" && !strings.HasSuffix(prefix, "/") {
		return errors.New(`prefix "` + prefix + `" does not end in "/"`)
	}
	return nil
}

// guarded are the single records that txn guards.
func (txn Txn) guarded() []string {
	var keys []string
	for _, guard := range txn.If {
		if guard.kind != guardNoneNewer && !slices.Contains(keys, guard.key) {
			keys = append(keys, guard.key)
		}
	}
	return keys
}

func (e *Etcd) gets(keys []string) []clientv3.Op {
	gets := make([]clientv3.Op, 0, len(keys))
	for _, key := range keys {
		gets = append(gets, clientv3.OpGet(e.prefix+key))
	}
	return gets
}

// learn remembers the records that a conflict has shown.
func (e *Etcd) learn(keys []string, shown []*etcdserverpb.ResponseOp) {
	for i, key := range keys {
		if kvs := shown[i].GetResponseRange().Kvs; len(kvs) > 0 {
			e.memory.note(e.item(kvs[0]))
		} else {
			e.memory.forget(key)
		}
	}
}

func (e *Etcd) compares(guards []Guard) []clientv3.Cmp {
	compares := make([]clientv3.Cmp, 0, len(guards)+1)
	for _, guard := range guards {
		compares = append(compares, e.compare(guard))
	}
	return compares
}

// compare turns a guard into etcd's comparison. A record that is not there has
// both revisions zero, and a range without records meets any comparison that zero meets.
func (e *Etcd) compare(guard Guard) clientv3.Cmp {
	key := e.prefix + guard.key
	switch guard.kind {
	case guardMissing:
		return clientv3.Compare(clientv3.CreateRevision(key), "=", 0)
	case guardExists:
		return clientv3.Compare(clientv3.CreateRevision(key), ">", 0)
	case guardUnchanged:
		return clientv3.Compare(clientv3.ModRevision(key), "=", guard.revision)
	default: // guardNoneNewer
		return clientv3.Compare(clientv3.ModRevision(key).WithPrefix(), "<", guard.revision+1)
	}
}

func (e *Etcd) operations(writes []write) []clientv3.Op {
	operations := make([]clientv3.Op, 0, len(writes))
	for _, w := range writes {
		key := e.prefix + w.key
		switch w.kind {
		case opPut:
			operations = append(operations, clientv3.OpPut(key, string(w.value)))
		case opDelete:
			operations = append(operations, clientv3.OpDelete(key))
		case opDeletePrefix:
			operations = append(operations, clientv3.OpDelete(key, clientv3.WithPrefix()))
		}
	}
	return operations
}

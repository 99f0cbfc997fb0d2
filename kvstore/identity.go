package kvstore

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// identityKey is the record with the store's identity: a random value that is
// written once, by the first process that finds the store empty. No list has it. Every
// transaction compares it, so that a store which came in place of the known one,
// empty or another cluster's, is neither read nor written.
const identityKey = "store"

// ErrOtherStore says that the store that answers is not the one that this process
// belongs to. It is an ErrUnavailable too.
var ErrOtherStore = errors.New("another store")

// Identity is what this process knows of the store that it belongs to.
type Identity struct {
	// Known is the store's ID from earlier; empty: the first store is taken.
	Known string
	// Keep is called with the ID of a store before it is used, when it is not
	// Known; nil: it is not kept.
	Keep func(id string) error
	// Mark is the key of a record that this process has in the store. A store that
	// has it and no ID yet is of before there were IDs, and gets Known.
	Mark string
	// Running says that what an unknown store holds matters: this host remembers no
	// store and yet runs containers of one. Only one that has the Mark is taken then.
	Running bool
	// Reset takes the first store that answers in place of Known.
	Reset bool
}

// ID is the identity of the store; empty until it has answered once.
func (e *Etcd) ID() string {
	if id := e.id.Load(); id != nil {
		return *id
	}
	return ""
}

// identified is the ID of the store, which is asked for at the first contact.
func (e *Etcd) identified(ctx context.Context) (string, error) {
	if id := e.ID(); id != "" {
		return id, nil
	}
	return e.identify(ctx)
}

// identify finds out which store answers. It gives one without an ID its own,
// and refuses another than the known one.
func (e *Etcd) identify(ctx context.Context) (string, error) {
	select {
	case e.identifying <- struct{}{}:
	case <-ctx.Done():
		return "", e.explain(ctx, ctx.Err())
	}
	defer func() { <-e.identifying }()
	for {
		id, marked, err := e.readIdentity(ctx)
		if err != nil {
			return "", err
		}
		known := e.identity.Known
		anyStore := known == "" && (marked || !e.identity.Running) || e.identity.Reset
		switch {
		case id == known && known != "", id != "" && anyStore:
			return id, e.accept(id)
		case known != "" && descends(id, known):
			return e.restoredTo(id)
		case id != "" && known != "":
			return "", e.otherStore("it is another cluster's")
		case known != "" && marked:
			err = e.createIdentity(ctx, known)
		case anyStore:
			err = e.createIdentity(ctx, rand.Text())
		case known != "":
			return "", e.otherStore("it is empty")
		default:
			return "", e.otherStore("it has no record of this host, which runs containers of a cluster")
		}
		if err != nil && !errors.Is(err, ErrConflict) {
			return "", fmt.Errorf("create the store's identity: %w", err)
		}
	}
}

// readIdentity gives the ID that the store has, empty without one, and whether
// it has the Mark.
func (e *Etcd) readIdentity(ctx context.Context) (id string, marked bool, err error) {
	response, err := e.commit(ctx, nil, []clientv3.Op{
		clientv3.OpGet(e.prefix + identityKey), clientv3.OpGet(e.prefix+e.identity.Mark, clientv3.WithCountOnly()),
	}, nil)
	if err != nil {
		return "", false, err
	}
	marked = e.identity.Mark != "" && response.Responses[1].GetResponseRange().Count > 0
	kvs := response.Responses[0].GetResponseRange().Kvs
	if len(kvs) == 0 {
		return "", marked, nil
	}
	id, err = Decode[string](e.item(kvs[0]))
	if err == nil && id == "" {
		err = fmt.Errorf("record %s is empty", identityKey)
	}
	return id, marked, err
}

func (e *Etcd) createIdentity(ctx context.Context, id string) error {
	data, err := encode(identityKey, id)
	if err != nil {
		return err
	}
	response, err := e.commit(ctx, []clientv3.Cmp{e.compare(Missing(identityKey))},
		[]clientv3.Op{clientv3.OpPut(e.prefix+identityKey, string(data))}, nil)
	if err == nil && !response.Succeeded {
		err = ErrConflict
	}
	return err
}

func (e *Etcd) accept(id string) error {
	if id != e.identity.Known && e.identity.Keep != nil {
		if err := e.identity.Keep(id); err != nil {
			return fmt.Errorf("keep the store's identity: %w", err)
		}
	}
	e.identity.Known, e.identity.Reset = id, false
	e.id.Store(&id)
	return nil
}

// descendant gives the ID of a store that is restored from a backup of the one
// with that ID: what was written since the backup is not in it.
func descendant(id string) string { return id + "." + rand.Text() }

func descends(id, from string) bool { return strings.HasPrefix(id, from+".") }

// restoredTo takes a store that was restored from a backup of the known one. At the
// start it is accepted. Later whoever uses this Etcd has read what the store may
// not have any more: it is refused, and Restored tells.
func (e *Etcd) restoredTo(id string) (string, error) {
	if e.ID() == "" {
		return id, e.accept(id)
	}
	e.replaced.Do(func() { close(e.fromBackup) })
	return "", &unavailableError{store: e.name, err: ErrOtherStore, cause: "it was restored from a backup"}
}

// Restored is closed when the store was restored from a backup while this process
// used it. The process has to start again.
func (e *Etcd) Restored() <-chan struct{} { return e.fromBackup }

func (e *Etcd) otherStore(why string) error {
	return &unavailableError{
		store: e.name, err: ErrOtherStore,
		cause: "it is not the one this host belongs to: " + why + ". Nothing is changed here and running containers keep their traffic. " +
			"Restore the old store, or restart causeway with --store-reset to move this host's records to this one",
	}
}

// transact runs one transaction on the store that this process belongs to, and
// on no other, within the request timeout. If a guard fails, the answers to otherwise
// come after that to a read of the identity.
func (e *Etcd) transact(ctx context.Context, guards []clientv3.Cmp, then, otherwise []clientv3.Op) (*clientv3.TxnResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	id, err := e.identified(ctx)
	for err == nil {
		var value []byte
		if value, err = encode(identityKey, id); err != nil {
			break
		}
		key := e.prefix + identityKey
		same := clientv3.Compare(clientv3.Value(key), "=", string(value))
		var response *clientv3.TxnResponse
		response, err = e.commit(ctx, append([]clientv3.Cmp{same}, guards...), then, append([]clientv3.Op{clientv3.OpGet(key)}, otherwise...))
		if err != nil {
			break
		}
		if response.Succeeded || isValue(response, value) {
			e.saw(response.Header.Revision)
			return response, nil
		}
		id, err = e.identify(ctx)
	}
	return nil, err
}

// isValue says whether the Else of transact read value: then another guard failed.
func isValue(response *clientv3.TxnResponse, value []byte) bool {
	kvs := response.Responses[0].GetResponseRange().Kvs
	return len(kvs) == 1 && string(kvs[0].Value) == string(value)
}

// saw notes the highest revision that the store was seen at.
func (e *Etcd) saw(revision int64) {
	for seen := e.revision.Load(); revision > seen && !e.revision.CompareAndSwap(seen, revision); seen = e.revision.Load() {
	}
}

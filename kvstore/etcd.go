package kvstore

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/causeway-net/causeway/internal/health"
)

const (
	// DefaultPrefix is where the records are below, unless Config says otherwise.
	DefaultPrefix = "/causeway/v1/"

	// requestTimeout is how long a request waits for a store that is away: nearly
	// all the time that Docker's calls have, so that at a boot the one may come
	// after the other.
	requestTimeout = 8 * time.Second
	// MaxRecord is how long a record may be. A longer one is not written, and not
	// kept in memory when it is read.
	MaxRecord = 128 << 10
)

// Config says which etcd to use, and how.
type Config struct {
	// Endpoints are URLs of the cluster's members; the scheme may be left out
	// (https when certificate files are given, else http), and the port (2379).
	Endpoints []string
	// Prefix is put before every key; empty means DefaultPrefix.
	Prefix string
	// CACert is the file of the authority that signed the servers' certificates;
	// Cert and Key are this client's own. All may be empty.
	CACert, Cert, Key string
	// TLS is used in place of those files.
	TLS *tls.Config
	// Username and Password are those of etcd's own authentication, if it is on.
	Username, Password string
	// Identity tells which store this process belongs to. Another one that answers
	// in its place is refused: what it does not hold is no reason to take anything down.
	Identity Identity
	// Board takes faults and recoveries, each once; nil drops them.
	Board *health.Board
}

// Etcd is the Store over etcd, be it in this process or elsewhere.
type Etcd struct {
	prefix string
	// name tells users which store it is: its endpoints or its directory.
	name  string
	board *health.Board
	// client is there when connected is closed.
	client    *clientv3.Client
	connected chan struct{}
	// ctx ends with Close.
	ctx   context.Context
	close context.CancelFunc
	watch sync.WaitGroup

	// away is why the store is known to be away now.
	away atomic.Pointer[error]
	// cause is why there was no connection within the last request's time.
	cause atomic.Pointer[string]
	// connections counts the connections that were made; reconnected has a value
	// while one is to be checked.
	connections atomic.Int64
	reconnected chan struct{}

	identity Identity
	// identifying is full while one request finds out which store answers.
	identifying chan struct{}
	id          atomic.Pointer[string]
	// cluster and revision are what the store was last seen with.
	cluster  atomic.Uint64
	revision atomic.Int64
	restored broadcast
	memory   memory
	requests atomic.Int64
	// fromBackup is closed when the store was restored from a backup.
	fromBackup chan struct{}
	replaced   sync.Once
}

var _ Store = (*Etcd)(nil)

// Open gives the store at config's endpoints. It does not wait for them: until
// one answers, requests fail with ErrUnavailable. The caller closes it.
func Open(config Config) (*Etcd, error) {
	endpoints, err := parseEndpoints(config)
	if err != nil {
		return nil, err
	}
	tlsConfig := config.TLS
	if tlsConfig == nil {
		if tlsConfig, err = clientTLS(config.CACert, config.Cert, config.Key); err != nil {
			return nil, err
		}
	}
	e := newEtcd(strings.Join(endpoints, ", "), config.Prefix, config.Identity, config.Board)
	client := e.clientConfig(endpoints, tlsConfig, config.Username, config.Password)
	e.watch.Go(func() { e.connect(client) })
	return e, nil
}

func newEtcd(name, prefix string, identity Identity, board *health.Board) *Etcd {
	e := &Etcd{
		prefix: strings.TrimSuffix(cmp.Or(prefix, DefaultPrefix), "/") + "/", name: name, board: board,
		connected: make(chan struct{}), reconnected: make(chan struct{}, 1), identity: identity, identifying: make(chan struct{}, 1),
		fromBackup: make(chan struct{}),
	}
	e.ctx, e.close = context.WithCancel(context.Background())
	return e
}

// Close drops the connection. Follow and Hold must have ended.
func (e *Etcd) Close() error {
	e.close()
	e.watch.Wait()
	if e.client == nil {
		return nil
	}
	return closeClient(e.client)
}

// Get implements Store.
func (e *Etcd) Get(ctx context.Context, key string) (Item, error) {
	if Recalls(ctx) {
		if item, known := e.memory.get(key); known {
			return item, nil
		}
		if ctx.Value(guessKey{}) != nil {
			return Item{}, fmt.Errorf("record %s: %w", key, ErrNotFound)
		}
	}
	response, err := e.transact(ctx, nil, []clientv3.Op{clientv3.OpGet(e.prefix + key)}, nil)
	if err != nil {
		return Item{}, err
	}
	kvs := response.Responses[0].GetResponseRange().Kvs
	if len(kvs) == 0 {
		return Item{}, fmt.Errorf("record %s: %w", key, ErrNotFound)
	}
	return e.item(kvs[0]), nil
}

// GetAll implements Store.
func (e *Etcd) GetAll(ctx context.Context, keys []string) (Snapshot, error) {
	if len(keys) > maxOps {
		return Snapshot{}, fmt.Errorf("%d records are read at once: etcd takes at most %d", len(keys), maxOps)
	}
	reads := make([]clientv3.Op, 0, len(keys))
	for _, key := range keys {
		reads = append(reads, clientv3.OpGet(e.prefix+key))
	}
	response, err := e.transact(ctx, nil, reads, nil)
	if err != nil {
		return Snapshot{}, err
	}
	snapshot := Snapshot{Revision: response.Header.Revision, Items: make(map[string]Item, len(keys))}
	for _, read := range response.Responses {
		for _, kv := range read.GetResponseRange().Kvs {
			item := e.item(kv)
			snapshot.Items[item.Key] = item
		}
	}
	return snapshot, nil
}

// item leaves out a value that is too long to be a record of ours.
func (e *Etcd) item(kv *mvccpb.KeyValue) Item {
	item := Item{Key: strings.TrimPrefix(string(kv.Key), e.prefix), Value: kv.Value, Revision: kv.ModRevision}
	if len(kv.Value) > MaxRecord {
		item.Value, item.Oversize = nil, len(kv.Value)
	}
	return item
}

// List implements Store.
func (e *Etcd) List(ctx context.Context, prefix string) (Snapshot, error) {
	bounded, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	return e.list(bounded, prefix)
}

// list reads page by page, all at the first page's revision. Each page has the
// request timeout, so that ctx alone bounds the whole. The pages have as many
// records as fit into about a megabyte, by the one before.
func (e *Etcd) list(ctx context.Context, prefix string) (Snapshot, error) {
	if err := checkPrefix(prefix); err != nil {
		return Snapshot{}, err
	}
	const firstPage, mostRecords, pageBytes = 100, 5000, 1 << 20
	snapshot := Snapshot{Items: make(map[string]Item)}
	from := e.prefix + prefix
	end := clientv3.GetPrefixRangeEnd(from)
	for limit := firstPage; ; {
		response, err := e.transact(ctx, nil, []clientv3.Op{clientv3.OpGet(from, clientv3.WithRange(end),
			clientv3.WithLimit(int64(limit)), clientv3.WithRev(snapshot.Revision))}, nil)
		if err != nil {
			return Snapshot{}, err
		}
		if snapshot.Revision == 0 {
			snapshot.Revision = response.Header.Revision
		}
		page, size := response.Responses[0].GetResponseRange(), 0
		for _, kv := range page.Kvs {
			size += len(kv.Key) + len(kv.Value)
			if item := e.item(kv); item.Key != identityKey {
				snapshot.Items[item.Key] = item
			}
		}
		if !page.More {
			return snapshot, nil
		}
		limit = min(max(1, pageBytes*len(page.Kvs)/size), mostRecords)
		// The least key after the page's last one.
		from = string(page.Kvs[len(page.Kvs)-1].Key) + "\x00"
	}
}

// Commit implements Store.
func (e *Etcd) Commit(ctx context.Context, txn Txn) (int64, error) {
	writes, err := txn.writes()
	if err != nil {
		return 0, err
	}
	var guarded []string
	if Recalls(ctx) {
		guarded = txn.guarded()
	}
	send := func(ctx context.Context) (*clientv3.TxnResponse, error) {
		return e.transact(ctx, e.compares(txn.If), e.operations(writes), e.gets(guarded))
	}
	var response *clientv3.TxnResponse
	if txn.breaksItself() {
		response, err = resend(ctx, sendAgain, send)
	} else {
		response, err = send(ctx)
	}
	switch {
	case err != nil:
		e.memory.lost(writes)
	case response.Succeeded:
		e.memory.wrote(writes, response.Header.Revision)
	default:
		e.learn(guarded, response.Responses[1:])
		err = txn.conflict()
	}
	e.reportWrite(err)
	if err != nil {
		return 0, err
	}
	return response.Header.Revision, nil
}

// Health implements Store. The read is linearizable: a member that has lost its
// cluster does not pass.
func (e *Etcd) Health(ctx context.Context) error {
	_, err := e.transact(ctx, nil, nil, nil)
	return err
}

// Requests is the number of requests that were made of etcd; watches, leases and what
// etcd's client repeats by itself are not counted.
func (e *Etcd) Requests() int64 { return e.requests.Load() }

func encode(key string, value any) ([]byte, error) {
	data, err := json.Marshal(value)
	if err != nil {
		return nil, fmt.Errorf("record %s: %w", key, err)
	}
	return data, nil
}

// broadcast wakes all that wait.
type broadcast struct {
	mu      sync.Mutex
	channel chan struct{}
}

// wait gives a channel that is closed at the next close.
func (b *broadcast) wait() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.channel == nil {
		b.channel = make(chan struct{})
	}
	return b.channel
}

func (b *broadcast) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.channel != nil {
		close(b.channel)
		b.channel = nil
	}
}

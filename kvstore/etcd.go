package kvstore

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/sirupsen/logrus"
	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	// DefaultPrefix is where the records are below, unless Config says otherwise.
	DefaultPrefix = "/causeway/v1/"

	// requestTimeout is how long a request waits for a store that is away: nearly
	// all the time that Docker's calls have, so that at a boot the one may come
	// after the other.
	requestTimeout = 8 * time.Second
	// pageSize bounds one answer to a list to about a megabyte.
	pageSize = 2000
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
	// Username and Password are those of etcd's own authentication, if it is on.
	Username, Password string
	// Mark is the key of a record that this process keeps in the store. A store
	// that comes to answer in place of the first, and lacks it, is refused: what
	// it does not hold is no reason to take anything down. Empty: any is taken.
	Mark string
	// Log takes faults and recoveries, each once; nil drops them.
	Log *logrus.Entry
}

// Etcd is the Store over etcd, be it in this process or elsewhere.
type Etcd struct {
	prefix string
	// name tells users which store it is: its endpoints or its directory.
	name string
	log  *logrus.Entry
	conn *connection
	mark string
	// ctx ends with Close.
	ctx    context.Context
	close  context.CancelFunc
	watch  sync.WaitGroup
	outage outage
	origin origin
}

var _ Store = (*Etcd)(nil)

// Open gives the store at config's endpoints. It does not wait for them: until
// one answers, requests fail with ErrUnavailable. The caller closes it.
func Open(config Config) (*Etcd, error) {
	endpoints, err := parseEndpoints(config)
	if err != nil {
		return nil, err
	}
	tlsConfig, err := clientTLS(config.CACert, config.Cert, config.Key)
	if err != nil {
		return nil, err
	}
	e := newEtcd(strings.Join(endpoints, ", "), config.Prefix, config.Log)
	e.mark = config.Mark
	e.conn = dialer(e.ctx, endpoints, tlsConfig, config.Username, config.Password)
	e.watch.Go(e.watchConnection)
	return e, nil
}

func newEtcd(name, prefix string, log *logrus.Entry) *Etcd {
	if log == nil {
		silent := logrus.New()
		silent.SetOutput(io.Discard)
		log = logrus.NewEntry(silent)
	}
	prefix = strings.TrimSuffix(cmp.Or(prefix, DefaultPrefix), "/") + "/"
	e := &Etcd{prefix: prefix, name: name, log: log, outage: outage{log: log}}
	e.ctx, e.close = context.WithCancel(context.Background())
	return e
}

// Close drops the connection. Follow and Hold must have ended.
func (e *Etcd) Close() error {
	e.close()
	e.watch.Wait()
	return e.conn.close()
}

// Get implements Store.
func (e *Etcd) Get(ctx context.Context, key string) (Item, error) {
	floor := e.origin.floor()
	response, err := request(ctx, e, func(ctx context.Context, c *clientv3.Client) (*clientv3.GetResponse, error) {
		return c.Get(ctx, e.prefix+key)
	})
	if err != nil {
		return Item{}, err
	}
	e.origin.saw(response.Header, floor)
	if len(response.Kvs) == 0 {
		return Item{}, fmt.Errorf("record %s: %w", key, ErrNotFound)
	}
	kv := response.Kvs[0]
	return Item{Key: key, Value: kv.Value, Revision: kv.ModRevision}, nil
}

// List implements Store.
func (e *Etcd) List(ctx context.Context, prefix string) (Snapshot, error) {
	bounded, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	return e.list(bounded, prefix)
}

// list reads page by page, all at the first page's revision. Each page has the
// request timeout, so that ctx alone bounds the whole.
func (e *Etcd) list(ctx context.Context, prefix string) (Snapshot, error) {
	if err := checkPrefix(prefix); err != nil {
		return Snapshot{}, err
	}
	snapshot := Snapshot{Items: make(map[string]Item)}
	from := e.prefix + prefix
	end := clientv3.GetPrefixRangeEnd(from)
	floor := e.origin.floor()
	for {
		page, err := request(ctx, e, func(ctx context.Context, c *clientv3.Client) (*clientv3.GetResponse, error) {
			return c.Get(ctx, from, clientv3.WithRange(end), clientv3.WithLimit(pageSize),
				clientv3.WithRev(snapshot.Revision))
		})
		if err != nil {
			return Snapshot{}, err
		}
		if snapshot.Revision == 0 {
			e.origin.saw(page.Header, floor)
			snapshot.Revision = page.Header.Revision
		}
		for _, kv := range page.Kvs {
			key := strings.TrimPrefix(string(kv.Key), e.prefix)
			snapshot.Items[key] = Item{Key: key, Value: kv.Value, Revision: kv.ModRevision}
		}
		if !page.More {
			return snapshot, nil
		}
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
	guards, operations := e.compares(txn.If), e.operations(writes)
	floor := e.origin.floor()
	response, err := request(ctx, e, func(ctx context.Context, c *clientv3.Client) (*clientv3.TxnResponse, error) {
		return c.Txn(ctx).If(guards...).Then(operations...).Commit()
	})
	if err != nil {
		return 0, err
	}
	e.origin.saw(response.Header, floor)
	if !response.Succeeded {
		return 0, txn.conflict()
	}
	return response.Header.Revision, nil
}

// Health implements Store. The read is linearizable: a member that has lost its
// cluster does not pass.
func (e *Etcd) Health(ctx context.Context) error {
	_, err := e.Get(ctx, "health")
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	return err
}

// request runs one bounded call, and explains its error.
func request[T any](ctx context.Context, e *Etcd, call func(context.Context, *clientv3.Client) (T, error)) (T, error) {
	var none T
	if refused := e.origin.refusal(); refused != nil {
		return none, refused
	}
	if away := e.outage.known(); away != nil && isHasty(ctx) {
		return none, away
	}
	bounded, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	client, err := e.conn.client(bounded)
	if err != nil {
		return none, e.explain(ctx, err)
	}
	response, err := call(bounded, client)
	if err != nil {
		return none, e.explain(ctx, err)
	}
	return response, nil
}

func encode(key string, value any) ([]byte, error) {
	data, err := json.Marshal(value)
	if err != nil {
		return nil, fmt.Errorf("record %s: %w", key, err)
	}
	return data, nil
}

package ipam

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/docker/go-plugins-helpers/ipam"

	"github.com/causeway-net/causeway/internal/storetest"
	"github.com/causeway-net/causeway/kvstore"
	"github.com/causeway-net/causeway/records"
)

// Whatever Docker's socket is sent is answered, in JSON and in a sentence.
func FuzzCalls(f *testing.F) {
	methods := []string{"GetCapabilities", "GetDefaultAddressSpaces", "RequestPool", "ReleasePool", "RequestAddress", "ReleaseAddress"}
	const pool = "default-10.1.0.0-24"
	for n, request := range []any{
		nil, nil, ipam.RequestPoolRequest{AddressSpace: localSpace, Pool: "10.2.0.0/24", SubPool: "10.2.0.128/25"},
		ipam.ReleasePoolRequest{PoolID: pool}, ipam.RequestAddressRequest{PoolID: pool + "/10.1.0.64/26", Options: map[string]string{labelType: labelGateway}},
		ipam.ReleaseAddressRequest{PoolID: pool, Address: "10.1.0.9"},
	} {
		body, err := json.Marshal(request)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(byte(n), body)
	}
	f.Add(byte(2), []byte(`{"AddressSpace":"causeway.local","Pool":"","V6":true}`))
	f.Add(byte(4), []byte(`{"PoolID":"default-10.1.0.0-24/::/0","Address":"::ffff:10.1.0.7"}`))
	i := newIPAM(f, storetest.New(f), "h1")
	client := serve(f, i)
	f.Fuzz(func(t *testing.T, method byte, body []byte) {
		i.pool(t, ipam.RequestPoolRequest{Pool: "10.1.0.0/24"})
		name := methods[int(method)%len(methods)]
		response, err := client.Post("http://plugin/IpamDriver."+name, "", bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		text, err := io.ReadAll(response.Body)
		if err != nil {
			t.Fatal(err)
		}
		var answer struct {
			Err             *string
			PoolID, Address string
		}
		switch err := json.Unmarshal(text, &answer); {
		case err != nil:
			t.Fatalf("%s %q is answered %q: %v", name, body, text, err)
		case (answer.Err == nil) != (response.StatusCode == http.StatusOK):
			t.Errorf("%s %q is answered %d %s", name, body, response.StatusCode, text)
		case answer.Err != nil && (*answer.Err == "" || strings.Contains(*answer.Err, "a fault in causeway")):
			t.Errorf("%s %q is answered %q", name, body, *answer.Err)
		}
		if answer.PoolID != "" {
			if err := i.leave(t.Context(), answer.PoolID); err != nil {
				t.Errorf("pool %q cannot be released: %v", answer.PoolID, err)
			}
		}
		if addr, _, _ := strings.Cut(answer.Address, "/"); addr != "" {
			var request ipam.RequestAddressRequest
			err := json.Unmarshal(body, &request)
			if err == nil {
				err = i.release(t.Context(), request.PoolID, addr)
			}
			if err != nil {
				t.Errorf("%s of %q cannot be released: %v", addr, body, err)
			}
		}
	})
}

// damaged is a store where one record reads as something else.
type damaged struct {
	kvstore.Store
	key   string
	value []byte
}

func (d damaged) Get(ctx context.Context, key string) (kvstore.Item, error) {
	item, err := d.Store.Get(ctx, key)
	if err == nil && key == d.key {
		item.Value = d.value
	}
	return item, err
}

func (d damaged) List(ctx context.Context, prefix string) (kvstore.Snapshot, error) {
	snapshot, err := d.Store.List(ctx, prefix)
	if item, ok := snapshot.Items[d.key]; ok {
		item.Value = d.value
		snapshot.Items[d.key] = item
	}
	return snapshot, err
}

// Whatever a record of a pool or an address says, a request is answered in time; the
// pool of another network gives its addresses as before, and none is given twice.
func FuzzRecords(f *testing.F) {
	const id = "default-10.1.0.0-29"
	keys := []string{records.PoolKey(id), records.AddressKey(id, netip.MustParseAddr("10.1.0.2")), records.PoolAddresses(id) + "garbage"}
	f.Add(byte(0), []byte(`{"space":"default","prefix":"::/0","users":["h1"]}`))
	f.Add(byte(0), []byte(`{"space":"default","prefix":"","network":"gone","docker_ipam":true}`))
	f.Add(byte(0), []byte(`{"space":"default","prefix":"10.0.0.0/8","docker_ipam":true,"requested":{"h1":"9999-01-01T00:00:00Z"}}`))
	f.Add(byte(1), []byte(`{"kind":"free","freed":"9999-01-01T00:00:00Z"}`))
	f.Add(byte(1), []byte(`{"kind":"future","host":"h1","endpoint":"e"}`))
	f.Add(byte(1), []byte(`nonsense`))
	f.Add(byte(2), []byte(`null`))
	store := storetest.New(f)
	f.Fuzz(func(t *testing.T, which byte, value []byte) {
		clear := func() {
			txn := kvstore.Txn{Then: []kvstore.Op{kvstore.DeletePrefix(records.PoolsPrefix), kvstore.DeletePrefix(records.AddressesPrefix)}}
			if _, err := store.Commit(t.Context(), txn); err != nil {
				t.Fatal(err)
			}
		}
		clear()
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		whole := newIPAM(t, store, "h1")
		pool, _ := whole.pool(t, ipam.RequestPoolRequest{Pool: "10.1.0.0/29"})
		whole.must(t, pool, "10.1.0.2")
		key := keys[int(which)%len(keys)]
		if key == keys[2] {
			if _, err := store.Commit(ctx, kvstore.Txn{Then: []kvstore.Op{kvstore.Put(key, records.Address{})}}); err != nil {
				t.Fatal(err)
			}
		}
		i := newIPAM(t, damaged{store, key, value}, "h1")
		given := map[string]bool{}
		for _, want := range []string{"", "10.1.0.2", ""} {
			addr, err := i.ask(ctx, pool, want)
			if err == nil && want == "" && given[addr] {
				t.Errorf("%s %q: %s is given twice", key, value, addr)
			}
			given[addr] = true
			if errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%s %q: a request is not answered", key, value)
			}
		}
		other, _ := i.pool(t, ipam.RequestPoolRequest{Pool: "fd00:7::/64"})
		if addr := i.must(t, other, ""); !strings.HasPrefix(addr, "fd00:7::") {
			t.Errorf("%s %q: another pool gives %s", key, value, addr)
		}
		_ = i.release(ctx, pool, "10.1.0.2")
		_ = i.leave(ctx, pool)
		if ctx.Err() != nil {
			t.Errorf("%s %q: a release is not answered", key, value)
		}
	})
}

package hammer

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/records"
)

// history replays what a store went through, from its first revision on, and says where
// an address had two owners.
type history struct {
	prefix    string
	endpoints map[string]fabric.Endpoint   // by key
	holders   map[string]map[string]string // by network and address: the endpoint's key
	addresses map[string]records.Address   // by key
	blocks    map[string]string            // by key: the host
	revision  int64
	faults    []string
}

func newHistory(prefix string) *history {
	return &history{
		prefix: prefix, endpoints: map[string]fabric.Endpoint{}, holders: map[string]map[string]string{},
		addresses: map[string]records.Address{}, blocks: map[string]string{},
	}
}

// follow takes in revisions until one has been that ended names, or ctx ends.
func (h *history) follow(ctx context.Context, client *clientv3.Client, ended string) error {
	watch := client.Watch(ctx, h.prefix, clientv3.WithPrefix(), clientv3.WithRev(1))
	for response := range watch {
		if err := response.Err(); err != nil {
			return err
		}
		// A response has whole revisions, in their order.
		for at := 0; at < len(response.Events); {
			revision := response.Events[at].Kv.ModRevision
			var together []*clientv3.Event
			for ; at < len(response.Events) && response.Events[at].Kv.ModRevision == revision; at++ {
				together = append(together, response.Events[at])
			}
			h.revision = revision
			if h.take(together, ended) {
				return nil
			}
		}
	}
	return fmt.Errorf("the watch ended at revision %d: %w", h.revision, ctx.Err())
}

func (h *history) fault(format string, args ...any) {
	h.faults = append(h.faults, fmt.Sprintf("revision %d: ", h.revision)+fmt.Sprintf(format, args...))
}

// take takes in one revision: its deletions first, as a transaction has no order.
func (h *history) take(events []*clientv3.Event, ended string) (done bool) {
	for _, deleted := range []bool{true, false} {
		for _, event := range events {
			key := strings.TrimPrefix(string(event.Kv.Key), h.prefix)
			done = done || key == ended
			if (event.Type == clientv3.EventTypeDelete) != deleted {
				continue
			}
			switch table, _, _ := strings.Cut(key, "/"); table + "/" {
			case records.EndpointsPrefix:
				h.endpoint(key, event.Kv.Value)
			case records.AddressesPrefix:
				h.address(key, event.Kv.Value)
			case "blocks/":
				h.block(key, event.Kv.Value)
			}
		}
	}
	return done
}

// endpoint holds that no two endpoints of a network have one address.
func (h *history) endpoint(key string, value []byte) {
	if old, had := h.endpoints[key]; had {
		for _, address := range old.Addrs {
			delete(h.holders[old.Network], address.Addr().String())
		}
		delete(h.endpoints, key)
	}
	if value == nil {
		return
	}
	var endpoint fabric.Endpoint
	if err := json.Unmarshal(value, &endpoint); err != nil {
		h.fault("%s: %v", key, err)
		return
	}
	h.endpoints[key] = endpoint
	if h.holders[endpoint.Network] == nil {
		h.holders[endpoint.Network] = map[string]string{}
	}
	for _, address := range endpoint.Addrs {
		addr := address.Addr().String()
		if other := h.holders[endpoint.Network][addr]; other != "" {
			h.fault("%s is that of %s and of %s", addr, other, key)
		}
		h.holders[endpoint.Network][addr] = key
	}
}

// address holds that an address goes from one owner to another only by being freed, or
// from an endpoint that is gone.
func (h *history) address(key string, value []byte) {
	was, had := h.addresses[key]
	delete(h.addresses, key)
	if value == nil {
		if held := h.held(was); held != "" {
			h.fault("%s is forgotten and %s has it", key, held)
		}
		return
	}
	var now records.Address
	if err := json.Unmarshal(value, &now); err != nil {
		h.fault("%s: %v", key, err)
		return
	}
	h.addresses[key] = now
	if !had || was.Kind != records.KindEndpoint || now.Endpoint == was.Endpoint && now.Host == was.Host {
		return
	}
	if held := h.held(was); held != "" {
		h.fault("%s goes from %s, which is there, to %+v", key, held, now)
	}
	if was.Host != now.Host && now.Kind == records.KindEndpoint {
		h.fault("%s goes from host %s to host %s and was not freed", key, was.Host, now.Host)
	}
}

// held is the endpoint that has the address by its record, empty for none.
func (h *history) held(address records.Address) string {
	for key := range h.endpoints {
		if address.Endpoint != "" && strings.HasSuffix(key, "/"+address.Endpoint) {
			return key
		}
	}
	return ""
}

// block holds that a block goes from one host to another only by being given back.
func (h *history) block(key string, value []byte) {
	had := h.blocks[key]
	delete(h.blocks, key)
	if value == nil {
		return
	}
	var block struct {
		Host string `json:"host"`
	}
	if err := json.Unmarshal(value, &block); err != nil {
		h.fault("%s: %v", key, err)
		return
	}
	if had != "" && had != block.Host {
		h.fault("%s goes from host %s to host %s", key, had, block.Host)
	}
	h.blocks[key] = block.Host
}

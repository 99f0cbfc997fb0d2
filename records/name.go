package records

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/kvstore"
)

// ErrNameTaken says that another network of the cluster has the name.
var ErrNameTaken = errors.New("the name is that of another network of the cluster")

// NameNetwork writes a name into the record of network id, which has none yet, and
// what describe adds. named is false where the network got its name meanwhile. The
// error is [ErrNameTaken] where another network has the name.
func (r Records) NameNetwork(ctx context.Context, id, name string, describe func(*fabric.Network)) (named bool, err error) {
	err = kvstore.Retry(ctx, "network "+name, func() error {
		network, item, err := kvstore.Read[fabric.Network](ctx, r.Store, NetworkKey(id))
		if err != nil || network.Name != "" {
			return err
		}
		if err := r.firstToBind(ctx, network); err != nil {
			return err
		}
		free, err := r.nameFree(ctx, name, id)
		if err != nil {
			return err
		}
		describe(&network)
		network.Name = name
		_, err = r.Store.Commit(ctx, kvstore.Txn{
			If:   []kvstore.Guard{kvstore.Unchanged(item), free},
			Then: []kvstore.Op{kvstore.Put(item.Key, network), kvstore.Put(NameKey(name), id)},
		})
		named = err == nil
		return err
	})
	return named, err
}

// nameFree gives the guard under which network id may take a name.
func (r Records) nameFree(ctx context.Context, name, id string) (kvstore.Guard, error) {
	holder, item, err := kvstore.Read[string](ctx, r.Store, NameKey(name))
	if errors.Is(err, kvstore.ErrNotFound) {
		return kvstore.Missing(NameKey(name)), nil
	}
	if err != nil || holder == id {
		return kvstore.Unchanged(item), err
	}
	_, err = r.Store.Get(ctx, NetworkKey(holder))
	if err == nil {
		err = ErrNameTaken
	}
	if errors.Is(err, kvstore.ErrNotFound) {
		err = nil
	}
	return kvstore.Unchanged(item), err
}

// NameEndpoint writes the names that a container has on a network into its
// endpoint's record; the first, its own, also into the claims of its addresses, for
// the errors of others that want them. there is false where the endpoint has no record.
func (r Records) NameEndpoint(ctx context.Context, network fabric.Network, id string, names []string) (there bool, err error) {
	err = kvstore.RetryRecalled(ctx, fmt.Sprintf("names of endpoint %.12s", id), func(ctx context.Context) error {
		endpoint, item, err := kvstore.Read[fabric.Endpoint](ctx, r.Store, EndpointKey(network.ID, id))
		there = err == nil
		if errors.Is(err, kvstore.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		renamed := endpoint.Name != names[0]
		if !renamed && slices.Equal(endpoint.Names, names) {
			return unlessRecalled(ctx)
		}
		endpoint.Name, endpoint.Names = names[0], names
		txn := kvstore.Txn{
			If:   []kvstore.Guard{kvstore.Unchanged(item)},
			Then: []kvstore.Op{kvstore.Put(item.Key, endpoint)},
		}
		for _, address := range endpoint.Addrs {
			if !renamed {
				break
			}
			if err := r.nameAddress(ctx, network, endpoint, address.Addr(), &txn); err != nil {
				return err
			}
		}
		_, err = r.Store.Commit(ctx, txn)
		return err
	})
	return there, err
}

// nameAddress adds to txn that the endpoint's claim of addr has its name.
func (r Records) nameAddress(ctx context.Context, network fabric.Network, endpoint fabric.Endpoint, addr netip.Addr, txn *kvstore.Txn) error {
	subnet, ok := SubnetOf(network, addr)
	if !ok {
		return nil
	}
	claim, item, err := kvstore.Read[Address](ctx, r.Store, AddressKey(subnet.Pool, addr))
	if errors.Is(err, kvstore.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if claim.Endpoint != endpoint.ID {
		return unlessRecalled(ctx)
	}
	claim.Name = endpoint.Name
	txn.If = append(txn.If, kvstore.Unchanged(item))
	txn.Then = append(txn.Then, kvstore.Put(item.Key, claim))
	return nil
}

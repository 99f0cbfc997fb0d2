package records

import (
	"context"
	"errors"
	"fmt"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/kvstore"
)

// Attaching is a Docker network of this host that is being attached to one of
// the cluster's. The field Network of the attachment is set by the call.
type Attaching struct {
	DockerID string
	Attachment
	// Mirror says that this host's mirror runs.
	Mirror bool
}

// Attached gives the cluster network behind Docker's NetworkID on this host.
func (r Records) Attached(ctx context.Context, dockerID string) (fabric.Network, Attachment, error) {
	attachment, _, err := kvstore.Read[Attachment](ctx, r.Store, AttachmentKey(r.Host, dockerID))
	if errors.Is(err, kvstore.ErrNotFound) {
		return fabric.Network{}, Attachment{}, fmt.Errorf("network %s is not known to causeway on host %s: remove it and create it again", dockerID, r.Host)
	}
	if err != nil {
		return fabric.Network{}, Attachment{}, err
	}
	network, err := r.Network(ctx, attachment.Network)
	if errors.Is(err, kvstore.ErrNotFound) {
		return fabric.Network{}, Attachment{}, fmt.Errorf("network %s was removed from the cluster: remove it here and create it again", attachment.Network)
	}
	return network, attachment, err
}

// Attach attaches a Docker network of this host to a network of the cluster.
// ErrConflict says that either was changed meanwhile.
func (r Records) Attach(ctx context.Context, network fabric.Network, a Attaching) error {
	a.Network = network.ID
	txn := kvstore.Txn{
		If:   []kvstore.Guard{kvstore.Exists(NetworkKey(network.ID))},
		Then: []kvstore.Op{kvstore.Put(AttachmentKey(r.Host, a.DockerID), a.Attachment)},
	}
	if err := r.join(ctx, network.ID, a.Mirror, &txn); err != nil {
		return err
	}
	if a.DockerIPAM {
		if err := r.SharePools(ctx, network, &txn); err != nil {
			return err
		}
	}
	_, err := r.Store.Commit(ctx, txn)
	return err
}

// Detach detaches Docker's network dockerID from the cluster's, and deletes that
// with it when it is the last: no endpoint is on it, and every other host that
// has it follows the removal by its mirror. keep says that the network stays all
// the same. What its own mirror was still making deletes nothing else. An unknown
// network is a success: Docker sends deletes for networks that we never saw.
func (r Records) Detach(ctx context.Context, dockerID string, keep bool) error {
	return kvstore.Retry(ctx, fmt.Sprintf("network %.12s", dockerID), func() error {
		key := AttachmentKey(r.Host, dockerID)
		attachment, item, err := kvstore.Read[Attachment](ctx, r.Store, key)
		if errors.Is(err, kvstore.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		network, err := r.Store.Get(ctx, NetworkKey(attachment.Network))
		if err != nil && !errors.Is(err, kvstore.ErrNotFound) {
			return err
		}
		txn := kvstore.Txn{If: []kvstore.Guard{kvstore.Unchanged(item)}, Then: []kvstore.Op{kvstore.Delete(key)}}
		last, err := r.last(ctx, network, keep || attachment.Pending, &txn)
		if err != nil {
			return err
		}
		if last {
			return r.deleteNetwork(ctx, network, txn)
		}
		if err := r.leave(ctx, attachment.Network, dockerID, &txn); err != nil {
			return err
		}
		_, err = r.Store.Commit(ctx, txn)
		return err
	})
}

// last says whether the network of item is deleted with this host's attachment, and
// adds to txn the guards of that.
func (r Records) last(ctx context.Context, item kvstore.Item, keep bool, txn *kvstore.Txn) (bool, error) {
	if keep || item.Key == "" {
		return false, nil
	}
	network, err := kvstore.Decode[fabric.Network](item)
	if err != nil {
		return false, err
	}
	endpoints, err := r.Store.List(ctx, NetworkEndpoints(network.ID))
	if err != nil || len(endpoints.Items) > 0 {
		return false, err
	}
	snapshot, err := r.Store.List(ctx, NetworkMembers(network.ID))
	if err != nil {
		return false, err
	}
	members, err := kvstore.DecodeAll[Member](snapshot, NetworkMembers(network.ID))
	if err != nil {
		return false, err
	}
	delete(members, r.Host)
	for _, member := range members {
		if !member.Mirror || network.Swarm || member.Configured > 0 {
			return false, nil
		}
	}
	txn.If = append(txn.If,
		kvstore.NoneNewer(NetworkEndpoints(network.ID), endpoints.Revision),
		kvstore.NoneNewer(NetworkMembers(network.ID), snapshot.Revision))
	return true, nil
}

// ForgetLost detaches a network that the engine no longer has. One that no mirror
// creates again is deleted with its last host: a swarm's, and one without a name,
// because the engine died while it was created.
func (r Records) ForgetLost(ctx context.Context, dockerID string) error {
	network, _, err := r.Attached(ctx, dockerID)
	if errors.Is(err, kvstore.ErrUnavailable) {
		return err
	}
	return r.Detach(ctx, dockerID, err != nil || !network.Swarm && network.Name != "")
}

// Reattach attaches a network of the engine again that lost its attachment: the
// host was released. It says whether it did; not where the network is gone or has
// an attachment meanwhile.
func (r Records) Reattach(ctx context.Context, network string, a Attaching) (bool, error) {
	a.Network = network
	key := AttachmentKey(r.Host, a.DockerID)
	txn := kvstore.Txn{
		If:   []kvstore.Guard{kvstore.Exists(NetworkKey(network)), kvstore.Missing(key)},
		Then: []kvstore.Op{kvstore.Put(key, a.Attachment)},
	}
	if err := r.join(ctx, network, a.Mirror, &txn); err != nil {
		return false, err
	}
	_, err := r.Store.Commit(ctx, txn)
	if errors.Is(err, kvstore.ErrConflict) {
		return false, nil
	}
	return err == nil, err
}

// Settle records that the engine has the network that its mirror was creating: from
// now on a delete is a user's.
func (r Records) Settle(ctx context.Context, dockerID string) error {
	attachment, item, err := kvstore.Read[Attachment](ctx, r.Store, AttachmentKey(r.Host, dockerID))
	if errors.Is(err, kvstore.ErrNotFound) {
		return nil // removed again
	}
	if err != nil || !attachment.Pending {
		return err
	}
	attachment.Pending = false
	_, err = r.Store.Commit(ctx, kvstore.Txn{
		If: []kvstore.Guard{kvstore.Unchanged(item)}, Then: []kvstore.Op{kvstore.Put(item.Key, attachment)},
	})
	if errors.Is(err, kvstore.ErrConflict) {
		return nil // removed again
	}
	return err
}

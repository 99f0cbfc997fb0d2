package records

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/causeway-net/causeway/kvstore"
)

// Member says that a host's Docker has a network of the cluster. It is written
// and deleted in the transactions of the host's attachments, so that one prefix
// tells who has the network.
type Member struct {
	// Mirror says that the host follows the removal of the network by itself.
	Mirror bool `json:"mirror,omitempty"`
	// Configured counts the host's containers, stopped ones included, that are
	// configured for the network. The host's mirror keeps it.
	Configured int `json:"configured,omitempty"`
}

// join adds to txn that this host is a member of network. What the mirror has
// counted is kept.
func (r Records) join(ctx context.Context, network string, mirror bool, txn *kvstore.Txn) error {
	key := MemberKey(network, r.Host)
	member, item, err := kvstore.Read[Member](ctx, r.Store, key)
	switch {
	case errors.Is(err, kvstore.ErrNotFound):
		txn.If = append(txn.If, kvstore.Missing(key))
	case err != nil:
		return err
	default:
		txn.If = append(txn.If, kvstore.Unchanged(item))
	}
	member.Mirror = mirror
	txn.Then = append(txn.Then, kvstore.Put(key, member))
	return nil
}

// leave adds to txn that this host is no longer a member of network, unless it
// has another attachment to it.
func (r Records) leave(ctx context.Context, network, dockerID string, txn *kvstore.Txn) error {
	key := MemberKey(network, r.Host)
	item, err := r.Store.Get(ctx, key)
	if errors.Is(err, kvstore.ErrNotFound) {
		txn.If = append(txn.If, kvstore.Missing(key)) // a second attachment would write it
		return nil
	}
	if err != nil {
		return err
	}
	txn.If = append(txn.If, kvstore.Unchanged(item))
	others, err := r.attachments(ctx, network)
	if err != nil {
		return err
	}
	delete(others, dockerID)
	if len(others) == 0 {
		txn.Then = append(txn.Then, kvstore.Delete(key))
	}
	return nil
}

// attachments are this host's to network, by Docker's NetworkID.
func (r Records) attachments(ctx context.Context, network string) (map[string]Attachment, error) {
	snapshot, err := r.Store.List(ctx, HostAttachments(r.Host))
	if err != nil {
		return nil, err
	}
	found := make(map[string]Attachment)
	for key, item := range snapshot.Items {
		attachment, err := kvstore.Decode[Attachment](item)
		if err == nil && attachment.Network == network {
			found[key[len(HostAttachments(r.Host)):]] = attachment
		}
	}
	return found, nil
}

// isMember says whether this host has network.
func (r Records) isMember(ctx context.Context, network string) (bool, error) {
	if network == "" {
		return false, nil
	}
	_, err := r.Store.Get(ctx, MemberKey(network, r.Host))
	if errors.Is(err, kvstore.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// SyncMembers brings the members in line with this host's attachments. It is
// called once when the host starts: a mirror may have been turned on or off, and
// older versions wrote no members.
func (r Records) SyncMembers(ctx context.Context, mirror bool) error {
	snapshot, err := r.Store.List(ctx, HostAttachments(r.Host))
	if err != nil {
		return err
	}
	for _, item := range snapshot.Items {
		attachment, err := kvstore.Decode[Attachment](item)
		if err != nil {
			continue
		}
		err = kvstore.Retry(ctx, fmt.Sprintf("member of network %s", attachment.Network), func() error {
			member, _, err := kvstore.Read[Member](ctx, r.Store, MemberKey(attachment.Network, r.Host))
			if err == nil && member.Mirror == mirror {
				return nil
			}
			if _, err := r.Store.Get(ctx, item.Key); errors.Is(err, kvstore.ErrNotFound) {
				return nil // detached meanwhile
			}
			txn := kvstore.Txn{If: []kvstore.Guard{kvstore.Exists(item.Key)}}
			if err := r.join(ctx, attachment.Network, mirror, &txn); err != nil {
				return err
			}
			_, err = r.Store.Commit(ctx, txn)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// SetConfigured notes how many of this host's containers are configured for
// network; nothing where the host is no member.
func (r Records) SetConfigured(ctx context.Context, network string, count int) error {
	return kvstore.Retry(ctx, fmt.Sprintf("containers configured for network %s", network), func() error {
		member, item, err := kvstore.Read[Member](ctx, r.Store, MemberKey(network, r.Host))
		if errors.Is(err, kvstore.ErrNotFound) {
			return nil
		}
		if err != nil || member.Configured == count {
			return err
		}
		member.Configured = count
		_, err = r.Store.Commit(ctx, kvstore.Txn{
			If: []kvstore.Guard{kvstore.Unchanged(item)}, Then: []kvstore.Op{kvstore.Put(item.Key, member)},
		})
		return err
	})
}

// ReleaseMembers deletes this host from the members of all its networks, in
// batches: an etcd takes 128 writes at once. It comes before its attachments.
func (r Records) ReleaseMembers(ctx context.Context) error {
	snapshot, err := r.Store.List(ctx, HostAttachments(r.Host))
	if err != nil {
		return err
	}
	networks := make(map[string]bool)
	for _, item := range snapshot.Items {
		if attachment, err := kvstore.Decode[Attachment](item); err == nil {
			networks[attachment.Network] = true
		}
	}
	for batch := range slices.Chunk(slices.Sorted(maps.Keys(networks)), maxWrites) {
		txn := r.guarded()
		for _, network := range batch {
			txn.Then = append(txn.Then, kvstore.Delete(MemberKey(network, r.Host)))
		}
		if _, err := r.Store.Commit(ctx, txn); err != nil {
			return err
		}
	}
	return nil
}

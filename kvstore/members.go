package kvstore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// StoreMember is one member as the store tells.
type StoreMember struct {
	ID uint64
	// Name is empty until the member has started.
	Name string
	// Peer and Client are its URLs; Client is empty until it has started.
	Peer, Client string
	// Learner says that it has no vote yet.
	Learner bool
}

// Members lists the store's members, by name.
func (e *Etcd) Members(ctx context.Context) ([]StoreMember, error) {
	response, err := request(ctx, e, func(ctx context.Context, client *clientv3.Client) (*clientv3.MemberListResponse, error) {
		return client.MemberList(ctx)
	})
	if err != nil {
		return nil, err
	}
	members := make([]StoreMember, 0, len(response.Members))
	for _, m := range response.Members {
		members = append(members, StoreMember{
			ID: m.ID, Name: m.Name, Learner: m.IsLearner, Peer: firstOf(m.PeerURLs), Client: firstOf(m.ClientURLs),
		})
	}
	slices.SortFunc(members, func(a, b StoreMember) int { return strings.Compare(a.Name+a.Peer, b.Name+b.Peer) })
	return members, nil
}

func firstOf(urls []string) string {
	if len(urls) == 0 {
		return ""
	}
	return urls[0]
}

// Leader gives the ID of the member that leads; zero while none does.
func (e *Etcd) Leader(ctx context.Context) (uint64, error) {
	return request(ctx, e, func(ctx context.Context, client *clientv3.Client) (leader uint64, err error) {
		for _, endpoint := range client.Endpoints() { // one may be down
			var status *clientv3.StatusResponse
			bounded, cancel := context.WithTimeout(ctx, time.Second)
			status, err = client.Status(bounded, endpoint)
			cancel()
			if err == nil {
				return status.Leader, nil
			}
		}
		return 0, err
	})
}

// Roles says what each member does in the store, by name: it leads, it votes, or
// it learns, without a vote yet.
func (e *Etcd) Roles(ctx context.Context) (map[string]string, error) {
	members, err := e.Members(ctx)
	if err != nil {
		return nil, err
	}
	leader, err := e.Leader(ctx)
	if err != nil {
		return nil, err
	}
	roles := make(map[string]string)
	for _, m := range members {
		switch {
		case m.Learner:
			roles[m.Name] = "learns"
		case m.ID == leader:
			roles[m.Name] = "leads"
		default:
			roles[m.Name] = "votes"
		}
	}
	return roles, nil
}

// AddLearner lets a member join that is to start at the peer URL, and gives the
// peer URLs of the others by name. Asked again it changes nothing. While another
// is joining that has not started, the error is [ErrConflict].
func (e *Etcd) AddLearner(ctx context.Context, peer string) (others map[string]string, err error) {
	members, err := e.Members(ctx)
	if err != nil {
		return nil, err
	}
	others = make(map[string]string)
	known, joining := false, ""
	for _, m := range members {
		if m.Peer == peer {
			known = true
			continue
		}
		if m.Name == "" {
			joining = m.Peer
		}
		others[cmp.Or(m.Name, m.Peer)] = m.Peer // etcd compares the URLs, any name will do
	}
	switch {
	case known:
		return others, nil
	case joining != "":
		return nil, fmt.Errorf("another member, at %s, is joining the store: %w", joining, ErrConflict)
	}
	_, err = request(ctx, e, func(ctx context.Context, client *clientv3.Client) (*clientv3.MemberAddResponse, error) {
		return client.MemberAddAsLearner(ctx, []string{peer})
	})
	return others, busy(err)
}

// Promote gives a learner its vote. The error is [ErrConflict] while it has not
// caught up, or while too few members are well.
func (e *Etcd) Promote(ctx context.Context, id uint64) error {
	_, err := request(ctx, e, func(ctx context.Context, client *clientv3.Client) (*clientv3.MemberPromoteResponse, error) {
		return client.MemberPromote(ctx, id)
	})
	if errors.Is(err, rpctypes.ErrMemberNotLearner) {
		return nil
	}
	return busy(err)
}

// RemoveMember removes a member from the store; one that is not there is no error.
func (e *Etcd) RemoveMember(ctx context.Context, id uint64) error {
	_, err := request(ctx, e, func(ctx context.Context, client *clientv3.Client) (*clientv3.MemberRemoveResponse, error) {
		return client.MemberRemove(ctx, id)
	})
	if errors.Is(err, rpctypes.ErrMemberNotFound) {
		return nil
	}
	return busy(err)
}

// MoveMember notes that the member is reached by the others at another peer URL.
func (e *Etcd) MoveMember(ctx context.Context, id uint64, peer string) error {
	_, err := request(ctx, e, func(ctx context.Context, client *clientv3.Client) (*clientv3.MemberUpdateResponse, error) {
		return client.MemberUpdate(ctx, id, []string{peer})
	})
	return busy(err)
}

// busy makes an ErrConflict of what etcd refuses for now, to keep its quorum.
func busy(err error) error {
	for _, refusal := range []error{
		rpctypes.ErrMemberLearnerNotReady, rpctypes.ErrTooManyLearners, rpctypes.ErrMemberNotEnoughStarted, rpctypes.ErrUnhealthy,
	} {
		if errors.Is(err, refusal) {
			return fmt.Errorf("%w: %w", err, ErrConflict)
		}
	}
	return err
}

// SetEndpoints has the store asked at these members from now on.
func (e *Etcd) SetEndpoints(urls []string) {
	select {
	case <-e.connected:
		if len(urls) > 0 && !slices.Equal(slices.Sorted(slices.Values(urls)), slices.Sorted(slices.Values(e.client.Endpoints()))) {
			e.client.SetEndpoints(urls...)
		}
	default: // it is not used yet
	}
}

package nl

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/vishvananda/netlink"

	"github.com/causeway-net/causeway/fabric"
)

// Pairs are the veth pairs of one data plane, or of one of its networks.
type Pairs struct {
	// Host is the namespace where Docker takes the container's ends, Home that
	// of the host's ends; they may be the same.
	Host, Home *Handle
	// Mark begins the alias of the host's ends. It may be empty where Home is a
	// namespace of our own.
	Mark string
}

// List gives the host's ends by name.
func (p Pairs) List() (map[string]netlink.Link, error) {
	links, err := p.Home.LinkList()
	if err != nil {
		return nil, fmt.Errorf("list links: %w", err)
	}
	ends := make(map[string]netlink.Link)
	for _, link := range links {
		name, alias := link.Attrs().Name, link.Attrs().Alias
		if link.Type() == "veth" && IsHostEnd(name) && strings.HasPrefix(alias, p.Mark) {
			ends[name] = link
		}
	}
	return ends, nil
}

// Alive tells which of endpoints have a container: the host's end of the pair
// is there, and the other has left the host's namespace. It costs a request for
// each endpoint.
func (p Pairs) Alive(ctx context.Context, endpoints []fabric.Endpoint) (map[string]bool, error) {
	host := -1 // the ID by which Home knows the host's namespace; -1 is Home itself
	if !p.Home.NS().Equal(p.Host.NS()) {
		var err error
		if host, err = p.Home.GetNetNsIdByFd(int(p.Host.NS())); err != nil {
			return nil, fmt.Errorf("look up the ID of the host's network namespace: %w", err)
		}
	}
	alive := make(map[string]bool, len(endpoints))
	for _, endpoint := range endpoints {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		end, err := p.Home.Link(HostEnd(endpoint.ID))
		if errors.Is(err, ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		alive[endpoint.ID] = end.Attrs().NetNsID != host
	}
	return alive, nil
}

// Prune deletes the pairs that belong to none of wanted.
func (p Pairs) Prune(wanted []fabric.Endpoint) error {
	ends, err := p.List()
	if err != nil {
		return err
	}
	for _, endpoint := range wanted {
		delete(ends, HostEnd(endpoint.ID))
	}
	var errs []error
	for name := range ends {
		errs = append(errs, p.Home.Remove(name))
	}
	return errors.Join(errs...)
}

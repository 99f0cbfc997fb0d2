package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/sirupsen/logrus"
	"github.com/vishvananda/netns"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/health"
	"github.com/causeway-net/causeway/internal/hostfilter"
	"github.com/causeway-net/causeway/internal/talk"
	"github.com/causeway-net/causeway/nicmove"
	"github.com/causeway-net/causeway/ovs"
	"github.com/causeway-net/causeway/routed"
	"github.com/causeway-net/causeway/underlay"
	"github.com/causeway-net/causeway/vxlan"
	"github.com/causeway-net/causeway/wireguard"
)

// planes are the data planes of this host.
type planes struct {
	vxlan    *vxlan.Plane
	ovs      *ovs.Plane
	underlay *underlay.Plane
	filter   *hostfilter.Filter
	routed   *routed.Plane
	// encryption is this host's end of encrypted networks.
	encryption *wireguard.Device
	meter      talk.Meter // of the pairs of all planes
}

// openUnderlay finishes what a crash may have broken off: before that, the host
// may be without the very address that others reach it at.
func openUnderlay(ctx context.Context, s settings, log *logrus.Entry) (*planes, error) {
	p := &planes{}
	here, err := netns.Get()
	if err != nil {
		return nil, fmt.Errorf("open the network namespace of this host: %w", err)
	}
	endpoints, err := s.remoteStore()
	if err != nil {
		return nil, err
	}
	p.underlay, err = underlay.New(underlay.Config{
		HostNS: here, Journal: filepath.Join(s.dataDir, "underlay"), Confirm: storeAnswers(endpoints), Log: log,
		InUse: func(ctx context.Context, device string) string {
			if p.ovs == nil { // not open yet
				return ""
			}
			return p.ovs.BridgeOf(ctx, device)
		},
	})
	if err != nil {
		return nil, err
	}
	if err := p.underlay.Recover(ctx); err != nil {
		log.WithError(err).Error("an underlay network could not be recovered; it is tried again with its next change, or within a minute")
	}
	return p, nil
}

// storeAnswers is what an underlay move must not cut off, if the store is on
// other machines: one of them takes a connection.
func storeAnswers(endpoints []string) []nicmove.Question {
	if len(endpoints) == 0 {
		return nil
	}
	ask := func(ctx context.Context) error {
		var errs []error
		for _, endpoint := range endpoints {
			address := endpoint
			if at, err := url.Parse(endpoint); err == nil && at.Host != "" {
				address = at.Host
			}
			conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
			if err == nil {
				return conn.Close()
			}
			errs = append(errs, err)
		}
		return errors.Join(errs...)
	}
	return []nicmove.Question{{Name: "the store at " + strings.Join(endpoints, ", "), Ask: ask}}
}

// openTunnels opens the others, once the host's VTEP is known.
func (p *planes) openTunnels(s settings, host fabric.Host, board *health.Board, log *logrus.Entry) (err error) {
	if p.filter, err = hostfilter.Open(hostfilter.Config{
		NS: netns.None(), VTEP: host.VTEP, VXLANPort: s.vxlanPort, Tunnels: s.tunnelPorts(), Ports: s.ownPorts(), Log: log,
	}); err != nil {
		return err
	}
	if p.vxlan, err = vxlan.New(vxlan.Config{
		Senders: p.filter, Port: int(s.vxlanPort), Dir: s.onHost("/run/netns"), EngineDir: s.onHost("/run/docker/netns"), Board: board, Log: log,
	}); err != nil {
		return err
	}
	if p.routed, err = routed.New(routed.Config{Senders: p.filter, StackOnly: !s.fastPath, Port: int(s.vxlanPort), VTEP: host.VTEP, HostNS: netns.None(), Board: board, Log: log}); err != nil {
		return err
	}
	p.ovs, err = ovs.New(ovs.Config{
		Datapath: s.ovsDatapath, VXLANPort: s.ovsVXLANPort, SealedPort: s.vxlanPort, Senders: p.filter, VTEP: host.VTEP,
		RunDir: cmp.Or(os.Getenv("OVS_RUNDIR"), s.onHost("/run/openvswitch")), HostNS: netns.None(), Board: board, Log: log,
	})
	return err
}

func (p *planes) byMode() map[fabric.Mode]fabric.Dataplane {
	return map[fabric.Mode]fabric.Dataplane{
		fabric.ModeVXLAN: p.vxlan, fabric.ModeOVS: p.ovs, fabric.ModeUnderlay: p.underlay, fabric.ModeRouted: p.routed,
	}
}

// drops counts what was dropped at containers' ports, by endpoint ID.
func (p *planes) drops(ctx context.Context) (map[string]fabric.Drops, error) {
	all := make(map[string]fabric.Drops)
	var errs []error
	for _, read := range []func(context.Context) (map[string]fabric.Drops, error){p.vxlan.Drops, p.underlay.Drops, p.routed.Drops, p.ovs.Drops} {
		drops, err := read(ctx)
		errs = append(errs, err)
		maps.Copy(all, drops)
	}
	return all, errors.Join(errs...)
}

// close lets go of the kernel, and leaves it as it is.
func (p *planes) close() error {
	var errs []error
	if p.vxlan != nil {
		errs = append(errs, p.vxlan.Close())
	}
	if p.routed != nil {
		errs = append(errs, p.routed.Close())
	}
	if p.ovs != nil {
		errs = append(errs, p.ovs.Close())
	}
	if p.encryption != nil {
		errs = append(errs, p.encryption.Close())
	}
	if p.filter != nil {
		errs = append(errs, p.filter.Close())
	}
	return errors.Join(append(errs, p.meter.Close(), p.underlay.Close())...)
}

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/sirupsen/logrus"
	"github.com/vishvananda/netns"

	"github.com/causeway-net/causeway/driver"
	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/ovs"
	"github.com/causeway-net/causeway/underlay"
	"github.com/causeway-net/causeway/vxlan"
)

// planes are the data planes of this host.
type planes struct {
	vxlan    *vxlan.Plane
	ovs      *ovs.Plane
	underlay *underlay.Plane
}

// openUnderlay finishes what a crash may have broken off: before that, the host
// may be without the very address that others reach it at.
func openUnderlay(ctx context.Context, s settings, log *logrus.Entry) (*underlay.Plane, error) {
	here, err := netns.Get()
	if err != nil {
		return nil, fmt.Errorf("open the network namespace of this host: %w", err)
	}
	plane, err := underlay.New(underlay.Config{
		HostNS: here, Journal: filepath.Join(s.dataDir, "underlay"), Log: log,
	})
	if err != nil {
		return nil, err
	}
	if err := plane.Recover(ctx); err != nil {
		log.WithError(err).Error("an underlay network could not be put in order; trying again with its next change")
	}
	return plane, nil
}

func openPlanes(s settings, host fabric.Host, physical *underlay.Plane, log *logrus.Entry) (*planes, error) {
	p := &planes{underlay: physical}
	var err error
	if p.vxlan, err = vxlan.New(vxlan.Config{
		Port: int(s.vxlanPort), Dir: s.onHost("/run/netns"), EngineDir: s.onHost("/run/docker/netns"), Log: log,
	}); err != nil {
		return nil, err
	}
	p.ovs, err = ovs.New(ovs.Config{
		Datapath: s.ovsDatapath, VXLANPort: s.ovsVXLANPort, VTEP: host.VTEP, RunDir: cmp.Or(os.Getenv("OVS_RUNDIR"), s.onHost("/run/openvswitch")), HostNS: netns.None(), Log: log,
	})
	if err != nil {
		return nil, errors.Join(err, p.vxlan.Close())
	}
	return p, nil
}

func (p *planes) byMode() map[fabric.Mode]driver.Dataplane {
	return map[fabric.Mode]driver.Dataplane{
		fabric.ModeVXLAN: p.vxlan, fabric.ModeOVS: p.ovs, fabric.ModeUnderlay: p.underlay,
	}
}

// close lets go of the kernel, and leaves it as it is.
func (p *planes) close() error { return errors.Join(p.vxlan.Close(), p.ovs.Close()) }

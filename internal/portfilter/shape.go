package portfilter

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/causeway-net/causeway/internal/nl"
)

// shapeHandle is that of our token buckets.
const shapeHandle = 0xca05

// shape has the host's end send to the container at the rule's rate: a token bucket
// (tc-tbf(8)) whose queue is 50 ms long. What comes from the container is held to the
// rate by the program, which has no queue.
func shape(at *nl.Handle, p Port) error {
	if p.Rule.Rate == 0 {
		return nil
	}
	if err := at.QdiscReplace(newShape(p)); err != nil {
		return fmt.Errorf("limit what %s sends to its container: %w", p.End.Attrs().Name, err)
	}
	return nil
}

func newShape(p Port) *netlink.Tbf {
	const shortest = 16 << 10 // bytes; a bucket must hold the largest frame
	perSecond := p.Rule.Rate / 8
	burst := max(perSecond/100, shortest)
	return &netlink.Tbf{
		QdiscAttrs: netlink.QdiscAttrs{LinkIndex: p.End.Attrs().Index, Handle: netlink.MakeHandle(shapeHandle, 0), Parent: netlink.HANDLE_ROOT},
		Rate:       perSecond, Limit: uint32(min(burst+perSecond/20+shortest, 1<<30)), Buffer: netlink.Xmittime(perSecond, uint32(burst)),
	}
}

// shapes tells, by link index, which of the ports are as fast as their rules say. It is one
// request, and none where no rule has a rate.
func shapes(at *nl.Handle, ports []Port) (map[int]bool, error) {
	right, limited := make(map[int]bool, len(ports)), make(map[int]Port)
	for _, p := range ports {
		index := p.End.Attrs().Index
		if right[index] = p.Rule.Rate == 0; !right[index] {
			limited[index] = p
		}
	}
	if len(limited) == 0 {
		return right, nil
	}
	qdiscs, err := at.QdiscList(nil)
	if err != nil && !errors.Is(err, unix.ENODEV) {
		return nil, fmt.Errorf("list qdiscs: %w", err)
	}
	for _, qdisc := range qdiscs {
		have, ok := qdisc.(*netlink.Tbf)
		if p, ours := limited[qdisc.Attrs().LinkIndex]; ok && ours && have.Rate == newShape(p).Rate {
			right[have.LinkIndex] = true
		}
	}
	return right, nil
}

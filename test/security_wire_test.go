package test

import (
	"fmt"
	"net/netip"
	"slices"
)

// fromTheWire has someone listen between the hosts, also while the device that an encrypted
// network's tunnels end at is deleted and comes back.
func (b besieged) fromTheWire(found *findings) {
	b.Helper()
	const words = "nobody-else-reads-this"
	from, to := b.run(1, "teller"), b.run(2, "hearer")
	from.pings(to.addr(b.network))
	ends := netip.MustParseAddr(from.addr(b.network)).AsSlice()
	ends = append(ends, netip.MustParseAddr(to.addr(b.network)).AsSlice()...)
	outer := slices.Concat(b.vteps[0].AsSlice(), b.vteps[1].AsSlice())
	nic := "eth0"
	if slices.Contains(b.create, "bridge=lan") {
		nic = "cable"
	}
	listen := func(row ...string) (note func()) {
		said, addressed := b.overhear(b.host(1), nic, words), b.overhear(b.host(1), nic, string(ends))
		return func() {
			for n, count := range []int{said(), addressed()} {
				cell := "nothing"
				if count > 0 {
					cell = "**readable**"
				}
				found.note(row[min(n, len(row)-1)], b.name, cell)
				if b.encrypted() && count > 0 {
					b.Errorf("%s: %d frames on the wire tell %s", b.name, count, row)
				}
			}
		}
	}
	const deleted = "either, while its WireGuard device is deleted and made again"
	passed := b.overhear(b.host(1), nic, string(outer))
	note := listen("what a container says", "the containers' addresses")
	const times = 50
	for range times {
		b.tells(from, to, b.network, words)
	}
	from.pings(to.addr(b.network))
	if b.tunnel != 0 {
		eventually(b.T, "the packets are on the wire", func() error {
			if n := passed(); n < times {
				return fmt.Errorf("%d passed", n)
			}
			return nil
		})
	}
	note()
	if !b.encrypted() {
		found.note(deleted, b.name, "–")
		return
	}
	note = listen(deleted)
	b.must(b.host(1), "ip", "link", "del", b.host(1).wireGuard())
	eventually(b.T, "the deleted device is back", func() error {
		for range times {
			b.tells(from, to, b.network, words)
		}
		_, err := from.exec("ping", "-c", "1", "-W", "1", to.addr(b.network))
		return err
	})
	note()
}

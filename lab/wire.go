package lab

import (
	"context"
	"strings"
)

// routerRules hide the lab's addresses from the outside.
const routerRules = `table inet lab {
	chain postrouting {
		type nat hook postrouting priority srcnat;
		oifname "eth1" masquerade
	}
}
`

// wire joins the machines by the switch and gives them addresses and routes.
func (l *Lab) wire(ctx context.Context) error {
	keeper := func(name string) int { return l.state.Machines[name].Keeper.PID }
	sw := l.machines[0]
	batch := switchBatch(layout(l.state.Options), l.state.Options.MTU, keeper)
	if _, err := sw.feed(ctx, strings.NewReader(batch), "ip", "-batch", "-"); err != nil {
		return err
	}
	if err := l.eachMachine(func(m *Machine) error {
		if _, err := m.feed(ctx, strings.NewReader(machineBatch(m.spec)), "ip", "-batch", "-"); err != nil {
			return err
		}
		if !l.state.Options.OVS || len(m.nics) == 0 {
			return nil
		}
		// A veth leaves the checksum to its peer, which is wrong for a peer in user space.
		_, err := m.Run(ctx, "ethtool", "-K", "eth0", "tx", "off")
		return err
	}); err != nil {
		return err
	}
	router, err := l.Machine(routerName)
	if err != nil {
		return err
	}
	if _, err := router.Run(ctx, "sh", "-c", "echo 1 | tee /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv6/conf/all/forwarding"); err != nil {
		return err
	}
	_, err = router.feed(ctx, strings.NewReader(routerRules), "nft", "-f", "-")
	return err
}

// Cut takes a machine's cable out of the switch: its packets are lost both ways,
// while its link stays up, as when a switch further away fails.
func (l *Lab) Cut(ctx context.Context, machine string) error {
	return l.setPort(ctx, machine, "nomaster")
}

// Heal puts the cable back.
func (l *Lab) Heal(ctx context.Context, machine string) error {
	m, err := l.Machine(machine)
	if err != nil {
		return err
	}
	return l.setPort(ctx, machine, "master", m.lan.bridge)
}

func (l *Lab) setPort(ctx context.Context, machine string, to ...string) error {
	if _, err := l.Machine(machine); err != nil {
		return err
	}
	_, err := l.machines[0].Run(ctx, append([]string{"ip", "link", "set", machine}, to...)...)
	return err
}

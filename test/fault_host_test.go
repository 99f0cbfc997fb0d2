package test

import (
	"errors"
	"fmt"
	"strings"

	"github.com/causeway-net/causeway/lab"
)

// hostFaults are those of a host's place in the cluster.
func (b *faultBed) hostFaults() []fault {
	causeway := func(n int) lab.Service { return b.host(n).Causeway }
	return []fault{
		{name: "renamed", hosts: []int{2}, inject: restartsWith(2, "--host-name", "web"), heal: restartsWith(2)},
		{
			name: "released, and back", hosts: []int{3}, cuts: true, long: true, inject: both(kills(causeway, 3), (*faultBed).release),
			heal: (*faultBed).comeBack,
		},
	}
}

// restartsWith restarts the causeway of a host with more arguments.
func restartsWith(n int, extra ...string) act {
	return func(b *faultBed) error { b.restartWith(n, extra...); return nil }
}

// taker is a container of h1 that has the address of the steady one of a released host.
const taker = "taker"

// release removes h3, and gives its container's address to another.
func (b *faultBed) release() error {
	b.gone(3)
	if _, err := b.host(1).try("causeway", "hosts", "rm", "h3"); err != nil {
		return err
	}
	_, err := b.host(1).try("docker", "run", "-d", "--name", taker, "--net="+bedNetwork, "--ip="+b.addrs[3], "busybox", "sleep", "3600")
	return err
}

// comeBack has h3 join again. It must not use the address that is another's now.
func (b *faultBed) comeBack() error {
	token, err := b.host(1).try("causeway", "token", "-q")
	if err != nil {
		return err
	}
	h := b.host(3)
	held := b.steadyFrom(b.steady[2], b.addrs[3])
	b.restartWith(3, "--join", token)
	eventuallyWithin(b.T, healed, "h3 says whose place is lost", func() error {
		return h.shows("these containers lost their place in the cluster, restart them: "+b.steady[3].name, "status")
	})
	held()
	if out, err := h.try("nsenter", "--target", fmt.Sprint(b.pid(3)), "--net", "ip", "-o", "address"); err != nil || strings.Contains(out, b.addrs[3]) {
		return errors.Join(err, fmt.Errorf("the container of a host that was released has its address still: %s", out))
	}
	if _, err := b.host(1).try("docker", "rm", "-f", taker); err != nil {
		return err
	}
	_, err = h.try("docker", "restart", "-t", "0", b.steady[3].name)
	return err
}

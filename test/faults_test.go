package test

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// pluginRestart loses no packet while causeway stops, is gone, and starts.
func pluginRestart(c *cluster) {
	c.network("steady", "--subnet=192.168.50.0/24")
	first := c.host(1).run("steady1", "--net=steady")
	second := c.host(2).run("steady2", "--net=steady")
	first.pings(second.addr("steady"))
	stop := c.steadyFrom(first, second.addr("steady"))
	for _, h := range []*host{c.host(2), c.host(1)} {
		if err := h.Causeway.Restart(c.Context()); err != nil {
			c.Error(err)
		}
	}
	if err := c.host(2).Causeway.Kill(c.Context()); err != nil {
		c.Error(err)
	}
	if err := c.host(2).Causeway.Start(c.Context()); err != nil {
		c.Error(err)
	}
	stop()
	// It knows its networks without being told again.
	c.host(2).run("steady3", "--net=steady").pings(first.addr("steady"))
}

// fortyAtOnce starts containers on all hosts at once on the plain network, with
// Docker's own allocator on the host that made it.
func fortyAtOnce(c *cluster) {
	const count = 40
	c.network("crowd", "--subnet=192.168.51.0/26")
	hosts := len(c.lab.Hosts())
	containers := make([]container, count)
	var wait sync.WaitGroup
	queue := make(chan int)
	for range 8 {
		wait.Go(func() {
			for n := range queue {
				h := c.host(n%hosts + 1)
				name := fmt.Sprint("crowd", n)
				if _, err := h.try("docker", "run", "-d", "--name", name, "--net=crowd", "busybox", "sleep", "3600"); err != nil {
					c.Error(err)
				}
				containers[n] = container{h, name}
			}
		})
	}
	for n := range count {
		queue <- n
	}
	close(queue)
	wait.Wait()
	c.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		for n := range hosts {
			argv := []string{"docker", "rm", "-f"}
			for _, one := range containers {
				argv = append(argv, one.name)
			}
			_, _ = c.host(n+1).Run(ctx, argv...) // those of the others are not there
		}
	})
	if c.Failed() {
		return
	}
	holders := map[string]string{}
	for _, one := range containers {
		addr := one.addr("crowd")
		if other, taken := holders[addr]; taken {
			c.Errorf("%s and %s both have %s", one.name, other, addr)
		}
		holders[addr] = one.name
	}
	for _, one := range containers[1:] {
		containers[0].pings(one.addr("crowd"))
	}
}

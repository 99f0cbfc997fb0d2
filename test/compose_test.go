package test

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"github.com/causeway-net/causeway/lab"
)

// composeProject leaves the subnet of its network to Docker: compose has every engine
// pick the same.
const composeProject = `
services:
  web:
    image: busybox
    command: sleep 3600
    stop_grace_period: 0s
networks:
  default:
    driver: causeway
`

// TestCompose brings up projects as compose users write them, without an ipam section.
func TestCompose(t *testing.T) {
	c := up(t, lab.Options{Hosts: 3, Compose: true})
	for _, test := range []struct {
		name string
		run  func(*cluster)
	}{
		{"two projects on two hosts", twoProjects},
		{"one project on three hosts at once", oneProjectAtOnce},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(c.sub(t)) })
	}
}

func twoProjects(c *cluster) {
	c.compose(1, "one", composeProject)
	c.compose(2, "two", composeProject)
	first, second := c.subnet(1, "one_default"), c.subnet(2, "two_default")
	if !first.Overlaps(second) {
		c.Fatalf("the engines picked %s and %s, which do not overlap", first, second)
	}
	c.host(3).tells(fmt.Sprintf("each with its own addresses: two_default (%s, as one_default)", second))
	c.everywhere("one_default")
	c.everywhere("two_default")
	one, two := container{c.host(1), "one-web-1"}, container{c.host(2), "two-web-1"}
	c.host(3).run("one-guest", "--net=one_default").pings(one.addr("one_default"))
	guest := c.host(3).run("two-guest", "--net=two_default")
	guest.pings(two.addr("two_default"))
	two.pings(guest.addr("two_default"))
}

func oneProjectAtOnce(c *cluster) {
	c.nowhere("one_default")
	c.nowhere("two_default")
	var wait sync.WaitGroup
	errs := make([]error, 3)
	for n := range errs {
		wait.Go(func() { _, errs[n] = c.host(n + 1).try(composeCommand("team", composeProject, "up -d")...) })
		c.composeDown(n+1, "team", composeProject)
	}
	wait.Wait()
	for n, err := range errs {
		if err != nil && strings.Contains(err.Error(), "overlaps") {
			c.Errorf("the network was refused on h%d for overlapping itself: %v", n+1, err)
		}
	}
	eventually(c.T, "one network team_default is everywhere", func() error { return c.onlyOne("team_default") })
	c.Logf("up at once: %v", errors.Join(errs...))
	for n := range errs { // a user's second try, where the network was replaced under the first
		if _, err := c.host(n + 1).try(composeCommand("team", composeProject, "up -d")...); err != nil {
			c.Fatal(err)
		}
	}
	web := container{c.host(1), "team-web-1"}
	for n := range errs[1:] {
		container{c.host(n + 2), "team-web-1"}.pings(web.addr("team_default"))
	}
}

// subnet is the first of a network on the n-th host.
func (c *cluster) subnet(n int, network string) netip.Prefix {
	c.Helper()
	text := c.host(n).docker("network", "inspect", "-f", "{{(index .IPAM.Config 0).Subnet}}", network)
	prefix, err := netip.ParsePrefix(text)
	if err != nil {
		c.Fatal(err)
	}
	return prefix
}

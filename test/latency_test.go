package test

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"time"
)

// ownTime prints how long causeway itself takes to answer CreateEndpoint and
// Join, as its log tells, while containers start one after the other.
func ownTime(c *cluster) {
	const containers = 20
	c.network("timed", "--subnet=192.168.52.0/24")
	for n := range containers {
		c.host(1).docker("run", "--rm", "--name", fmt.Sprint("timed", n), "--net=timed", "busybox", "true")
	}
	log, err := os.ReadFile(c.host(1).Causeway.Log())
	if err != nil {
		c.Fatal(err)
	}
	times := map[string][]time.Duration{}
	line := regexp.MustCompile(`call=NetworkDriver\.(CreateEndpoint|Join) took="?([0-9.µmns]+)`)
	for _, match := range line.FindAllStringSubmatch(string(log), -1) {
		took, err := time.ParseDuration(match[2])
		if err != nil {
			c.Fatal(err)
		}
		times[match[1]] = append(times[match[1]], took)
	}
	var sum time.Duration
	for call, all := range times {
		all = all[max(0, len(all)-containers):]
		slices.Sort(all)
		c.Logf("%s: p50 %v, p90 %v of %d", call, all[len(all)/2], all[len(all)*9/10], len(all))
		sum += all[len(all)/2]
	}
	if len(times) != 2 {
		c.Fatalf("the log tells of %d of the two calls", len(times))
	}
	c.Logf("CreateEndpoint + Join: p50 %v", sum)
}

package test

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/causeway-net/causeway/lab"
)

// lookup asks the resolver of the container's /etc/resolv.conf, and gives the
// answer's last fields, sorted: "10.0.0.2 10.0.0.3", "nodata", or an error's name.
func (c container) lookup(name string, qtype uint16) string {
	return sandbox(c.pid()).lookup(name, qtype)
}

// sandbox is where the process of that ID is.
type sandbox int

func (s sandbox) lookup(name string, qtype uint16) string {
	return s.lookupWithin(time.Second, name, qtype)
}

// lookupWithin gives up after limit: Docker sends on what it does not know, and
// nobody in the lab answers that.
func (s sandbox) lookupWithin(limit time.Duration, name string, qtype uint16) string {
	var conn net.Conn
	err := inside(int(s), func() (err error) {
		conn, err = net.DialTimeout("udp", "127.0.0.11:53", time.Second)
		return err
	})
	if err != nil {
		return err.Error()
	}
	defer conn.Close()
	return askName(conn, limit, name, qtype)
}

func askName(conn net.Conn, limit time.Duration, name string, qtype uint16) string {
	client := dns.Client{Timeout: limit}
	reply, _, err := client.ExchangeWithConn(new(dns.Msg).SetQuestion(dns.Fqdn(name), qtype), &dns.Conn{Conn: conn})
	switch {
	case err != nil:
		return err.Error()
	case reply.Rcode != dns.RcodeSuccess:
		return dns.RcodeToString[reply.Rcode]
	case len(reply.Answer) == 0:
		return "nodata"
	}
	var texts []string
	for _, record := range reply.Answer {
		fields := strings.Fields(record.String())
		texts = append(texts, fields[len(fields)-1])
	}
	slices.Sort(texts)
	return strings.Join(texts, " ")
}

// finds waits until name is want for the container, for as long as users may wait.
func (c container) finds(name string, want ...string) {
	c.c.Helper()
	slices.Sort(want)
	eventuallyWithin(c.c.T, 10*time.Second, fmt.Sprintf("%s of %s is %v", name, c.name, want), func() error {
		if got := c.lookup(name, dns.TypeA); got != strings.Join(want, " ") {
			return fmt.Errorf("it is %s", got)
		}
		return nil
	})
}

// lacks waits until name is no name of the cluster's for the container.
func (c container) lacks(name string) {
	c.c.Helper()
	eventuallyWithin(c.c.T, 10*time.Second, c.name+" does not find "+name, func() error {
		if got := c.lookup(name, dns.TypeA); isAddress(got) {
			return fmt.Errorf("it is %s", got)
		}
		return nil
	})
}

// isAddress says whether an answer gives an address at all.
func isAddress(answer string) bool {
	first, _, _ := strings.Cut(answer, " ")
	_, err := netip.ParseAddr(first)
	return err == nil
}

// namesAcross has containers find each other by name, alias and short ID on
// other hosts, on the networks that they share and on no others.
func namesAcross(c *cluster) {
	c.network("named", "--subnet=192.168.70.0/24", "--ipv6", "--subnet=fd70::/64")
	c.network("apart", "--subnet=192.168.71.0/24")
	c.network("inner", "--subnet=192.168.72.0/24", "--internal")
	web := c.host(1).run("name-web", "--net=named")
	db := c.host(2).run("name-db", "--net=named", "--network-alias=db")
	other := c.host(2).run("name-other", "--net=apart", "--network-alias=db")

	web.finds("name-db", db.addr("named"))
	web.finds("DB", db.addr("named"))
	web.finds("db.named", db.addr("named"))
	web.finds(db.inspect("{{.Id}}")[:12], db.addr("named"))
	db.finds("name-web", web.addr("named"))
	for qtype, want := range map[uint16]string{dns.TypeAAAA: db.addr6("named"), dns.TypeMX: "nodata"} {
		if got := web.lookup("db", qtype); got != want {
			c.Errorf("db %s is %s, want %s", dns.TypeToString[qtype], got, want)
		}
	}
	reverse, err := dns.ReverseAddr(db.addr("named"))
	if err != nil {
		c.Fatal(err)
	}
	if got := web.lookup(reverse, dns.TypePTR); got != "name-db.named." {
		c.Errorf("the name of %s is %s", db.addr("named"), got)
	}
	web.must("ping", "-c", "1", "-W", "3", "db") // with the image's own resolver
	web.lacks("name-other")
	other.lacks("name-web")
	other.finds("db", other.addr("apart"))

	// An alias on both hosts is all of its containers.
	more := c.host(1).run("name-db2", "--net=named", "--network-alias=db")
	for _, from := range []container{web, db} {
		from.finds("db", db.addr("named"), more.addr("named"))
	}
	// On an --internal network Docker forwards nothing, and names work.
	one, two := c.host(1).run("name-in1", "--net=inner"), c.host(2).run("name-in2", "--net=inner")
	one.finds("name-in2", two.addr("inner"))

	// A second network comes and goes under a running container; another
	// container's sandbox has its names.
	c.host(1).docker("network", "connect", "--alias=late", "apart", "name-web")
	other.finds("late", web.addr("apart"))
	web.finds("name-other", other.addr("apart"))
	shared := c.host(1).run("name-shared", "--net=container:name-web")
	shared.finds("name-other", other.addr("apart"))
	c.host(1).docker("network", "disconnect", "apart", "name-web")
	other.lacks("late")
	web.lacks("name-other")

	renamed := container{c.host(2), "name-db9"}
	c.host(2).docker("rename", "name-db", renamed.name)
	web.finds(renamed.name, renamed.addr("named"))
	web.lacks("name-db")
	c.host(2).remove(renamed.name)
	web.finds("db", more.addr("named"))
}

func TestNames(t *testing.T) {
	c := up(t, lab.Options{Hosts: 2, Compose: true})
	for name, test := range map[string]func(*cluster){
		"across hosts":     namesAcross,
		"switched off":     namesOff,
		"causeway killed":  namesThroughAKill,
		"commands":         namesInCommands,
		"how fast":         namesInTime,
		"with compose":     namesWithCompose,
		"a flushed table":  namesFlushed,
		"Docker restarted": namesThroughADockerRestart,
	} {
		t.Run(name, func(t *testing.T) { test(c.sub(t)) })
	}
}

// namesOff leaves a network's names to Docker.
func namesOff(c *cluster) {
	c.network("nameless", "--subnet=192.168.73.0/24", "-o", "names=false")
	one, two := c.host(1).run("off1", "--net=nameless"), c.host(2).run("off2", "--net=nameless")
	one.finds("off1", one.addr("nameless"))
	one.lacks("off2")
	two.lacks("off1")
}

// namesThroughAKill looks names up a hundred times a second while causeway is
// killed and comes back.
func namesThroughAKill(c *cluster) {
	c.network("killed", "--subnet=192.168.74.0/24")
	one, two := c.host(1).run("kill1", "--net=killed"), c.host(2).run("kill2", "--net=killed", "--network-alias=peer")
	local := c.host(1).run("kill3", "--net=killed")
	one.finds("peer", two.addr("killed"))

	box := sandbox(one.pid())
	remote, docker := c.askSteadily(box, 10, "peer", two.addr("killed")), c.askSteadily(box, 100, "kill3", local.addr("killed"))
	killed := time.Now()
	if err := c.host(1).Causeway.Kill(c.Context()); err != nil {
		c.Fatal(err)
	}
	// Docker's resolver is in charge again by itself.
	eventually(c.T, "local names without causeway", func() error {
		if failed := docker.lastFailure(); time.Since(killed) < 2*time.Second || time.Since(failed) < time.Second {
			return fmt.Errorf("one failed %v ago", time.Since(failed))
		}
		return nil
	})
	c.Logf("local names were served again %v after the kill", docker.lastFailure().Sub(killed).Round(time.Millisecond))
	one.lacks("peer")
	if err := c.host(1).Causeway.Start(c.Context()); err != nil {
		c.Fatal(err)
	}
	started := time.Now()
	one.finds("peer", two.addr("killed"))
	c.Logf("the other host's names were back after %v", time.Since(started).Round(time.Millisecond))
	c.Logf("remote names: %v; local names: %v", remote.stop(), docker.stop())
}

// steadily counts what comes of a question that is asked some times a second.
type steadily struct {
	found, failed, last atomic.Int64
	stop                func() string
}

func (s *steadily) lastFailure() time.Time { return time.Unix(0, s.last.Load()) }

func (c *cluster) askSteadily(box sandbox, aSecond int, name, want string) *steadily {
	s := new(steadily)
	ctx, cancel := context.WithCancel(c.Context())
	var asking sync.WaitGroup
	asking.Go(func() {
		tick := time.NewTicker(time.Second / time.Duration(aSecond))
		defer tick.Stop()
		for ctx.Err() == nil {
			<-tick.C
			asking.Go(func() {
				asked := time.Now()
				if box.lookup(name, dns.TypeA) == want {
					s.found.Add(1)
				} else {
					s.failed.Add(1)
					s.last.Store(asked.UnixNano())
				}
			})
		}
	})
	s.stop = func() string {
		cancel()
		asking.Wait()
		return fmt.Sprintf("%d found, %d failed", s.found.Load(), s.failed.Load())
	}
	c.Cleanup(func() { s.stop() })
	return s
}

// namesInCommands reads what users read.
func namesInCommands(c *cluster) {
	c.network("shown", "--subnet=192.168.75.0/24")
	c.host(1).run("shown1", "--net=shown")
	two := c.host(2).run("shown2", "--net=shown", "--network-alias=api")
	for command, want := range map[string]string{
		"causeway resolve api":                   two.addr("shown"),
		"causeway resolve api --from shown1":     "shown2,",
		"causeway resolve nobody --from shown1":  "nobody is not a name of the cluster; Docker's own resolver is asked",
		"causeway endpoints shown":               "shown2,",
		"causeway resolve api --from stranger9x": "container stranger9x is on no network of this host",
	} {
		eventually(c.T, command, func() error {
			out, err := c.host(1).try("sh", "-c", command)
			if text := fmt.Sprint(out, err); !strings.Contains(text, want) {
				return fmt.Errorf("want %s, got:\n%s", want, text)
			}
			return nil
		})
	}
}

// namesInTime prints how soon a name resolves on another host after docker run,
// and is gone after docker rm.
func namesInTime(c *cluster) {
	const rounds = 20
	c.network("quick", "--subnet=192.168.76.0/24")
	box := sandbox(c.host(2).run("quick-asker", "--net=quick").pid())
	var come, gone []time.Duration
	for n := range rounds {
		name := fmt.Sprint("quick", n)
		c.host(1).docker("run", "-d", "--name", name, "--net=quick", "busybox", "sleep", "3600")
		come = append(come, c.until(box, name, true))
		c.host(1).docker("rm", "-f", name)
		gone = append(gone, c.until(box, name, false))
	}
	slices.Sort(come)
	slices.Sort(gone)
	c.Logf("%d names came after p50 %v, most %v; went after p50 %v, most %v",
		rounds, come[rounds/2], come[rounds-1], gone[rounds/2], gone[rounds-1])
}

// until waits until a name is there or not, and tells for how long.
func (c *cluster) until(box sandbox, name string, there bool) time.Duration {
	c.Helper()
	started := time.Now()
	for time.Since(started) < 10*time.Second {
		asked := time.Since(started)
		if isAddress(box.lookupWithin(50*time.Millisecond, name, dns.TypeA)) == there {
			return asked.Round(time.Millisecond)
		}
	}
	c.Fatalf("after 10 s %s is there: %v", name, !there)
	return 0
}

// namesFlushed has a container with NET_ADMIN flush its own rules.
func namesFlushed(c *cluster) {
	c.network("flushed", "--subnet=192.168.77.0/24")
	one, two := c.host(1).run("flush1", "--net=flushed"), c.host(2).run("flush2", "--net=flushed")
	one.finds("flush2", two.addr("flushed"))
	if _, err := c.host(1).try("nsenter", "-t", fmt.Sprint(one.pid()), "-n", "nft", "delete", "table", "ip", "causeway"); err != nil {
		c.Fatal(err)
	}
	one.finds("flush2", two.addr("flushed"))
}

func namesThroughADockerRestart(c *cluster) {
	c.network("daemon", "--subnet=192.168.78.0/24")
	two := c.host(2).run("daemon2", "--net=daemon")
	c.host(1).run("daemon1", "--net=daemon", "--restart=always")
	if err := c.host(1).Docker.Restart(c.Context()); err != nil {
		c.Fatal(err)
	}
	one := container{c.host(1), "daemon1"}
	eventually(c.T, "daemon1 runs again", func() error {
		_, err := one.exec("true")
		return err
	})
	one.finds("daemon2", two.addr("daemon"))
	two.finds("daemon1", one.addr("daemon"))
}

// composeHalf is one service of a project whose other half runs elsewhere.
const composeHalf = `
services:
  %s:
    image: busybox
    command: sleep 3600
    stop_grace_period: 0s
    scale: %d
    networks: [shared]
networks:
  shared:
    external: true
    name: composed
`

// namesWithCompose has the halves of two projects on two hosts find each other
// by the names of their services, all containers of a service that is scaled.
func namesWithCompose(c *cluster) {
	c.network("composed", "--subnet=192.168.79.0/24")
	c.compose(1, "shop", fmt.Sprintf(composeHalf, "web", 1))
	c.compose(2, "store", fmt.Sprintf(composeHalf, "db", 3))
	c.compose(1, "replica", fmt.Sprintf(composeHalf, "db", 1))
	web := container{c.host(1), "shop-web-1"}
	dbs := []string{container{c.host(1), "replica-db-1"}.addr("composed")}
	for n := range 3 {
		dbs = append(dbs, container{c.host(2), fmt.Sprintf("store-db-%d", n+1)}.addr("composed"))
	}
	web.finds("db", dbs...)
	container{c.host(2), "store-db-1"}.finds("web", web.addr("composed"))
	web.must("ping", "-c", "1", "-W", "3", "store-db-2")
}

// compose brings a project up on the n-th host, and down after the test.
func (c *cluster) compose(n int, project, file string) {
	c.Helper()
	if _, err := c.host(n).try(composeCommand(project, file, "up -d")...); err != nil {
		c.Fatal(err)
	}
	c.composeDown(n, project, file)
}

// composeDown takes a project down after the test.
func (c *cluster) composeDown(n int, project, file string) {
	h := c.host(n)
	c.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		_, _ = h.Run(ctx, composeCommand(project, file, "down -t 0")...)
	})
}

func composeCommand(project, file, args string) []string {
	return []string{"sh", "-c", `printf %s "$0" | docker-compose -p ` + project + " -f - " + args, file}
}

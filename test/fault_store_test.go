package test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/causeway-net/causeway/lab"
	"github.com/causeway-net/causeway/trust"
)

const storeFiles = "/var/lib/causeway/etcd"

// storeFaults are those of the store's members, their files and their certificates.
func (b *faultBed) storeFaults() []fault {
	causeway := func(n int) lab.Service { return b.host(n).Causeway }
	all := []int{1, 2, 3}
	return []fault{
		{
			name: "the disk of a member is full", hosts: all, lasts: 15 * time.Second, long: true,
			told: "the store takes no writes until", teller: 2, inject: (*faultBed).fillDisk, heal: (*faultBed).emptyDisk,
		},
		{
			name: "a member's disk is full, and its host dies", hosts: all, long: true,
			inject: both((*faultBed).fillDisk, (*faultBed).dieFull), heal: (*faultBed).emptyDisk,
		},
		{
			name: "the leader's disk is slow", hosts: all, lasts: 20 * time.Second,
			inject: (*faultBed).slowDisk, heal: (*faultBed).fastDisk,
		},
		{
			name: "a member lost its data", hosts: []int{2}, inject: kills(causeway, 2),
			heal: both(commands(2, "rm -r "+storeFiles), starts(causeway, 2)),
		},
		{
			name: "the store is lost and restored", hosts: all, inject: both((*faultBed).backUp, kills(causeway, all...)),
			heal: both((*faultBed).restore, starts(causeway, all...)),
		},
		{
			name: "compacted behind a host that is cut off", hosts: []int{2}, lasts: 10 * time.Second, told: "store", teller: 2,
			inject: both(partitions(2, "input meta l4proto tcp", "output meta l4proto tcp"), (*faultBed).compact),
			heal:   both((*faultBed).compact, commands(2, "nft delete table inet fault")),
		},
		{
			name: "a certificate expired while its host was off", hosts: []int{2}, inject: both(kills(causeway, 2), expires(2)),
			heal: starts(causeway, 2),
		},
		{
			name: "all certificates expired while the hosts were off", hosts: all, inject: both(kills(causeway, all...), expires(all...)),
			heal: starts(causeway, all...),
		},
		{
			name: "a certificate expired while its host was cut off", hosts: []int{2}, lasts: 10 * time.Second, told: "store", teller: 2,
			inject: both(expires(2), partitions(2, "input meta l4proto tcp", "output meta l4proto tcp")),
			heal:   commands(2, "nft delete table inet fault"),
		},
	}
}

// fillDisk gives the data of h2's causeway a file system of its own, with room for the
// member to start, and then leaves 20 MB of it.
func (b *faultBed) fillDisk() error {
	h := b.host(2)
	if err := h.Causeway.Stop(b.Context()); err != nil {
		return err
	}
	if err := commands(2, "mkdir -p /run/small && mount -t tmpfs -o size=$(( $(du -sm /var/lib/causeway | cut -f1) + 350 ))m small /run/small",
		"cp -a /var/lib/causeway/. /run/small && mount --bind /run/small /var/lib/causeway")(b); err != nil {
		return err
	}
	if err := h.Causeway.Start(b.Context()); err != nil {
		return err
	}
	return commands(2, "fallocate -l $(( $(stat -f -c '%a * %S' /run/small) - (20 << 20) )) /run/small/filler")(b)
}

// dieFull kills h2 when the store takes no writes for it. The others go on without it.
func (b *faultBed) dieFull() error {
	eventuallyWithin(b.T, healed, "h2 is full", func() error { return b.host(2).shows("the store takes no writes until", "status") })
	if err := b.host(2).Causeway.Kill(b.Context()); err != nil {
		return err
	}
	eventuallyWithin(b.T, time.Minute, "the store takes writes", func() error {
		_, err := b.host(1).try("docker", "run", "--rm", "--net="+bedNetwork, "busybox", "true")
		return err
	})
	return nil
}

// emptyDisk takes away what fills it. When the store takes writes again the data comes back
// to where it was.
func (b *faultBed) emptyDisk() error {
	h := b.host(2)
	running := func(n int) lab.Service { return b.host(n).Causeway }
	if err := both(commands(2, "rm /run/small/filler"), starts(running, 2))(b); err != nil {
		return err
	}
	eventuallyWithin(b.T, healed, "h2 has room", func() error { return h.shows("no troubles", "status") })
	if err := h.Causeway.Stop(b.Context()); err != nil {
		return err
	}
	if err := commands(2, "umount /var/lib/causeway && rm -r /var/lib/causeway/* && cp -a /run/small/. /var/lib/causeway && umount /run/small")(b); err != nil {
		return err
	}
	return h.Causeway.Start(b.Context())
}

// slowDisk has each write to the leader's disk take half a second: it is the system call
// that waits, by strace.
func (b *faultBed) slowDisk() error {
	if _, err := exec.LookPath("strace"); err != nil {
		b.Skip("this takes strace")
	}
	leader, err := b.leader()
	if err != nil {
		return err
	}
	const slow = "fsync,fdatasync:delay_enter=500ms"
	b.tracer = exec.CommandContext(b.Context(), "strace", "--quiet=all", "-f", "-p", fmt.Sprint(leader.Causeway.PID()),
		"-o", b.slowed(), "-e", "trace=fsync,fdatasync", "-e", "inject="+slow)
	return b.tracer.Start()
}

func (b *faultBed) fastDisk() error {
	if err := b.tracer.Process.Signal(os.Interrupt); err != nil {
		return err
	}
	_ = b.tracer.Wait() // by the signal
	calls, err := os.ReadFile(b.slowed())
	if n := strings.Count(string(calls), "(DELAYED)"); err == nil && n < 10 {
		err = fmt.Errorf("only %d writes to the leader's disk were slow", n)
	}
	return err
}

// slowed is the file that has the calls which were made slow.
func (b *faultBed) slowed() string { return filepath.Join(b.files, "slowed") }

const snapshot = "/run/snapshot"

func (b *faultBed) backUp() error {
	_, err := b.host(1).try("causeway", "backup", snapshot)
	return err
}

// restore has all members without their data, and h1 with the backup.
func (b *faultBed) restore() error {
	for n := 1; n <= bedHosts; n++ {
		if err := commands(n, "rm -r "+storeFiles)(b); err != nil {
			return err
		}
	}
	_, err := b.host(1).try("causeway", "restore", snapshot)
	return errors.Join(err, commands(1, "rm "+snapshot)(b))
}

// compact has the store forget all that was before now.
func (b *faultBed) compact() error {
	return b.askEtcd(func(ctx context.Context, client *clientv3.Client) error {
		now, err := client.Get(ctx, "/", clientv3.WithCountOnly())
		if err != nil {
			return err
		}
		_, err = client.Compact(ctx, now.Header.Revision)
		return err
	})
}

func (h *host) trusts() trust.Dir { return trust.NewDir(h.Path("/var/lib/causeway/trust")) }

// expires gives these hosts certificates that have expired.
func expires(hosts ...int) act {
	return together(hosts, func(b *faultBed, n int) error {
		h := b.host(n)
		authority, err := h.trusts().Authority()
		if err != nil {
			return err
		}
		now, err := h.trusts().Certificate()
		if err != nil {
			return err
		}
		request, key, err := trust.NewRequest(now.Subject.CommonName)
		if err != nil {
			return err
		}
		expired, err := authority.Sign(request, now.Subject.CommonName, []netip.Addr{h.Addrs()[0].Addr()}, time.Now().Add(-trust.HostLife-time.Hour))
		if err != nil {
			return err
		}
		return h.trusts().SaveHost(expired, key)
	})
}

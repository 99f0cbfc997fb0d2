// Package lab puts several Docker hosts on one machine, for tests, the demo and
// the benchmarks: each with its own real dockerd, containerd and causeway, all
// joined by a switch.
//
//	outside ── router ──┬── h1   dockerd + causeway
//	203.0.113.1         ├── h2   dockerd + causeway
//	                    ├── …
//	                    └── plain          10.99.0.0/24, fd99::/64
//
// Some of the hosts can be on a second LAN behind the router, 10.98.0.0/24 and fd98::/64.
//
// A machine (machine.go) is a network, a mount and a UTS namespace, kept by one
// sleeping process. Its view of the file system is the real one, except that
// /run, /etc, /var/lib and /sys are its own: daemons use their standard paths
// and see nothing of each other, nor of a Docker that the machine itself runs.
//
// What [Up] does: the layout (layout.go) turns the options into machines and
// addresses, without touching anything. The cache (cache.go, apt.go) fetches
// what is missing: Docker engines of three Debian releases, unpacked and not
// installed. Then the keepers start (machine.go), the switch and the router are
// wired up (wire.go), and on each host, in parallel, the daemons start
// (daemon.go, host.go, ovs.go) and busybox is loaded (busybox.go). What
// is up is written to /run/causeway-lab/<name> (state.go), so that another
// process can [Open] it.
//
// [Lab.Down] kills (down.go): what runs in the lab's namespaces and
// cgroups ends, and with the last process the namespaces go, with all mounts and
// links inside them. Nothing that the lab creates is in the root namespaces.
package lab

// Package scale measures how causeway grows with the cluster: the control path of
// many agents against one etcd (make bench-scale).
//
// Each agent is a host's real membership, loop, collector, driver, IPAM and mirror with
// a client of etcd of its own, but for the kernel and the engine: its data plane notes
// what it is given, and its mirror finds no engine. Etcd is causeway's own, in another
// process. Endpoints come and go by the calls that Docker makes.
package scale

// Package engines measures networks of real Docker engines in a lab of two hosts.
//
// A row (rows.go) is a way to join containers: a driver with its options. The rig (rig.go)
// brings up the labs and gives each row its networks, and a container on each host that
// stays. A measure (measures.go) takes one row and gives values of some figures: traffic
// between the standing containers (traffic.go), what starts and connects cost (starts.go),
// and what causeway's own calls and its store do (calls.go, store.go). Run (run.go) goes
// through them in rounds: each round takes each measure of each row once, the rows in
// another order each time. A measure that fails is noted, and the run goes on.
package engines

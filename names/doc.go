// Package names answers what containers ask by name: on a causeway network,
// "db" is found on whichever host it runs.
//
// Docker puts "nameserver 127.0.0.11" into each container and redirects port 53
// of that address, inside the container's own network namespace (its sandbox),
// to a resolver that knows the containers of its own engine (a nat chain on
// OUTPUT at priority -100). For each sandbox with an endpoint of ours causeway
// opens a port in that namespace and adds a table of its own that redirects one
// step earlier (table.go):
//
//	the container asks 127.0.0.11:53
//	  └ table ip causeway, priority -110: dnat to 127.0.0.11:PORT   (listener.go)
//	       ├ a name of the cluster: answered from memory            (answer.go)
//	       └ all else, from 127.0.0.12, which the table lets pass,
//	         to 127.0.0.11:53: Docker's own resolver                (forward.go)
//
// The redirection holds while 127.0.0.11 is in a set of the table, where it
// expires after some seconds unless it is renewed: when causeway is killed, the
// kernel leaves Docker's resolver in charge by itself.
//
// The names come from the endpoints' records, which reconcile hands over as they
// change (directory.go); the mirror wrote them there. Which sandbox an endpoint
// is in is told by Docker's Join, and found again by the endpoint's MAC after a
// restart (locate.go).
package names

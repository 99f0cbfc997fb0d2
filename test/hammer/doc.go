// Package hammer tries to have one address given out twice (make hammer).
//
// Four hosts' real drivers, IPAMs, loops and collectors share one etcd, as bench's do,
// with data planes that note what they are told. Sixteen writers make Docker's calls:
// containers come and go in pools that are nearly full, one of them shared with Docker's
// own allocators. An agent is killed between two operations of its store, its answer
// lost or not; an engine dies with its containers and tells nobody. Beside the ledger of
// who was told what, a watch from the first revision on replays what the store went
// through (history_test.go).
package hammer

package nl

import (
	"fmt"
	"runtime"

	"github.com/vishvananda/netns"
)

// Do calls f on a thread that is in ns; [netns.None] is the namespace of the process.
// Sockets that f opens, programs that it starts and what it reads in /proc/sys/net
// belong to that namespace. f runs on a goroutine of its own: if its thread cannot
// return to its namespace, the thread ends with the goroutine.
func Do(ns netns.NsHandle, f func() error) error {
	done := make(chan error, 1)
	go func() {
		var err error
		defer func() { done <- err }() // also when f ends the goroutine
		runtime.LockOSThread()
		home, err := netns.Get()
		if err != nil {
			err = fmt.Errorf("look up the thread's network namespace: %w", err)
			return
		}
		defer home.Close()
		if ns.IsOpen() {
			if err = netns.Set(ns); err != nil {
				err = fmt.Errorf("enter the network namespace: %w", err)
				return
			}
		}
		err = f()
		if netns.Set(home) == nil {
			runtime.UnlockOSThread()
		}
	}()
	return <-done
}

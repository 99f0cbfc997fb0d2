package underlay

import (
	"fmt"
	"runtime"

	"github.com/vishvananda/netns"
)

// inNamespace calls work on a thread that is in ns: what a program is started
// in, and what /proc/sys/net shows, goes by the thread. A thread that cannot
// come back is never used again: it ends with the goroutine that is locked to it.
func inNamespace(ns netns.NsHandle, work func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		home, err := netns.Get()
		if err != nil {
			done <- fmt.Errorf("look up the thread's namespace: %w", err)
			return
		}
		defer home.Close()
		if err := netns.Set(ns); err != nil {
			done <- fmt.Errorf("enter the host's namespace: %w", err)
			return
		}
		err = work()
		if netns.Set(home) == nil {
			runtime.UnlockOSThread()
		}
		done <- err
	}()
	return <-done
}

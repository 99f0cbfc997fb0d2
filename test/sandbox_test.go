package test

import (
	"fmt"
	"runtime"

	"github.com/vishvananda/netns"
)

// inside runs do in the network namespace of a process. Sockets that it opens
// stay there, and can be used from anywhere.
func (c *cluster) inside(pid int, do func() error) {
	c.Helper()
	result := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // the thread ends with the goroutine
		result <- func() error {
			handle, err := netns.GetFromPath(fmt.Sprintf("/proc/%d/ns/net", pid))
			if err != nil {
				return err
			}
			defer handle.Close()
			if err := netns.Set(handle); err != nil {
				return err
			}
			return do()
		}()
	}()
	if err := <-result; err != nil {
		c.Fatal(err)
	}
}

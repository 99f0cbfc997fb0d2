package test

import (
	"bytes"
	"fmt"
	"strings"
	"sync"
)

// publishedPort reaches a container from outside, and the container the world.
func publishedPort(c *cluster) {
	c.network("front", "--subnet=192.168.30.0/24")
	server := c.host(1).run("server", "--net=front", "-p", "8080:80")
	server.must("sh", "-c", "mkdir -p /www; echo served > /www/index.html; httpd -p 80 -h /www")
	out, err := c.machine("outside").Run(c.Context(), "timeout", "5", "busybox", "wget", "-q", "-O", "-", "http://10.99.0.1:8080/")
	if err != nil || strings.TrimSpace(out) != "served" {
		c.Errorf("from outside: %q, %v", out, err)
	}

	var log lockedBuffer
	listener := c.machine("plain").Command(c.Context(), "busybox", "httpd", "-f", "-vv", "-p", "9000", "-h", "/proc/sys/kernel")
	listener.Stderr = &log
	if err := listener.Start(); err != nil {
		c.Fatal(err)
	}
	defer func() {
		_ = listener.Process.Kill()
		_ = listener.Wait()
	}()
	eventually(c.T, "the way out", func() error {
		_, err := server.exec("timeout", "2", "wget", "-q", "-O", "-", "http://10.99.0.200:9000/ostype")
		return err
	})
	eventually(c.T, "plain logs the visit", func() error {
		if !strings.Contains(log.String(), "10.99.0.1") {
			return fmt.Errorf("log is %q", log.String())
		}
		return nil
	})
	if strings.Contains(log.String(), "192.168.30.") {
		c.Errorf("the container's own address left the host: %s", log.String())
	}
}

// lockedBuffer takes a command's output while a test reads it.
type lockedBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

package test

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/causeway-net/causeway/lab"
)

// TestREADME types the docker and causeway commands of the README's sh blocks,
// in their order: on every host where the line says so, else on h1.
func TestREADME(t *testing.T) {
	text, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	c := up(t, lab.Options{Hosts: 3})
	blocks := regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(string(text), -1)
	typed := 0
	for _, block := range blocks {
		for line := range strings.SplitSeq(block[1], "\n") {
			command, comment, _ := strings.Cut(strings.TrimPrefix(line, "bin/causeway-lab exec h1 "), "#")
			if word, _, _ := strings.Cut(command, " "); word != "docker" && word != "causeway" {
				continue
			}
			c.typeLine(strings.TrimSpace(command), comment)
			typed++
		}
	}
	if typed < 8 {
		t.Errorf("only %d commands were found", typed)
	}
}

func (c *cluster) typeLine(command, comment string) {
	hosts := 1
	if strings.Contains(comment, "on every host") {
		hosts = len(c.lab.Hosts())
	}
	if strings.HasPrefix(command, "causeway hosts rm h3") {
		c.loseHost(3)
	}
	for n := range hosts {
		h := c.host(n + 1)
		out, err := h.try("sh", "-c", command)
		if err != nil {
			c.Errorf("%s$ %s: %v", h.Name(), command, err)
		}
		c.Logf("%s$ %s\n%s", h.Name(), command, out)
	}
	if name, ok := strings.CutPrefix(command, "docker network create"); ok {
		c.everywhere(name[strings.LastIndex(name, " ")+1:])
	}
}

// loseHost kills a host's causeway and waits until the cluster knows.
func (c *cluster) loseHost(n int) {
	c.Helper()
	if err := c.host(n).Causeway.Kill(c.Context()); err != nil {
		c.Fatal(err)
	}
	c.gone(n)
}

// gone waits until the host's lease has run out.
func (c *cluster) gone(n int) {
	c.Helper()
	eventually(c.T, c.host(n).Name()+" is known to be gone", func() error {
		_, err := c.host(1).try("sh", "-c", "causeway hosts | grep '"+c.host(n).Name()+".*not alive'")
		return err
	})
}

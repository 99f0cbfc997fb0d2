package test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/causeway-net/causeway/lab"
)

// TestREADME types the commands of the README and of docs/ as they are printed,
// on two hosts that have Docker, and a registry with the plugin, and nothing else.
// What the README says about removing comes last, and leaves no trace.
func TestREADME(t *testing.T) {
	c := up(t, lab.Options{Hosts: 2, Plugin: true, NoCauseway: true})
	r := &reader{cluster: c, profiles: map[string]string{}, token: new(string)}
	before := map[string]string{}
	for _, h := range r.hosts("each") {
		before[h.Name()] = h.traces()
	}
	readme, removing, found := strings.Cut(page(t, "README.md"), "\n## Removing it")
	if !found {
		t.Fatal("the README does not say how causeway is removed")
	}
	t.Run("README.md", func(t *testing.T) { r.sub(t).read(readme, 10) })
	for name, least := range map[string]int{"networks": 5, "addresses": 4, "names": 4, "underlay": 3, "operations": 3, "troubleshooting": 1} {
		t.Run(name+".md", func(t *testing.T) { r.sub(t).read(page(t, "docs/"+name+".md"), least) })
	}
	t.Run("removing", func(t *testing.T) { r.sub(t).read(removing, 5) })
	for _, h := range r.hosts("each") {
		if after := h.traces(); after != before[h.Name()] {
			t.Errorf("%s has\n%s\nand had\n%s", h.Name(), after, before[h.Name()])
		}
	}
}

// TestArchitecture holds the table of ARCHITECTURE.md to the folders that there are.
func TestArchitecture(t *testing.T) {
	const module = "github.com/causeway-net/causeway/"
	out, err := exec.Command("go", "list", module+"...").Output()
	if err != nil {
		t.Fatal(err)
	}
	house := page(t, "ARCHITECTURE.md")
	for name := range strings.FieldsSeq(strings.ReplaceAll(string(out), module, "")) {
		if !strings.Contains(house, "`"+name+"`") && !strings.Contains(house, "`"+path.Base(name)+"`") {
			t.Errorf("ARCHITECTURE.md does not tell of %s", name)
		}
	}
}

func page(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile("../" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// traces lists what causeway could leave on a host; the engine's own gateway
// bridge is none of it.
func (h *host) traces() string {
	h.c.Helper()
	out, err := h.try("sh", "-c", `ls -d /run/causeway* /run/docker/plugins/* /run/netns/* /var/lib/docker/plugins/*/rootfs 2>/dev/null
		ip -o link | cut -d: -f2 | grep -v docker_gwbridge
		iptables-save | grep -i -e causeway -e cw-; nft list tables | grep causeway; docker network ls -q --filter driver=causeway; :`)
	if err != nil {
		h.c.Fatal(err)
	}
	return out
}

// reader is somebody who types what a page says.
type reader struct {
	*cluster
	// profiles has the aliases that were typed, by host.
	profiles map[string]string
	// token is what "causeway token" printed.
	token *string
}

func (r *reader) sub(t *testing.T) *reader { return &reader{r.cluster.sub(t), r.profiles, r.token} }

// read types the console blocks' lines that have a prompt: "first$" is h1, "other$"
// h2, "each$" all hosts.
func (r *reader) read(text string, least int) {
	r.Helper()
	typed := 0
	for _, block := range regexp.MustCompile("(?s)```console\n(.*?)```").FindAllStringSubmatch(text, -1) {
		lines := strings.ReplaceAll(block[1], "\\\n", " ")
		for _, line := range regexp.MustCompile(`(?m)^(first|other|each)\$ (.*)$`).FindAllStringSubmatch(lines, -1) {
			for _, h := range r.hosts(line[1]) {
				r.typeLine(h, strings.Join(strings.Fields(line[2]), " "))
			}
			typed++
		}
	}
	if typed < least {
		r.Errorf("only %d commands were found", typed)
	}
}

func (r *reader) hosts(prompt string) []*host {
	switch prompt {
	case "first":
		return []*host{r.host(1)}
	case "other":
		return []*host{r.host(2)}
	default:
		return []*host{r.host(1), r.host(2)}
	}
}

func (r *reader) typeLine(h *host, command string) {
	r.Helper()
	if strings.HasPrefix(command, "alias ") {
		r.profiles[h.Name()] += command + "\n"
		return
	}
	command = strings.ReplaceAll(command, "TOKEN", *r.token)
	enter := func() error { return r.enter(h, command) }
	// Names and lists follow within a moment, and a host counts as gone after some seconds.
	if regexp.MustCompile(`^(docker exec|causeway) `).MatchString(command) {
		eventually(r.T, h.Name()+"$ "+command, enter)
	} else if err := enter(); err != nil {
		r.Fatalf("%s$ %s: %v", h.Name(), command, err)
	}
	command, _, _ = strings.Cut(command, " #")
	if strings.HasPrefix(command, "docker network create") {
		r.everywhere(command[strings.LastIndex(command, " ")+1:])
	}
	if name, removed := strings.CutPrefix(command, "docker network rm "); removed {
		r.nowhere(name)
	}
}

// enter answers questions with yes.
func (r *reader) enter(h *host, command string) error {
	ctx, cancel := context.WithTimeout(r.Context(), 2*time.Minute)
	defer cancel()
	cmd := h.Command(ctx, "sh", "-c", r.profiles[h.Name()]+command)
	cmd.Stdin = strings.NewReader("y\n")
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	r.Logf("%s$ %s\n%s", h.Name(), command, out)
	if token := regexp.MustCompile(`cw1-\S+`).Find(out); token != nil {
		*r.token = string(token)
	}
	return nil
}

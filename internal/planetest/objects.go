package planetest

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netns"
)

// Space is where a plane has its objects: a namespace, and what the kernel lists there. A
// kind of object that the kernel lists is harmed by itself.
type Space struct {
	NS netns.NsHandle
	// Own are the lines of listings that are the plane's, nil: all are.
	Own *regexp.Regexp
	// Foreign are those of them that are not the plane's but the kernel's.
	Foreign *regexp.Regexp
	// Left are harms that the plane leaves as they are: the object is the host's own.
	Left *regexp.Regexp
	// More are listings of what is not the kernel's, such as a switch's flows.
	More []Listing
}

func (s Space) has(line string) bool {
	return (s.Own == nil || s.Own.MatchString(line)) && (s.Foreign == nil || !s.Foreign.MatchString(line))
}

// Listing is a command that lists objects of a kind, and what harms each of its lines. Of
// those with the same text in the group "sort", if Lines has one, the first stands for all:
// the same code reads and writes them.
type Listing struct {
	Command string
	Lines   *regexp.Regexp // those that can be harmed
	Harms   []string       // $1 and on are the groups of Lines
}

// listings are those of the kernel's objects.
func listings() []Listing {
	link := `^\d+: (?P<dev>[^:@ ]+)[:@]`
	return []Listing{
		{"ip -o -d link show", regexp.MustCompile(link + `.* mtu (\d+)`), []string{
			"ip link set $1 down", "ip link set $1 mtu 1290",
		}},
		{"ip -o -d link show", regexp.MustCompile(link + `.* (?:bridge|vxlan) .* alias `), []string{"ip link set $1 alias harmed"}},
		{"ip -o -d link show", regexp.MustCompile(link + `.* master `), []string{"ip link set $1 nomaster"}},
		{"ip -o -d link show", regexp.MustCompile(link + `.* (?:bridge|vxlan) `), []string{
			"ip link set $1 address 02:00:00:00:00:99", "ip link del $1",
		}},
		{"bridge fdb show", regexp.MustCompile(`^(\S+) dev (\S+) dst (\S+) self permanent`), []string{"bridge fdb del $1 dev $2 dst $3 self"}},
		{"bridge fdb show", regexp.MustCompile(`^(\S+) dev (\S+) .*master \S+ static`), []string{
			"bridge fdb del $1 dev $2 master", "bridge fdb replace $1 dev $2 master dynamic",
		}},
		{"ip neigh show nud permanent", regexp.MustCompile(`^(\S+) dev (\S+) lladdr (\S+)`), []string{
			"ip neigh del $1 dev $2", "ip neigh replace $1 lladdr 02:00:00:00:00:77 dev $2 nud permanent",
		}},
		{"ip route show table all", regexp.MustCompile(`^((?:unicast )?\S+ .*)$`), []string{"ip route del $1"}},
		{"ip -6 route show table all", regexp.MustCompile(`^((?:unicast )?\S+ .*)$`), []string{"ip -6 route del $1"}},
		{"ip -o address show", regexp.MustCompile(`^\d+: (\S+)\s+inet6? (\S+) .*scope global`), []string{"ip address del $2 dev $1"}},
		{"ip rule show", regexp.MustCompile(`^(\d+):`), []string{"ip rule del pref $1"}},
		{"nft list tables", regexp.MustCompile(`^table (\S+) (\S+)`), []string{"nft delete table $1 $2", "nft flush table $1 $2"}},
		{"tc qdisc show", regexp.MustCompile(`^qdisc (clsact|ingress|tbf|htb) \S+ dev (\S+)`), []string{"tc qdisc del dev $2 $1"}},
	}
}

// harm is a command that takes one object away, or changes it.
type harm string

// harms are all commands that harm what is listed in the space, without repetitions.
func (s Space) harms(t *testing.T) []harm {
	t.Helper()
	var found []harm
	for _, l := range append(listings(), s.More...) {
		sort, sorts := l.Lines.SubexpIndex("sort"), map[string]bool{}
		for line := range strings.Lines(s.list(t, l.Command)) {
			line = strings.TrimSpace(line)
			match := l.Lines.FindStringSubmatchIndex(line)
			if match == nil {
				continue
			}
			if sort > 0 {
				text := line[match[2*sort]:match[2*sort+1]]
				if sorts[text] {
					continue
				}
				sorts[text] = true
			}
			for _, template := range l.Harms {
				if s.Own != nil && strings.Contains(template, " alias ") {
					continue // among others' links it is what says whose one is
				}
				command := harm(l.Lines.ExpandString(nil, template, line, match))
				if !slices.Contains(found, command) && (s.Left == nil || !s.Left.MatchString(string(command))) {
					found = append(found, command)
				}
			}
		}
	}
	return found
}

// list is what a command prints, without the lines of others.
func (s Space) list(t *testing.T, command string) string {
	t.Helper()
	words := strings.Fields(command)
	out, err := Output(t, s.NS, words[0], words[1:]...)
	if err != nil {
		return "" // the kernel has none of the kind
	}
	var own strings.Builder
	for line := range strings.Lines(out) {
		if line = strings.TrimSpace(line); s.has(line) {
			own.WriteString(line + "\n")
		}
	}
	return own.String()
}

// harmEach takes each object of the plane away, and changes it, one after the other. The
// plane notices by itself, and all is as it was.
func harmEach(t *testing.T, config Config) {
	if config.Space == nil {
		t.Skip("this plane has no place of its own")
	}
	rig, network, a, b := Two(t, config)
	host := rig.Hosts[0]
	drifted := rig.Watch(host)
	mustReach(t, a, b)
	text := func() string { return config.Text(t, host, rig.Segment(host, network)) }
	before := text()
	space := func() (Space, error) { return config.Space(t, host, rig.Segment(host, network)) }
	first, err := space()
	must(t, err)
	harms := first.harms(t)
	must(t, first.NS.Close())
	unseen, last := 0, before
	t.Cleanup(func() {
		if diff := cmp.Diff(before, last); diff != "" {
			t.Errorf("the kernel is not what it was (-before +after):\n%s", diff)
		}
	})
	for _, command := range harms {
		t.Logf("%s", command)
		now, err := space()
		must(t, err)
		words := strings.Fields(string(command))
		out, err := Output(t, now.NS, words[0], words[1:]...)
		must(t, now.NS.Close())
		if err != nil {
			t.Errorf("%s: %v: %s", command, err, out)
			continue
		}
		if before == text() {
			unseen++
			t.Logf("%s changes nothing that the plane's own text has", command)
			continue
		}
		rig.Heal(host, drifted, func() bool {
			last = text()
			return before == last
		})
	}
	mustReach(t, a, b)
	t.Logf("%d harms, %d of them to nothing of the plane's", len(harms), unseen)
	if len(harms)-unseen < 7 {
		t.Error("hardly anything was harmed")
	}
}

func (h harm) String() string { return fmt.Sprintf("%q", string(h)) }

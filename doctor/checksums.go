package doctor

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/vishvananda/netns"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/nl"
	"github.com/causeway-net/causeway/internal/sandbox"
)

// checksums finds containers that get TCP segments with wrong checksums. The path works for
// ping, and connections hang: a NIC that is to write checksums of packets within tunnels, and
// does not.
func checksums(ctx context.Context, in *Inputs) ([]Finding, error) {
	segments, err := in.segments(ctx)
	if err != nil {
		return nil, err
	}
	own := make(map[string]fabric.Endpoint)
	for _, segment := range segments {
		for _, endpoint := range segment.Local {
			own[endpoint.MAC.String()] = endpoint
		}
	}
	if len(own) == 0 {
		return nil, nil
	}
	var found []Finding
	err = sandbox.Each(in.SandboxDir, func(ns netns.NsHandle) (stop bool, err error) {
		count, err := countTCP(ns)
		if err != nil || !count.wrong() {
			return ctx.Err() != nil, err
		}
		name, err := nameIn(ns, own)
		if name != "" {
			f := count.finding(name)
			f.About = []string{aboutHost(in.Host.Name)}
			found = append(found, f)
		}
		return ctx.Err() != nil, err
	})
	return found, err
}

// tcpCount is of a namespace, since it was made.
type tcpCount struct{ in, wrongSums uint64 }

// wrong says that more is wrong than a bad cable now and then makes so.
func (c tcpCount) wrong() bool {
	const few, share = 3, 100
	return c.wrongSums >= few && c.wrongSums*share >= c.in
}

func (c tcpCount) finding(container string) Finding {
	return Finding{
		Severity: Problem, Scope: "container " + container,
		Cause:    fmt.Sprintf("Container %s gets TCP segments with wrong checksums: ping works, and connections hang.", container),
		Evidence: fmt.Sprintf("%d of %d segments (InCsumErrors of Tcp in its /proc/net/snmp)", c.wrongSums, c.in),
		Remedy: "A NIC on the way should write the checksums of what is in tunnels, and does not. On the hosts that send to it: " +
			"ethtool -K NIC tx-udp_tnl-segmentation off tx-udp_tnl-csum-segmentation off, or tx off; look for a newer driver, or firmware of the hypervisor.",
	}
}

func countTCP(ns netns.NsHandle) (count tcpCount, err error) {
	var text []byte
	err = nl.Do(ns, func() (err error) {
		text, err = os.ReadFile("/proc/thread-self/net/snmp")
		return err
	})
	if err != nil {
		return count, fmt.Errorf("read the counters of TCP: %w", err)
	}
	return parseTCP(text), nil
}

// parseTCP reads /proc/net/snmp: of each protocol a line of names and one of numbers.
func parseTCP(text []byte) (count tcpCount) {
	var names []string
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
		words := strings.Fields(lines.Text())
		if len(words) == 0 || words[0] != "Tcp:" {
			continue
		}
		if names == nil {
			names = words
			continue
		}
		for i, word := range words[:min(len(words), len(names))] {
			switch names[i] {
			case "InSegs":
				count.in, _ = strconv.ParseUint(word, 10, 64) // else it is none
			case "InCsumErrors":
				count.wrongSums, _ = strconv.ParseUint(word, 10, 64)
			}
		}
	}
	return count
}

// nameIn gives the container whose interface is in a namespace; empty for none of ours.
func nameIn(ns netns.NsHandle, own map[string]fabric.Endpoint) (string, error) {
	handle, err := nl.Open(ns)
	if err != nil {
		return "", err
	}
	defer handle.Close()
	links, err := handle.LinkList()
	if err != nil {
		return "", err
	}
	for _, link := range links {
		if endpoint, ours := own[link.Attrs().HardwareAddr.String()]; ours {
			return endpoint.Name, nil
		}
	}
	return "", nil
}

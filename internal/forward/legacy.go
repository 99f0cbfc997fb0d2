package forward

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/causeway-net/causeway/internal/nl"
)

// legacyChain is the FORWARD chain of ip_tables, which only its own program can
// read: the table is one binary lump.
type legacyChain struct {
	Rules
	family family
}

func (c *legacyChain) String() string { return c.family.tool() + " (legacy)" }

var errNoTool = errors.New("not installed")

// run calls iptables and waits for its lock for two seconds.
func (c *legacyChain) run(ctx context.Context, args ...string) (string, error) {
	tool, err := exec.LookPath(c.family.tool() + "-legacy")
	if err != nil {
		// Before nf_tables, iptables had no second name.
		if tool, err = exec.LookPath(c.family.tool()); err != nil {
			return "", fmt.Errorf("the host's rules are legacy ones, and %s is %w", c.family.tool(), errNoTool)
		}
	}
	var out []byte
	err = nl.Do(c.NS, func() (err error) {
		command := exec.CommandContext(ctx, tool, append([]string{"-w", "2"}, args...)...)
		command.WaitDelay = time.Second // what it started may hold its output open
		out, err = command.Output()
		return err
	})
	var exit *exec.ExitError
	if err != nil && ctx.Err() != nil {
		return "", fmt.Errorf("%s %s: no answer: %w", tool, strings.Join(args, " "), ctx.Err())
	}
	if errors.As(err, &exit) {
		err = fmt.Errorf("%s %s: %s", tool, strings.Join(args, " "), strings.TrimSpace(string(exit.Stderr)))
	}
	return string(out), err
}

func (c *legacyChain) accepted(ctx context.Context) ([]string, error) {
	rules, err := c.run(ctx, "-S", "FORWARD")
	var bridges []string
	for _, match := range regexp.MustCompile(`--comment "`+regexp.QuoteMeta(c.Comment)+`([^"]+)"`).FindAllStringSubmatch(rules, -1) {
		bridges = append(bridges, match[1])
	}
	return bridges, err
}

func (c *legacyChain) accept(ctx context.Context, bridge string) error {
	rules, err := c.run(ctx, "-S", "FORWARD")
	if err != nil {
		return err
	}
	place := 1
	for i, line := range strings.Split(strings.TrimSpace(rules), "\n") {
		if strings.HasSuffix(line, "-j DOCKER-USER") {
			place = i + 1 // line 0 is the policy
		}
	}
	_, err = c.run(ctx, append([]string{"-I", "FORWARD", strconv.Itoa(place)}, c.rule(bridge)...)...)
	return err
}

func (c *legacyChain) revoke(ctx context.Context, bridge string) error {
	_, err := c.run(ctx, append([]string{"-D", "FORWARD"}, c.rule(bridge)...)...)
	return err
}

func (c *legacyChain) rule(bridge string) []string {
	return []string{
		"-i", bridge, "-o", bridge, "-m", "physdev", "--physdev-is-bridged",
		"-m", "comment", "--comment", c.Comment + bridge, "-j", "ACCEPT",
	}
}

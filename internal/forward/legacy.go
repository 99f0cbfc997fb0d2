package forward

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"slices"
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

func (c *legacyChain) present(ctx context.Context) ([]string, error) {
	rules, err := c.run(ctx, "-S", "FORWARD")
	var names []string
	for _, match := range regexp.MustCompile(`--comment "`+regexp.QuoteMeta(c.Comment)+`([^"]+)"`).FindAllStringSubmatch(rules, -1) {
		names = append(names, match[1])
	}
	return names, err
}

func (c *legacyChain) has(ctx context.Context, name string) (bool, error) {
	rules, err := c.run(ctx, "-S")
	return slices.Contains(strings.Split(rules, "\n"), "-N "+name), err
}

func (c *legacyChain) add(ctx context.Context, rule rule) error {
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
	_, err = c.run(ctx, append([]string{"-I", "FORWARD", strconv.Itoa(place)}, c.words(rule)...)...)
	return err
}

func (c *legacyChain) remove(ctx context.Context, name string) error {
	_, err := c.run(ctx, append([]string{"-D", "FORWARD"}, c.words(ruleNamed(name))...)...)
	return err
}

func (c *legacyChain) words(rule rule) []string {
	var words []string
	if rule.in != "" {
		words = append(words, "-i", rule.in)
	}
	if rule.out != "" {
		words = append(words, "-o", rule.out)
	}
	if rule.bridged {
		words = append(words, "-m", "physdev", "--physdev-is-bridged")
	}
	if rule.target != "" {
		words = append(words, "-m", "conntrack", "!", "--ctstate", "DNAT")
	}
	return append(words, "-m", "comment", "--comment", c.Comment+rule.name, "-j", cmp.Or(rule.target, "ACCEPT"))
}

package forward

import (
	"cmp"
	"context"
	"strings"
)

// rule is one of ours in a FORWARD chain.
type rule struct {
	// name completes the rule's comment, and says all that follows.
	name string
	// in and out are interfaces, any where empty; those that end in + are the beginnings
	// of names.
	in, out string
	// bridged says that the rule is for what is bridged.
	bridged bool
	// target is the chain that judges what is not for a published port of the host; empty:
	// all is accepted.
	target string
}

// Names of the rules for what is routed are one of these words, the beginning of the
// interfaces' names, and for toDocker the chain.
const (
	from     = "from"
	to       = "to"
	toDocker = "to-docker"
)

// routed gives the rules of the interfaces whose names begin with prefix, in their order.
// DOCKER-BRIDGE (28.0 and newer) and DOCKER-ISOLATION-STAGE-2 (before) drop what is to
// enter one of Docker's bridges and return what is not.
func routed(ctx context.Context, c chain, prefix string) ([]rule, error) {
	rules := []rule{ruleNamed(from + " " + prefix), ruleNamed(to + " " + prefix)}
	for _, docker := range []string{"DOCKER-BRIDGE", "DOCKER-ISOLATION-STAGE-2"} {
		there, err := c.has(ctx, docker)
		if err != nil {
			return nil, err
		}
		if there {
			return append([]rule{ruleNamed(toDocker + " " + prefix + " " + docker)}, rules...), nil
		}
	}
	return rules, nil
}

// ruleNamed gives the rule of a name.
func ruleNamed(name string) rule {
	switch fields := strings.Fields(name); {
	case len(fields) == 2 && fields[0] == from:
		return rule{name: name, in: fields[1] + "+"}
	case len(fields) == 2 && fields[0] == to:
		return rule{name: name, out: fields[1] + "+"}
	case len(fields) == 3 && fields[0] == toDocker:
		return rule{name: name, in: fields[1] + "+", target: fields[2]}
	}
	return rule{name: name, in: name, out: name, bridged: true} // a bridge
}

// subject is what a rule is about: a bridge, or the beginning of interfaces' names.
func (r rule) subject() string { return cmp.Or(r.in, r.out) }

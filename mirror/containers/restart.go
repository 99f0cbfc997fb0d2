package containers

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/moby/moby/api/types/container"

	"github.com/causeway-net/causeway/internal/health"
)

// restartCheck is how often a container is inspected while its restart policy retries:
// the engine sends no event when it gives up.
const restartCheck = 5 * time.Second

// checkRestart reports a container whose restart policy gave up because of a network
// plugin's error, as while the store was away. It says whether the policy still retries.
func (c *Containers) checkRestart(found container.InspectResponse) (restarting bool) {
	var err error
	if gaveUp(found) {
		name := strings.TrimPrefix(found.Name, "/")
		err = fmt.Errorf("container %s is stopped although its restart policy is %s: %s: start it with docker start %s",
			name, found.HostConfig.RestartPolicy.Name, found.State.Error, name)
	}
	c.Board.Report(health.Scope{Part: health.Restart, Object: found.ID}, err)
	return found.State != nil && found.State.Restarting
}

// gaveUp says whether the last start of a container failed in a network plugin and
// its restart policy starts it no more.
func gaveUp(found container.InspectResponse) bool {
	if found.State == nil || found.HostConfig == nil || found.State.Running || found.State.Restarting {
		return false
	}
	policy := found.HostConfig.RestartPolicy.Name
	return policy != "" && policy != container.RestartPolicyDisabled &&
		slices.ContainsFunc([]string{"NetworkDriver.", "IpamDriver.", "remote: "}, func(part string) bool {
			return strings.Contains(found.State.Error, part)
		})
}

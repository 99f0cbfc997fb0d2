package mirror

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/moby/moby/api/types/container"

	"github.com/causeway-net/causeway/internal/health"
)

// restartLook is how often a container is looked at that its restart policy is
// starting again: the engine sends no event when it gives up.
const restartLook = 5 * time.Second

// checkRestart reports a container that its restart policy gave up because a
// network could not be had, as while the store was away. It says whether the policy
// is still at it.
func (m *Mirror) checkRestart(found container.InspectResponse) (restarting bool) {
	var err error
	if gaveUp(found) {
		name := strings.TrimPrefix(found.Name, "/")
		err = fmt.Errorf("container %s is stopped although its restart policy is %s: %s: start it with docker start %s",
			name, found.HostConfig.RestartPolicy.Name, found.State.Error, name)
	}
	m.Board.Report(health.Scope{Part: health.Restart, Object: found.ID}, err)
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

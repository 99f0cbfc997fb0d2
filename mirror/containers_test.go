package mirror

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/storetest"
	"github.com/causeway-net/causeway/kvstore"
	"github.com/causeway-net/causeway/records"
)

const containerID = "cccccccccccccccccccccccccccccccc"

// inspected is a container as the engine shows it.
func inspected(name string, networks object, more ...object) object {
	found := object{"Id": containerID, "Name": "/" + name, "NetworkSettings": object{"Networks": networks}}
	for _, fields := range more {
		maps.Copy(found, fields)
	}
	return found
}

func (r *rig) names(endpoint string) []string {
	found, _, err := kvstore.Read[fabric.Endpoint](r.Context(), r.store, records.EndpointKey(netID, endpoint))
	if err != nil {
		r.Fatal(err)
	}
	return found.Names
}

func (r *rig) configured() int {
	member, _, err := kvstore.Read[records.Member](r.Context(), r.store, records.MemberKey(netID, "h2"))
	if err != nil {
		r.Fatal(err)
	}
	return member.Configured
}

// Each event of a container brings its names into the records, and whether the
// network has a container.
func TestContainersInRecords(t *testing.T) {
	engine, r := shared(t, storetest.New(t), 0)
	r.put(kvstore.Put(records.EndpointKey(netID, "e1"), fabric.Endpoint{ID: "e1", Network: netID, Host: "h2"}))
	on := object{"NetworkID": oldID, "EndpointID": "e1", "Aliases": []string{"web"}}
	for _, step := range []struct {
		event, id  string
		attributes object
		found      object // nil: the container is gone
		names      []string
		configured int
	}{
		{"container create", containerID, nil, inspected("one", object{"foo": object{}}), nil, 1},
		{"network connect", oldID, object{"container": containerID}, inspected("one", object{"foo": on}), []string{"one", "web", "cccccccccccc"}, 1},
		{"container rename", containerID, nil, inspected("two", object{"foo": on}), []string{"two", "web", "cccccccccccc"}, 1},
		{"network disconnect", oldID, object{"container": containerID}, inspected("two", object{}), []string{"two", "web", "cccccccccccc"}, 0},
		{"network connect", oldID, object{"container": containerID}, inspected("two", object{"foo": object{
			"NetworkID": oldID, "EndpointID": "e1", "DNSNames": []string{"two", "store", "cccccccccccc", "host"},
		}}), []string{"two", "store", "cccccccccccc", "host"}, 1},
		{"container destroy", containerID, nil, nil, []string{"two", "store", "cccccccccccc", "host"}, 0},
	} {
		engine.set(func() {
			engine.containers[containerID] = step.found
			if step.found == nil {
				delete(engine.containers, containerID)
			}
		})
		engine.emit(t, step.event, step.id, step.attributes)
		r.waitFor(fmt.Sprintf("%s: names %q, configured %d", step.event, step.names, step.configured), func() bool {
			return slices.Equal(r.names("e1"), step.names) && r.configured() == step.configured
		})
	}
}

// The attachment of a network may come after its first container.
func TestNamesBeforeTheAttachment(t *testing.T) {
	engine := newFakeEngine(object{"Id": oldID, "Name": "foo", "Scope": "local", "Driver": "causeway"})
	engine.containers[containerID] = inspected("one", object{"foo": object{"NetworkID": oldID, "EndpointID": "e1"}})
	r := start(t, engine, storetest.New(t),
		kvstore.Put(records.NetworkKey(netID), fabric.Network{ID: netID, Name: "foo"}),
		kvstore.Put(records.EndpointKey(netID, "e1"), fabric.Endpoint{ID: "e1", Network: netID, Host: "h2"}))
	r.waitFor("the container", func() bool { return r.mirror.containers.ConfiguredFor("foo") })
	r.put(kvstore.Put(records.AttachmentKey("h2", oldID), records.Attachment{Network: netID}))
	r.waitFor("the names", func() bool { return slices.Equal(r.names("e1"), []string{"one", "cccccccccccc"}) })
}

// A restart policy gives up at the first start that fails; the engine sends no event.
func TestGivenUpContainerIsNamed(t *testing.T) {
	engine, r := shared(t, storetest.New(t), 0)
	policy := object{"HostConfig": object{"RestartPolicy": object{"Name": "always"}}}
	state := func(status, text string) object {
		return object{"State": object{"Status": status, "Error": text, "Restarting": status == "restarting", "Running": status == "running"}}
	}
	failed := "failed to create endpoint web on network foo: NetworkDriver.CreateEndpoint: store unavailable"
	show := func(state object) {
		engine.set(func() { engine.containers[containerID] = inspected("web", object{"foo": object{}}, policy, state) })
	}
	show(state("restarting", ""))
	engine.emit(t, "container die", containerID, nil)
	r.waitFor("an inspection", func() bool { return r.configured() == 1 })
	show(state("exited", failed))
	r.tells("container web is stopped although its restart policy is always: " + failed + ": start it with docker start web")
	show(state("running", ""))
	engine.emit(t, "container start", containerID, nil)
	r.tells()
}

package ui

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/causeway-net/causeway/agent"
	"github.com/causeway-net/causeway/records"
)

func raw(values map[string]string) map[string]json.RawMessage {
	texts := map[string]json.RawMessage{}
	for key, value := range values {
		texts[key] = json.RawMessage(value)
	}
	return texts
}

func TestModel(t *testing.T) {
	freed := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for name, test := range map[string]struct {
		changes []agent.Change
		want    map[string]string // a part of each object; all that there are
	}{
		"a host, and its sign of life before it": {[]agent.Change{
			{Prefix: records.AlivePrefix, First: true, Put: raw(map[string]string{"h1": `{"since":"2026-01-02T03:04:05Z"}`})},
			{Prefix: records.HostsPrefix, First: true, Put: raw(map[string]string{"h1": `{"name":"h1","display":"new","vtep":"10.99.0.1","mtu":1500}`})},
		}, map[string]string{"hosts/h1": `"name":"new","vtep":"10.99.0.1","mtu":1500,"version":"","alive_since":"2026-01-02T03:04:05Z"`}},
		"a host that ends": {[]agent.Change{
			{Prefix: records.HostsPrefix, First: true, Put: raw(map[string]string{"h1": `{"name":"h1"}`})},
			{Prefix: records.AlivePrefix, First: true, Put: raw(map[string]string{"h1": `{"since":"2026-01-02T03:04:05Z"}`})},
			{Prefix: records.AlivePrefix, Gone: []string{"h1"}},
		}, map[string]string{"hosts/h1": `"alive_since":null`}},
		"a sign of life without a host": {[]agent.Change{
			{Prefix: records.AlivePrefix, First: true, Put: raw(map[string]string{"h1": `{}`})},
		}, map[string]string{}},
		"a network without its options": {[]agent.Change{
			{Prefix: records.NetworksPrefix, First: true, Put: raw(map[string]string{
				"n1": `{"id":"n1","name":"foo","mode":"vxlan","vni":7,"options":{"password":"secret"},"labels":{"a":"b"},"subnets":[{"pool":"p","prefix":"192.168.1.0/24"},{"pool":"q","prefix":"fd00::/64"}]}`,
			})},
		}, map[string]string{"networks/n1": `"subnets":[{"pool":"p","prefix":"192.168.1.0/24","gateway":"","first":"192.168.1.1","last":"192.168.1.254","size":254},{"pool":"q","prefix":"fd00::/64",`}},
		"a container": {[]agent.Change{
			{Prefix: records.EndpointsPrefix, First: true, Put: raw(map[string]string{"n1/e1": `{"id":"e1","network":"n1","host":"h1","mac":"02:00:00:00:00:01","addrs":["192.168.1.2/24"],"name":"web"}`})},
		}, map[string]string{"containers/n1/e1": `{"endpoint":"e1","network":"n1","host":"h1","mac":"02:00:00:00:00:01","addresses":["192.168.1.2/24"],"name":"web","names":null}`}},
		"addresses": {[]agent.Change{
			{Prefix: records.AddressesPrefix, First: true, Put: raw(map[string]string{
				"p/192.168.1.1": `{"kind":"gateway"}`, "p/192.168.1.2": `{"kind":"free","freed":"` + freed.Format(time.RFC3339) + `"}`, "p/192.168.1.3": `{"kind":"free"}`,
			})},
		}, map[string]string{
			"addresses/p/192.168.1.1": `"kind":"gateway"`,
			"addresses/p/192.168.1.2": `"rests_until":"` + freed.Add(records.Quarantine).Format(time.RFC3339) + `"`,
			"addresses/p/192.168.1.3": `"name":""}`,
		}},
		"what is gone when the agent comes back": {[]agent.Change{
			{Prefix: records.HostsPrefix, First: true, Put: raw(map[string]string{"h1": `{"name":"h1"}`, "h2": `{"name":"h2"}`})},
			{Prefix: records.HostsPrefix, First: true, Put: raw(map[string]string{"h2": `{"name":"h2"}`})},
		}, map[string]string{"hosts/h2": `"name":"h2"`}},
		"a record that cannot be read": {[]agent.Change{
			{Prefix: records.HostsPrefix, First: true, Put: raw(map[string]string{"h1": `{"name":"h1"}`, "h2": `[]`})},
			{Prefix: records.HostsPrefix, Put: raw(map[string]string{"h1": `7`})},
		}, map[string]string{}},
		"a prefix of a newer agent": {[]agent.Change{{Prefix: "new/", First: true, Put: raw(map[string]string{"x": `{}`})}}, map[string]string{}},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHub()
			m := newModel(h)
			for _, change := range test.changes {
				m.apply(change)
			}
			if got, want := slices.Sorted(maps.Keys(h.objects)), slices.Sorted(maps.Keys(test.want)); !slices.Equal(got, want) {
				t.Errorf("it shows %q, want %q", got, want)
			}
			for key, part := range test.want {
				if !strings.Contains(string(h.objects[key]), part) || strings.Contains(string(h.objects[key]), "secret") {
					t.Errorf("%s is %s, want %s in it", key, h.objects[key], part)
				}
			}
		})
	}
}

package agent

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/causeway-net/causeway/fabric"
)

// PortDrop counts frames of one container of this host that were dropped at its port.
type PortDrop struct {
	Network     string `json:"network"`
	NetworkName string `json:"network_name"`
	Endpoint    string `json:"endpoint"`
	// Name is the container's, where known.
	Name   string `json:"name,omitempty"`
	Reason string `json:"reason"`
	Frames uint64 `json:"frames"`
}

// addPortDrops notes what was dropped, by endpoint ID. Endpoints that are not in the
// records, or can't be read, have no network.
func (s *Status) addPortDrops(drops map[string]fabric.Drops) {
	for id, reasons := range drops {
		endpoint := Endpoint{Endpoint: fabric.Endpoint{ID: id}}
		if i := slices.IndexFunc(s.Endpoints, func(e Endpoint) bool { return e.ID == id }); i >= 0 {
			endpoint = s.Endpoints[i]
		}
		for _, reason := range slices.Sorted(maps.Keys(reasons)) {
			s.PortDrops = append(s.PortDrops, PortDrop{
				Network: endpoint.Network, NetworkName: endpoint.NetworkName, Endpoint: id, Name: endpoint.Name,
				Reason: reason, Frames: reasons[reason],
			})
		}
	}
	slices.SortFunc(s.PortDrops, func(a, b PortDrop) int {
		return cmp.Or(strings.Compare(a.NetworkName, b.NetworkName), cmp.Compare(b.Frames, a.Frames), strings.Compare(a.Endpoint, b.Endpoint), strings.Compare(a.Reason, b.Reason))
	})
}

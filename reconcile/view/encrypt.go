package view

import (
	"maps"

	"github.com/causeway-net/causeway/fabric"
)

// Encrypt has encrypted networks begin at the first of this host's ends. They are returned.
func (v *View) Encrypt(ends fabric.Ends) []string {
	own := v.state.Hosts[v.self.Name]
	own.Ends = ends
	v.state.Hosts[v.self.Name] = own
	concerned := make(map[string]bool)
	for _, id := range v.Needed() {
		concerned[id] = v.state.Networks[id].Encrypted
	}
	maps.DeleteFunc(concerned, func(_ string, encrypted bool) bool { return !encrypted })
	return v.whole(concerned)
}

package ui

import (
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// merge is what the page's script does with an event.
func merge(table map[string]json.RawMessage, d Delta) {
	if d.All {
		clear(table)
	}
	for _, key := range d.Gone {
		delete(table, key)
	}
	maps.Copy(table, d.Put)
}

// Whoever merges all that it is sent has what the hub has, whenever it came and however
// seldom it reads; and it is sent no more objects than were touched meanwhile.
func TestDeltasGiveTheState(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		type page struct {
			*watcher
			table   map[string]json.RawMessage
			touched map[string]bool
		}
		h, want := newHub(), map[string]int{}
		var pages []*page
		key := rapid.Custom(func(t *rapid.T) string { return fmt.Sprint("k", rapid.IntRange(0, 5).Draw(t, "key")) })
		read := func(p *page) {
			d := p.take()
			if !d.All && len(d.Put)+len(d.Gone) > len(p.touched) {
				t.Fatalf("%d objects were touched, and %+v was sent", len(p.touched), d)
			}
			clear(p.touched)
			merge(p.table, d)
		}
		touch := func(key string) {
			for _, p := range pages {
				p.touched[key] = true
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"put": func(t *rapid.T) {
				k, v := key.Draw(t, "k"), rapid.IntRange(0, 2).Draw(t, "v")
				if old, there := want[k]; !there || old != v {
					touch(k)
				}
				want[k] = v
				h.put(k, v)
			},
			"drop": func(t *rapid.T) {
				k := key.Draw(t, "k")
				if _, there := want[k]; there {
					touch(k)
				}
				delete(want, k)
				h.drop(k)
			},
			"replace": func(t *rapid.T) {
				objects := map[string]any{}
				for k, v := range rapid.MapOf(key, rapid.IntRange(0, 2)).Draw(t, "now") {
					objects[k] = v
				}
				for k, old := range want {
					if rest, ours := strings.CutPrefix(k, "r/"); ours && objects[rest] != old {
						touch(k)
						delete(want, k)
					}
				}
				for k, v := range objects {
					if _, same := want["r/"+k]; !same {
						touch("r/" + k)
						want["r/"+k] = v.(int)
					}
				}
				h.replace("r/", objects)
			},
			"open": func(*rapid.T) {
				pages = append(pages, &page{h.watch(), map[string]json.RawMessage{}, map[string]bool{}})
			},
			"read": func(t *rapid.T) {
				if len(pages) > 0 {
					read(rapid.SampledFrom(pages).Draw(t, "page"))
				}
			},
			"": func(*rapid.T) {},
		})
		for _, p := range pages {
			read(p)
			if len(p.table) != len(want) {
				t.Fatalf("the page has %s, want %v", p.table, want)
			}
			for k, v := range want {
				if string(p.table[k]) != fmt.Sprint(v) {
					t.Fatalf("%s is %s, want %d", k, p.table[k], v)
				}
			}
			p.close()
		}
		if watched, _ := h.watched(); watched {
			t.Fatal("all pages are closed, and the hub is watched")
		}
	})
}

package main

import (
	"net/netip"
	"path/filepath"
	"strings"
	"testing"

	"github.com/causeway-net/causeway/agent"
	"github.com/causeway-net/causeway/fabric"
)

// A name of another host's user cannot forge rows or colour the terminal.
func TestControlCharactersAreEscaped(t *testing.T) {
	const evil = "\x1b[2J\nforged\tforged\u202e\r"
	s := agent.Status{
		Host: evil, Version: evil,
		Hosts: []agent.Host{{Host: fabric.Host{Name: "h1", Display: evil, Version: evil}}},
		Networks: []agent.Network{{
			Network: fabric.Network{ID: evil, Name: evil, Mode: evil}, Hosts: []string{"h1", evil},
			Pools: []agent.Pool{{Prefix: netip.MustParsePrefix("10.0.0.0/24")}},
		}},
		Endpoints: []agent.Endpoint{{Endpoint: fabric.Endpoint{ID: evil, Host: "h1", Name: evil}, NetworkName: evil}},
		Troubles:  []string{evil},
	}
	for name, show := range map[string]struct {
		print func(*strings.Builder)
		lines int
	}{
		"status":    {func(w *strings.Builder) { printStatus(w, s) }, 12},
		"hosts":     {func(w *strings.Builder) { printHosts(w, s) }, 2},
		"networks":  {func(w *strings.Builder) { printNetworks(w, s) }, 2},
		"endpoints": {func(w *strings.Builder) { printEndpoints(w, s, s.Endpoints) }, 2},
	} {
		var text strings.Builder
		show.print(&text)
		if got := strings.Count(text.String(), "\n"); got != show.lines {
			t.Errorf("%s has %d lines, want %d:\n%q", name, got, show.lines, text.String())
		}
		if strings.ContainsAny(text.String(), "\x1b\r\u202e") || !strings.Contains(text.String(), `\x1b[2J\nforged\tforged\u202e\r`) {
			t.Errorf("%s: %q", name, text.String())
		}
	}
}

func TestHostsAreShownByTheirNewName(t *testing.T) {
	s := agent.Status{
		Hosts:     []agent.Host{{Host: fabric.Host{Name: "h1", Display: "web"}}},
		Networks:  []agent.Network{{Network: fabric.Network{ID: "n1"}, Hosts: []string{"h1", "h2"}, Pools: []agent.Pool{{}}}},
		Endpoints: []agent.Endpoint{{Endpoint: fabric.Endpoint{ID: "e1", Host: "h1"}, NetworkName: "foo"}},
	}
	var text strings.Builder
	printStatus(&text, s)
	printEndpoints(&text, s, s.Endpoints)
	for _, want := range []string{"\nweb\t", "\tweb,h2\n", "\nfoo\tweb\t", "\nno troubles\n"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("%q is not in\n%s", want, text.String())
		}
	}
}

// The commands ask the agent that the environment names.
func TestCommandsReadTheEnvironment(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "agent.sock")
	t.Setenv("CAUSEWAY_AGENT_SOCKET", socket)
	for _, args := range [][]string{{"status"}, {"hosts", "rm", "h9"}} {
		command := rootCommand()
		command.SetArgs(args)
		if err := command.ExecuteContext(t.Context()); err == nil || !strings.Contains(err.Error(), socket) {
			t.Errorf("%v: %v", args, err)
		}
	}
}

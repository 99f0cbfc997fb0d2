package main

import (
	"encoding/json"
	"os"
	"slices"
	"testing"

	"github.com/spf13/pflag"
)

// TestPluginSettings holds plugin-config.json to the flags: each can be set by
// "docker plugin set", but for where the plugin finds the host.
func TestPluginSettings(t *testing.T) {
	text, err := os.ReadFile("../../plugin-config.json")
	if err != nil {
		t.Fatal(err)
	}
	var config struct {
		Env []struct {
			Name, Value string
			Settable    []string
		}
	}
	if err := json.Unmarshal(text, &config); err != nil {
		t.Fatal(err)
	}
	var s settings
	flags := pflag.NewFlagSet("serve", pflag.ContinueOnError)
	s.register(flags)
	known := map[string]bool{}
	for _, env := range config.Env {
		known[env.Name] = true
		t.Setenv(env.Name, env.Value)
		if settable := slices.Contains(env.Settable, "value"); settable == (env.Name == envName("run-dir")) {
			t.Errorf("%s: settable is %v", env.Name, settable)
		}
	}
	flags.VisitAll(func(flag *pflag.Flag) {
		if !known[envName(flag.Name)] {
			t.Errorf("--%s cannot be set in the plugin", flag.Name)
		}
		delete(known, envName(flag.Name))
	})
	if len(known) > 0 {
		t.Errorf("the plugin has settings that are no flags: %v", known)
	}
	if err := readEnv(flags); err != nil {
		t.Fatal(err)
	}
	if err := s.check(); err != nil {
		t.Error(err)
	}
	if !s.managed() || s.onHost("/run/netns") != "/host/run/netns" || s.onHost("/var/lib/x") != "/var/lib/x" {
		t.Errorf("the host's /run is seen at %s", s.onHost("/run"))
	}
}

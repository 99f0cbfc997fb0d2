package report

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// Machine tells what a run ran on, and the versions of the programs: what cannot be found
// out is left out.
func Machine(ctx context.Context, programs ...string) []Fact {
	var facts []Fact
	add := func(name, value string) {
		if value = strings.TrimSpace(value); value != "" {
			facts = append(facts, Fact{Name: name, Value: value})
		}
	}
	add("processors", fmt.Sprintf("%d × %s", runtime.NumCPU(), field("/proc/cpuinfo", "model name")))
	add("memory", field("/proc/meminfo", "MemTotal"))
	var uts unix.Utsname
	if unix.Uname(&uts) == nil {
		add("kernel", unix.ByteSliceToString(uts.Sysname[:])+" "+unix.ByteSliceToString(uts.Release[:]))
	}
	add("system", strings.Trim(field("/etc/os-release", "PRETTY_NAME"), `"`))
	add("Go", runtime.Version())
	for _, path := range programs {
		add(filepath.Base(path), firstLine(ctx, path, "--version"))
	}
	load, _, _ := strings.Cut(field("/proc/loadavg", ""), " ")
	add("load before the run", load)
	return facts
}

// field gives what follows a name in a file of lines, or with no name the first line.
func field(path, name string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(text)) {
		if rest, found := strings.CutPrefix(line, name); found {
			return strings.TrimSpace(strings.TrimLeft(rest, " \t:="))
		}
	}
	return ""
}

func firstLine(ctx context.Context, argv ...string) string {
	out, err := exec.CommandContext(ctx, argv[0], argv[1:]...).Output()
	if err != nil {
		return ""
	}
	line, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	return line
}

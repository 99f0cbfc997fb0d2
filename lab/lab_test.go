package lab

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestLab brings a real lab up for each engine of $CAUSEWAY_LAB_ENGINES.
func TestLab(t *testing.T) {
	if err := checkMachine(); err != nil {
		t.Skip(err)
	}
	for engine := range strings.FieldsSeq(cmp.Or(os.Getenv("CAUSEWAY_LAB_ENGINES"), defaultEngine)) {
		t.Run(engine, func(t *testing.T) { testEngine(t, engine) })
	}
}

func testEngine(t *testing.T, engine string) {
	before := rootState(t)
	l, err := Up(t.Context(), Options{
		Name: fmt.Sprint("test-", os.Getpid()), Engine: engine, Store: StoreEtcd, NoCauseway: true, Log: t.Output(),
	})
	if err != nil {
		t.Fatal(err)
	}
	down := false
	t.Cleanup(func() {
		if !down {
			_ = l.Down(context.Background())
		}
	})
	t.Run("a second one of that name is refused", func(t *testing.T) {
		if _, err := Up(t.Context(), l.state.Options); err == nil || !strings.Contains(err.Error(), "is up already") {
			t.Error(err)
		}
	})
	t.Run("busybox runs", func(t *testing.T) { testBusybox(t, l) })
	t.Run("the way in and out", func(t *testing.T) { testRouter(t, l) })
	t.Run("cut and heal", func(t *testing.T) { testCut(t, l) })
	t.Run("commands", func(t *testing.T) { testCommands(t, l) })
	t.Run("a killed engine comes back", func(t *testing.T) { testKill(t, l) })
	t.Run("down leaves nothing", func(t *testing.T) {
		testDown(t, l)
		down = true
		if diff := gocmp.Diff(before, rootState(t)); diff != "" {
			t.Errorf("the machine before and after:\n%s", diff)
		}
	})
}

// rootState are the links and mounts that the whole machine sees and that may be
// the lab's: tests of other packages have theirs at the same time.
func rootState(t *testing.T) map[string]string {
	state := map[string]string{}
	for _, name := range []string{"br0", "tmp0", "docker0", physicalBridge, switchName, routerName, outsideName, plainName, storeName, "h1", "h2"} {
		if link, err := net.InterfaceByName(name); err == nil {
			state["link "+name] = link.HardwareAddr.String()
		}
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for mount := range strings.Lines(string(mounts)) {
		if point := strings.Fields(mount)[4]; strings.Contains(mount, "causeway-lab") || strings.Contains(point, "docker") ||
			slices.Contains([]string{"/run", "/etc", "/var/lib", "/sys", "/run/cgroup", "/sys/fs/cgroup"}, point) {
			state["mount "+point] = mount
		}
	}
	return state
}

// run runs a command line, without quotes, on a machine.
func run(t *testing.T, l *Lab, machine, line string) string {
	t.Helper()
	m, err := l.Machine(machine)
	if err != nil {
		t.Fatal(err)
	}
	output, err := m.Run(t.Context(), strings.Fields(line)...)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(output)
}

func testBusybox(t *testing.T, l *Lab) {
	for _, h := range l.Hosts() {
		version := run(t, l, h.Name(), "docker version --format {{.Server.Version}}")
		if !strings.HasPrefix(version, h.Engine()) {
			t.Errorf("%s runs %s, not %s", h.Name(), version, h.Engine())
		}
		run(t, l, h.Name(), "env -i "+filepath.Join(engineDir(h.engine), "usr/sbin/dockerd")+" --version")
		name := "on-" + h.Name()
		if got := run(t, l, h.Name(), "docker run --rm --hostname "+name+" busybox hostname"); got != name {
			t.Errorf("a container on %s calls itself %q", h.Name(), got)
		}
	}
	run(t, l, "h1", "docker run -d --stop-timeout 1 --name only-here --restart always busybox sleep 1d")
	if got := run(t, l, "h2", "docker ps -q"); got != "" {
		t.Errorf("h2 sees the containers of h1: %s", got)
	}
	if got := run(t, l, "h1", "hostname"); got != "h1" {
		t.Errorf("h1 calls itself %s", got)
	}
}

func testRouter(t *testing.T, l *Lab) {
	run(t, l, "h1", "docker run -d --stop-timeout 1 -p 8080:80 --name web busybox httpd -f -h /etc")
	if got := run(t, l, "outside", "busybox wget -qO- http://10.99.0.1:8080/hostname"); got == "" {
		t.Error("the published port gives nothing")
	}
	watch := background(t, l, "outside", "timeout 20 tcpdump -ni eth0 -c 1 icmp[icmptype]==icmp-echo")
	run(t, l, "h2", "docker run --rm busybox ping -c 1 203.0.113.1")
	if got := watch(); !strings.Contains(got, "203.0.113.254 > 203.0.113.1") {
		t.Errorf("outside sees %s", got)
	}
	run(t, l, "plain", "ping -c 1 fd99::2")
	run(t, l, "plain", "ping -c 1 2001:db8::1")
}

// background starts a capture and returns when it listens; the function that it
// gives waits for its end and tells what it wrote.
func background(t *testing.T, l *Lab, machine, line string) func() string {
	m, err := l.Machine(machine)
	if err != nil {
		t.Fatal(err)
	}
	cmd := m.Command(t.Context(), strings.Fields(line)...)
	var output bytes.Buffer
	cmd.Stdout = &output
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Skip(err)
	}
	buffer := make([]byte, 4096)
	for said := ""; !strings.Contains(said, "listening on"); {
		n, err := stderr.Read(buffer)
		if err != nil {
			t.Skipf("%s: %s %v", line, said, err)
		}
		said += string(buffer[:n])
	}
	return func() string {
		if err := cmd.Wait(); err != nil {
			t.Errorf("%s: %v", line, err)
		}
		return output.String()
	}
}

func testCut(t *testing.T, l *Lab) {
	plain, err := l.Machine("plain")
	if err != nil {
		t.Fatal(err)
	}
	ping := []string{"ping", "-c", "1", "-W", "0.3", "10.99.0.2"}
	if err := l.Cut(t.Context(), "h2"); err != nil {
		t.Fatal(err)
	}
	if _, err := plain.Run(t.Context(), ping...); err == nil {
		t.Error("h2 answers with its cable out")
	}
	if err := l.Heal(t.Context(), "h2"); err != nil {
		t.Fatal(err)
	}
	// The neighbour that failed is asked for again after a second.
	run(t, l, "plain", "ping -c 1 -W 5 10.99.0.2")
	if err := l.Cut(t.Context(), "h7"); err == nil || !strings.Contains(err.Error(), "there are switch, router,") {
		t.Error(err)
	}
}

func testCommands(t *testing.T, l *Lab) {
	h1 := l.Hosts()[0]
	_, err := h1.Run(t.Context(), "sh", "-c", "echo because >&2; exit 7")
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 7 || !strings.Contains(err.Error(), "h1: sh -c") || !strings.Contains(err.Error(), "because") {
		t.Error(err)
	}
	other, err := Open(l.Name())
	if err != nil {
		t.Fatal(err)
	}
	if got := other.Hosts()[0].Docker.PID(); got == 0 || got != h1.Docker.PID() {
		t.Errorf("opened again, the engine's PID is %d, not %d", got, h1.Docker.PID())
	}
	if _, err := Open("no-such-lab"); !errors.Is(err, ErrNotUp) {
		t.Error(err)
	}
	if _, err := l.Host("plain"); err == nil {
		t.Error("plain has a Docker")
	}
}

func testKill(t *testing.T, l *Lab) {
	docker := l.Hosts()[0].Docker
	was := docker.PID()
	if err := docker.Start(t.Context()); err == nil {
		t.Error("a second engine was started")
	}
	if err := docker.Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	if docker.Running() {
		t.Error("it runs on")
	}
	if err := docker.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if docker.PID() == was {
		t.Error("it is the same process")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := until(ctx, func(ctx context.Context) error {
		_, err := l.Hosts()[0].Run(ctx, "docker", "exec", "only-here", "true")
		return err
	}); err != nil {
		t.Error(err)
	}
}

func testDown(t *testing.T, l *Lab) {
	m, err := l.Machine("plain")
	if err != nil {
		t.Fatal(err)
	}
	stray := m.Command(t.Context(), "sleep", "1000")
	if err := stray.Start(); err != nil {
		t.Fatal(err)
	}
	members, err := l.members()
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Down(t.Context()); err != nil {
		t.Fatal(err)
	}
	var signal *exec.ExitError
	if err := stray.Wait(); !errors.As(err, &signal) || signal.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Errorf("a command in a machine: %v", err)
	}
	for _, p := range members {
		if p.alive() {
			t.Errorf("process %d lives on", p.PID)
		}
	}
	for _, pattern := range []string{runDir(l.Name()), dataDir(l.Name()), "/sys/fs/cgroup/*/causeway-lab/" + l.Name()} {
		if left, err := filepath.Glob(pattern); err != nil || len(left) > 0 {
			t.Errorf("left: %v, %v", left, err)
		}
	}
}

// TestUpIsTakenBack: what fails half-way leaves nothing.
func TestUpIsTakenBack(t *testing.T) {
	if err := checkMachine(); err != nil {
		t.Skip(err)
	}
	before := rootState(t)
	name := fmt.Sprint("half-", os.Getpid())
	_, err := Up(t.Context(), Options{Name: name, Hosts: 1, NoCauseway: true, DockerArgs: []string{"--storage-driver=nonesuch"}})
	if err == nil || !strings.Contains(err.Error(), "docker on h1: it ended by itself") || !strings.Contains(err.Error(), "nonesuch") {
		t.Error(err)
	}
	if _, err := Open(name); !errors.Is(err, ErrNotUp) {
		t.Error(err)
	}
	if diff := gocmp.Diff(before, rootState(t)); diff != "" {
		t.Errorf("the machine before and after:\n%s", diff)
	}
}

package engines

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
)

// start is one container that does nothing, from the call to its end.
func (a *attempt) start(ctx context.Context, network string) (time.Duration, error) {
	began := time.Now()
	_, err := docker(ctx, a.hosts[0], "run", "--rm", "--net", network, "busybox", "true")
	return time.Since(began), err
}

// oneAfterAnother starts containers on a network that has one on this host, and reads from
// causeway's log how long its own part took.
func oneAfterAnother(ctx context.Context, a *attempt) error {
	calls, err := a.watchCalls()
	if err != nil {
		return err
	}
	for range a.repeat {
		took, err := a.start(ctx, a.network(false))
		if err != nil {
			return err
		}
		a.add("run", "ms", milliseconds(took))
	}
	return calls.add("handlers")
}

// firstOnHost starts containers on a network that has no other here.
func firstOnHost(ctx context.Context, a *attempt) error {
	for range a.repeat {
		took, err := a.start(ctx, a.network(true))
		if err != nil {
			return err
		}
		a.add("run-first", "ms", milliseconds(took))
	}
	return nil
}

// connecting attaches a running container, and detaches it.
func connecting(ctx context.Context, a *attempt) error {
	for range a.repeat {
		began := time.Now()
		if _, err := docker(ctx, a.hosts[0], "network", "connect", a.network(false), guest); err != nil {
			return err
		}
		connected := time.Now()
		if _, err := docker(ctx, a.hosts[0], "network", "disconnect", a.network(false), guest); err != nil {
			return err
		}
		a.add("connect", "connect, ms", milliseconds(connected.Sub(began)))
		a.add("connect", "disconnect, ms", milliseconds(time.Since(connected)))
	}
	return nil
}

// burst starts so many containers at once.
func burst(ctx context.Context, a *attempt, containers int) error {
	calls, err := a.watchCalls()
	if err != nil {
		return err
	}
	group, groupCtx := errgroup.WithContext(ctx)
	began := time.Now()
	for range containers {
		group.Go(func() error {
			_, err := docker(groupCtx, a.hosts[0], "run", "--rm", "--label", "bench-burst", "--net", a.network(false), "busybox", "true")
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return errors.Join(err, a.sweepBurst(ctx))
	}
	a.add(fmt.Sprint("burst", containers), "s", time.Since(began).Seconds())
	return calls.add("handlers-burst")
}

// sweepBurst removes what a burst left that was broken off.
func (a *attempt) sweepBurst(ctx context.Context) error {
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer stop()
	_, err := a.hosts[0].Run(ctx, "sh", "-c", "docker ps -aq --filter label=bench-burst | xargs -r docker rm -f")
	return err
}

// reaching starts a container that sends to the other host from its first moment, and
// tells when it was answered: this program itself, with ProbeCommand.
func reaching(ctx context.Context, a *attempt) error {
	end, err := a.server.echo(echoPort)
	if err != nil {
		return err
	}
	defer end()
	self, err := os.Executable()
	if err != nil {
		return err
	}
	for range a.repeat {
		began := time.Now()
		out, err := docker(ctx, a.hosts[0], "run", "--rm", "-v", self+":/"+filepath.Base(self)+":ro", "--net", a.network(false),
			"busybox", "/"+filepath.Base(self), ProbeCommand, fmt.Sprintf("%s:%d", a.server.addr, a.server.seen(echoPort)))
		if err != nil {
			return err
		}
		start, answer, found := strings.Cut(out, " ")
		running, err1 := strconv.ParseInt(start, 10, 64)
		answered, err2 := strconv.ParseInt(answer, 10, 64)
		if err := errors.Join(err1, err2); err != nil || !found {
			return fmt.Errorf("the container says %q: %w", out, err)
		}
		a.add("reach", "from docker run, ms", milliseconds(time.Unix(0, answered).Sub(began)))
		a.add("reach", "from its process's start, ms", float64(answered-running)/1e6)
	}
	return nil
}

// ProbeCommand is the argument that has the program call Probe, with the address after it.
const ProbeCommand = "probe"

// Probe is what runs in that container: it gives the clock at its start and at the answer.
func Probe(ctx context.Context, address string) (string, error) {
	began := time.Now()
	ctx, stop := context.WithTimeout(ctx, 10*time.Second)
	defer stop()
	answered, err := Reach(ctx, address)
	return fmt.Sprint(began.UnixNano(), " ", answered.UnixNano()), err
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

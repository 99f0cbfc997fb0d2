package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/sirupsen/logrus"
)

// notifySystemd tells systemd that causeway serves, and then, as often as the
// unit's watchdog wants it, that the plugin's socket still answers: a causeway
// that hangs is restarted, and docker run does not hang with it. Without systemd
// it does nothing (sd_notify(3)).
func notifySystemd(ctx context.Context, socket string, log *logrus.Entry) error {
	if _, err := daemon.SdNotify(false, daemon.SdNotifyReady); err != nil {
		log.WithError(err).Warn("systemd could not be told that causeway serves")
	}
	period, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		log.WithError(err).Warn("the unit's watchdog is not served")
	}
	if err != nil || period == 0 {
		<-ctx.Done()
		return nil
	}
	tick := time.NewTicker(period / 3)
	defer tick.Stop()
	for {
		if err := answers(ctx, socket, period/3); err == nil {
			_, err = daemon.SdNotify(false, daemon.SdNotifyWatchdog)
			if err != nil {
				log.WithError(err).Debug("systemd could not be told that causeway lives")
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// answers says why the plugin's socket does not answer within limit.
func answers(ctx context.Context, socket string, limit time.Duration) error {
	client := &http.Client{Timeout: limit, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		},
	}}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://causeway/Plugin.Activate", strings.NewReader("{}"))
	if err != nil {
		return err
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("the plugin's socket answers %s", response.Status)
	}
	return nil
}

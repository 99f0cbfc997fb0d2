package lab

import (
	"context"
	"path/filepath"
)

func etcdDir() string { return filepath.Join(cacheDir(), "etcd") }

func (l *Lab) newEtcd(m *Machine) *Daemon {
	url := storeURL()
	return &Daemon{
		machine: m, name: "etcd",
		argv: func() []string {
			return []string{
				filepath.Join(etcdDir(), "usr/bin/etcd"), "--data-dir", "/var/lib/etcd",
				"--listen-client-urls", url, "--advertise-client-urls", url,
				"--listen-peer-urls", "http://127.0.0.1:2380",
			}
		},
		ready: func(ctx context.Context) error {
			_, err := m.Run(ctx, "busybox", "wget", "-q", "-O", "-", url+"/health")
			return err
		},
	}
}

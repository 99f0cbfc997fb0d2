package lab

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestSwitchBatch(t *testing.T) {
	o := Options{Hosts: 2, Engine: "28.5"}
	pid := func(name string) int { return len(name) }
	want := `link add name br0 type bridge mcast_snooping 0
link set br0 up
link add name router mtu 1400 type veth peer name eth0 mtu 1400 netns 6
link set router master br0 up
link add name plain mtu 1400 type veth peer name eth0 mtu 1400 netns 5
link set plain master br0 up
link add name h1 mtu 1400 type veth peer name eth0 mtu 1400 netns 2
link set h1 master br0 up
link add name h2 mtu 1400 type veth peer name eth0 mtu 1400 netns 2
link set h2 master br0 up
link add name tmp0 mtu 1400 type veth peer name eth1 mtu 1400 netns 6
link set tmp0 name eth0 netns 7
`
	if diff := cmp.Diff(want, switchBatch(layout(o), 1400, pid)); diff != "" {
		t.Error(diff)
	}
}

func TestMachineBatch(t *testing.T) {
	specs := layout(Options{Hosts: 12, Engine: "28.5", Store: StoreEtcd})
	want := `addr replace 10.99.0.12/24 dev eth0
addr replace fd99::12/64 dev eth0 nodad
link set eth0 up
route replace default via 10.99.0.254
route replace default via fd99::254
`
	if diff := cmp.Diff(want, machineBatch(specs[len(specs)-1])); diff != "" {
		t.Error(diff)
	}
	var names []string
	for _, s := range specs[:6] {
		names = append(names, s.name)
	}
	if diff := cmp.Diff([]string{"switch", "router", "outside", "plain", "store", "h1"}, names); diff != "" {
		t.Error(diff)
	}
}

func TestCausewayArgv(t *testing.T) {
	o := Options{Hosts: 2, Store: StoreEmbedded}
	etcd, six := o, o
	etcd.Store, etcd.CausewayArgs = StoreEtcd, []string{"--log-level", "debug"}
	six.VTEP6 = true
	for name, test := range map[string]struct {
		o    Options
		host int
		want string
	}{
		"the first host begins the cluster": {o, 1, "--host-name h1 --vtep 10.99.0.1"},
		"the second one joins it":           {o, 2, "--host-name h2 --vtep 10.99.0.2 --join cw1-x"},
		"a server of its own":               {etcd, 1, "--host-name h1 --vtep 10.99.0.1 --store http://10.99.0.253:2379 --store-insecure=true --log-level debug"},
		"IPv6 tunnels":                      {six, 2, "--host-name h2 --vtep fd99::2 --join cw1-x"},
	} {
		t.Run(name, func(t *testing.T) {
			got := causewayArgv(test.o, near().machine(hostName(test.host), test.host), "cw1-x")
			if diff := cmp.Diff("causeway serve "+test.want, strings.Join(got, " ")); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestOptionsAreChecked(t *testing.T) {
	for want, o := range map[string]Options{
		`lab name "../x"`: {Name: "../x"},
		"-1 hosts":        {Hosts: -1},
		"300 hosts":       {Hosts: 300},
		`engine "19.03": there are 20.10, 26.1, 28.5`: {Engine: "19.03"},
		"3 engines are named for 2 hosts":             {Engines: []string{"", "", "26.1"}},
		`engine "27"`:                                 {Engines: []string{"27"}},
		`store "zk"`:                                  {Store: "zk"},
		"MTU 90":                                      {MTU: 90},
		"no causeway at /nowhere/causeway":            {Causeway: "/nowhere/causeway"},
	} {
		if err := o.withDefaults().check(); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("got %v, want %s…", err, want)
		}
	}
	o := Options{NoCauseway: true, Engines: []string{"", "20.10"}, Hosts: 3}.withDefaults()
	if err := o.check(); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff([]string{"28.5", "20.10", "28.5"}, o.engines()); diff != "" {
		t.Error(diff)
	}
}

func TestParseStart(t *testing.T) {
	stat := "4242 (odd) name) S 1 4242 4242 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 987654 1000 2"
	if start, err := parseStart(stat); err != nil || start != 987654 {
		t.Errorf("start %d, %v", start, err)
	}
	if _, err := parseStart("4242 (cut"); err == nil {
		t.Error("a short line was taken")
	}
}

func TestBusyboxTar(t *testing.T) {
	image, err := busyboxTar([]byte("program"), []string{"busybox", "ping"})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for r := tar.NewReader(bytes.NewReader(image)); ; {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		got[header.Name] = header.Linkname + string(content)
	}
	if got["bin/busybox"] != "program" || got["bin/ping"] != "busybox" {
		t.Error(got)
	}
}

package test

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/planetest"
)

// outcome is what an attack comes to.
type outcome string

const (
	nothing      outcome = ""
	arrives      outcome = "arrives"
	takesTraffic outcome = "takes the traffic of one" // what is sent to the victim goes to the attacker
)

// duel is an attacker and a victim, with what is known of them.
type duel struct {
	besieged
	attacker, victim       container
	attackerPID, victimPID int
	// self is the attacker, target the victim with the MAC that the attacker reaches it by.
	self, target fabric.Endpoint
}

func (b besieged) duel(attacker, victim container) duel {
	b.Helper()
	d := duel{b, attacker, victim, attacker.pid(), victim.pid(), b.endpoint(attacker), b.endpoint(victim)}
	d.target.MAC = attacker.nextHop(victim.addr(b.network))
	return d
}

// try is one attack of a container.
type try struct {
	name string
	send func() error
	is   func(frame []byte) bool // what arrives
}

// attacks are those of the planes' suite, as frames, and two by the container's own
// settings, which ask for NET_ADMIN.
func (d duel) attacks() []try {
	d.Helper()
	attacker := d.attacker
	var all []try
	for _, attack := range planetest.Attacks(d.self, d.target) {
		all = append(all, try{
			attack.Name, func() error { return sendFrame(d.attackerPID, attack.Frame) },
			func(got []byte) bool { return isFrame(got, attack.Frame) },
		})
	}
	if !strings.HasSuffix(attacker.name, "admin") {
		return all
	}
	stolen := d.self.Addrs[0].Addr()
	for range 50 {
		stolen = stolen.Next()
	}
	ping := func(args ...string) {
		_, _ = attacker.exec(append(append([]string{"ping", "-c", "2", "-i", "0.2", "-W", "1"}, args...), d.target.Addrs[0].Addr().String())...) // nobody may answer
	}
	return append(all, try{"from an address that `ip address add` gave it (`NET_ADMIN`)", func() error {
		attacker.must("ip", "addr", "add", stolen.String()+"/24", "dev", "eth0")
		defer attacker.must("ip", "addr", "del", stolen.String()+"/24", "dev", "eth0")
		ping("-I", stolen.String())
		return nil
	}, func(got []byte) bool {
		return len(got) > 34 && got[12] == 8 && got[13] == 0 && bytes.Equal(got[26:30], stolen.AsSlice())
	},
	}, try{"with a MAC that `ip link set` gave it (`NET_ADMIN`)", func() error {
		defer attacker.must("ip", "link", "set", "eth0", "address", d.self.MAC.String())
		attacker.must("ip", "link", "set", "eth0", "address", "02:00:00:00:00:99")
		ping()
		return nil
	}, func(got []byte) bool { // a request of its own, behind a router with the router's MAC
		const echo = 8
		return len(got) > 34 && (bytes.Equal(got[6:12], []byte{2, 0, 0, 0, 0, 0x99}) || got[12] == 8 && got[13] == 0 && got[23] == 1 && got[34] == echo)
	}})
}

// isFrame says whether what a container gets is a frame that was sent: as it was, without
// its VLAN tag, which the socket takes off, or routed, which leaves the words in it.
func isFrame(got, sent []byte) bool {
	const tag = 4
	tagged := sent[12] == 0x81 && sent[13] == 0
	return bytes.HasPrefix(got, sent) || bytes.HasSuffix(sent, []byte("attack")) && bytes.Contains(got, []byte("attack")) ||
		tagged && bytes.HasPrefix(got, slices.Concat(sent[:12], sent[12+tag:]))
}

func (b besieged) endpoint(of container) fabric.Endpoint {
	b.Helper()
	mac, err := fabric.ParseMAC(of.mac(b.network))
	if err != nil {
		b.Fatal(err)
	}
	four := netip.MustParseAddr(of.addr(b.network))
	six := netip.MustParseAddr(fmt.Sprintf("fd2%d::%d", b.number, four.As4()[3])) // frames can have it all the same
	return fabric.Endpoint{ID: of.name, MAC: mac, Addrs: []netip.Prefix{netip.PrefixFrom(four, 24), netip.PrefixFrom(six, 64)}}
}

// fight makes an attack, and says what came of it. A datagram of the attacker's own comes
// after it, twice: when both have arrived, it would have.
func (d duel) fight(attack try) outcome {
	d.Helper()
	end := slices.Concat(d.target.MAC[:], d.self.MAC[:], []byte{0x08, 0x00},
		datagram(d.self.Addrs[0].Addr(), d.target.Addrs[0].Addr(), intruderPort, "the end"))
	socket := d.packets(d.victimPID, "eth0")
	defer socket.Close()
	if err := attack.send(); err != nil {
		d.Fatal(err)
	}
	got, came, ends := make([]byte, 1<<16), nothing, 0
	for round := 0; ends < 2; round++ {
		if round == 20 {
			eventually(d.T, d.victim.name+" has its traffic again", func() error {
				_, err := d.victim.exec("ping", "-c", "1", "-W", "1", d.self.Addrs[0].Addr().String())
				return err
			})
			return takesTraffic
		}
		err := errors.Join(sendFrame(d.attackerPID, end), socket.SetReadDeadline(time.Now().Add(200*time.Millisecond)))
		if err != nil {
			d.Fatal(err)
		}
		for ended := false; !ended; {
			n, err := socket.Read(got)
			if err != nil {
				break
			}
			if attack.is(got[:n]) {
				came = arrives
			}
			if ended = bytes.HasSuffix(got[:n], []byte("the end")); ended {
				ends++
			}
		}
	}
	return came
}

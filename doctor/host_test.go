package doctor

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/lantest"
	"github.com/causeway-net/causeway/internal/trusttest"
	"github.com/causeway-net/causeway/trust"
)

func TestFirewallThatDropsWhatIsForwarded(t *testing.T) {
	machine := lantest.NewMachine(t, "host")
	in := &Inputs{HostNS: machine.NS, Planes: planned{{ID: "n1", Mode: fabric.ModeVXLAN}}}
	found, err := firewall(t.Context(), in)
	wantNone(t, found, err)
	machine.Run("nft", "add table inet wall; add chain inet wall pass { type filter hook forward priority 0; policy drop; }")
	found, err = firewall(t.Context(), in)
	if f := wantOne(t, found, err, "Another program's chain pass drops what is forwarded"); !strings.HasPrefix(f.Evidence, "table wall, chain pass") {
		t.Error(f.Evidence)
	}
	in.Planes = planned{{ID: "n1", Mode: fabric.ModeVXLAN, Internal: true}}
	found, err = firewall(t.Context(), in)
	wantNone(t, found, err) // nothing of it is forwarded
	in.Planes = planned{{ID: "n1", Mode: fabric.ModeRouted}}
	machine.Run("nft", `add rule inet wall pass iifname "cw*" accept`)
	found, err = firewall(t.Context(), in)
	wantNone(t, found, err)
}

func TestCertificateThatExpires(t *testing.T) {
	authority := trusttest.NewAuthority(t)
	request, _, err := trust.NewRequest("h1")
	if err != nil {
		t.Fatal(err)
	}
	for left, want := range map[time.Duration]string{
		trust.HostLife: "", 7 * 24 * time.Hour: "expires soon", -time.Hour: "has expired",
	} {
		t.Run(fmt.Sprint(left), func(t *testing.T) {
			certificate, err := authority.Sign(request, "h1", nil, time.Now().Add(left-trust.HostLife))
			if err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(t.TempDir(), "host.pem")
			if err := os.WriteFile(path, certificate, 0o600); err != nil {
				t.Fatal(err)
			}
			found, err := certificates(t.Context(), &Inputs{Certificates: []string{path}})
			if want == "" {
				wantNone(t, found, err)
				return
			}
			if f := wantOne(t, found, err, want); (f.Severity == Problem) != (left < 0) {
				t.Error(f.Severity)
			}
		})
	}
}

package fabric

import (
	"encoding/json"
	"testing"

	"pgregory.net/rapid"
)

func TestDeriveMAC(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		addr := v6(rapid.IntRange(0, 255).Draw(t, "net"), rapid.IntRange(0, 255).Draw(t, "n"))
		mac := DeriveMAC(rapid.String().Draw(t, "network"), addr)
		if !mac.IsUnicast() || mac[0] != 0x02 {
			t.Fatalf("%s is not locally administered and unicast", mac)
		}
	})
	if DeriveMAC("a", v4(0, 1)) == DeriveMAC("b", v4(0, 1)) || DeriveMAC("a", v4(0, 1)) == DeriveMAC("a", v4(0, 2)) {
		t.Error("two holders have one MAC")
	}
}

func TestMACText(t *testing.T) {
	want := MAC{2, 0x42, 0xac, 0x11, 0, 2}
	text, err := json.Marshal(want)
	if err != nil || string(text) != `"02:42:ac:11:00:02"` {
		t.Fatalf("%s, %v", text, err)
	}
	var got MAC
	if err := json.Unmarshal(text, &got); err != nil || got != want {
		t.Fatalf("%s, %v", got, err)
	}
	for _, bad := range []string{"", "02:42", "02:00:5e:10:00:00:00:01", "zz:42:ac:11:00:02"} {
		if _, err := ParseMAC(bad); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

func TestDeviceNameFits(t *testing.T) {
	if name := DeviceName("cwxyz", "an endpoint's ID"); len(name) != 15 {
		t.Errorf("%s has %d bytes", name, len(name))
	}
}

package statefile

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestStateFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.json")
	if value, err := Read[[]string](path); value != nil || err != nil {
		t.Errorf("without a file: %v, %v", value, err)
	}
	for _, want := range []string{"one", "two"} {
		if err := Write(path, []string{want}); err != nil {
			t.Fatal(err)
		}
		if value, err := Read[[]string](path); err != nil || len(value) != 1 || value[0] != want {
			t.Errorf("got %v, %v, want %s", value, err, want)
		}
	}
	if err := Write(path, func() {}); err == nil {
		t.Error("wrote what is no JSON")
	}
	if value, err := Read[[]string](path); err != nil || value[0] != "two" {
		t.Errorf("a write that failed left %v, %v", value, err)
	}
	if err := os.WriteFile(path, []byte(`["tw`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Read[[]string](path); err == nil || !strings.Contains(err.Error(), path+" is damaged") {
		t.Errorf("a damaged file: %v", err)
	}
}

package doctor

import (
	"testing"

	"github.com/causeway-net/causeway/internal/storetest"
)

func TestMain(m *testing.M) { storetest.Main(m) }

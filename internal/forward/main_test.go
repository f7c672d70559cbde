package forward

import (
	"os"
	"testing"

	"github.com/rayje/dnsdock/internal/dnstest"
)

func TestMain(m *testing.M) {
	dnstest.Parallel(8) // they wait for upstreams that are silent
	os.Exit(m.Run())
}

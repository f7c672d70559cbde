package e2e

import (
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rayje/dnsdock/internal/dnstest"
)

// TestFakeEngine runs the program on a fake engine, over each way to reach one.
func TestFakeEngine(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ca := dnstest.NewAuthority(t, dir, "ca.pem")
	until := time.Now().Add(time.Hour)
	cert := ca.Issue(dir, "server.pem", "server-key.pem", "127.0.0.1", until)
	ca.Issue(dir, "cert.pem", "key.pem", "client", until)
	pool := x509.NewCertPool()
	pool.AddCert(ca.Cert)
	mutual := &tls.Config{
		Certificates: []tls.Certificate{cert}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert,
	}
	file := func(name string) string { return filepath.Join(dir, name) }

	for _, c := range []struct {
		what  string
		start func(t *testing.T, e *dnstest.Engine) (args []string)
	}{
		{"unix", func(t *testing.T, e *dnstest.Engine) []string {
			return []string{"-docker=" + e.ServeUnix(t)}
		}},
		{"tcp", func(t *testing.T, e *dnstest.Engine) []string {
			return []string{"-docker=" + e.ServeTCP(t, nil)}
		}},
		{"tls", func(t *testing.T, e *dnstest.Engine) []string {
			return []string{
				"-docker=" + e.ServeTCP(t, mutual.Clone()), "-tlsverify",
				"-tlscacert=" + file("ca.pem"), "-tlscert=" + file("cert.pem"), "-tlskey=" + file("key.pem"),
			}
		}},
	} {
		t.Run(c.what, func(t *testing.T) {
			t.Parallel()
			e := dnstest.NewEngine()
			e.Set("aa", &dnstest.Container{Name: "a", Image: "redis:7", State: "running", Addr: "10.0.0.1"})
			testLifeOfFake(t, e, startDnsdock(t, c.start(t, e)...))
		})
	}
}

// testLifeOfFake has the container aa of an engine die and come back with
// another address, while bb starts and the API changes its name.
func testLifeOfFake(t *testing.T, e *dnstest.Engine, in *instance) {
	want := func(qname, want string) {
		t.Helper()
		got := in.addrs(t, qname)
		slices.Sort(got)
		if strings.Join(got, " ") != want {
			t.Errorf("%s: %v; want %s", qname, got, want)
		}
	}
	in.log.Wait(t, "service added", dnstest.ID("aa"))
	in.ready(t) // before, a name that several containers share is not answered
	want("a.redis.docker", "10.0.0.1")

	in.seen(t, func() { e.Start("bb", "b", "10.0.0.2") }, "service added", dnstest.ID("bb"))
	want("redis.docker", "10.0.0.1 10.0.0.2")
	in.seen(t, func() {
		e.SetState("aa", "exited")
		e.Event("die", dnstest.ID("aa"))
	}, "service removed", dnstest.ID("aa"))
	want("a.redis.docker", "")
	want("b.redis.docker", "10.0.0.2")

	if status, body := in.call(t, "PATCH", "/services/bb00", `{"name":"z"}`); status != http.StatusOK {
		t.Fatalf("PATCH: %d %s", status, body)
	}
	want("z.redis.docker", "10.0.0.2")
	in.seen(t, func() {
		e.Set("aa", &dnstest.Container{Name: "a", Image: "redis:7", State: "running", Addr: "10.0.0.7"})
		e.EndStreams()
	}, "service added", dnstest.ID("aa")) // by the list of the reconnect
	want("a.redis.docker", "10.0.0.7")
	want("z.redis.docker", "10.0.0.2")
}

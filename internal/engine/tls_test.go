package engine

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rayje/dnsdock/internal/dnstest"
)

func TestTLS(t *testing.T) {
	dir := t.TempDir()
	soon := time.Now().Add(time.Hour)
	ca, other := dnstest.NewAuthority(t, dir, "ca.pem"), dnstest.NewAuthority(t, dir, "other.pem")
	good := ca.Issue(dir, "server.pem", "server-key.pem", "127.0.0.1", soon)
	wrongName := ca.Issue(dir, "wrong.pem", "wrong-key.pem", "10.1.2.3", soon)
	expired := ca.Issue(dir, "expired.pem", "expired-key.pem", "127.0.0.1", time.Now().Add(-time.Minute))
	ca.Issue(dir, "cert.pem", "key.pem", "client", soon)
	other.Issue(dir, "stranger.pem", "stranger-key.pem", "client", soon)
	pool := x509.NewCertPool()
	pool.AddCert(ca.Cert)
	server := func(cert tls.Certificate) *tls.Config {
		return &tls.Config{Certificates: []tls.Certificate{cert}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert}
	}
	old := server(good)
	old.MinVersion, old.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
	files := func(ca, cert, key string) *TLSFiles {
		return &TLSFiles{filepath.Join(dir, ca), filepath.Join(dir, cert), filepath.Join(dir, key)}
	}
	mine := files("ca.pem", "cert.pem", "key.pem")

	for _, c := range []struct {
		what   string
		server *tls.Config // nil: plain HTTP
		files  *TLSFiles   // nil: no TLS
		want   string      // part of the error; empty: none
	}{
		{"good", server(good), mine, ""},
		{"plain to plain", nil, nil, ""},
		{"another CA", server(good), files("other.pem", "cert.pem", "key.pem"), "not signed by the CA of -tlscacert"},
		{"wrong name", server(wrongName), mine, "not for the host in -docker"},
		{"expired", server(expired), mine, "expired"},
		{"stranger's client certificate", server(good), files("ca.pem", "stranger.pem", "stranger-key.pem"), "refused TLS or the certificate of -tlscert"},
		{"TLS 1.1", old, mine, "refused TLS"},
		{"TLS to plain HTTP", nil, mine, "leave out -tlsverify"},
		{"plain HTTP to TLS", server(good), nil, "use -tlsverify"},
		{"no such file", server(good), files("none.pem", "cert.pem", "key.pem"), "-tlscacert"},
		{"no certificate", server(good), files("key.pem", "cert.pem", "key.pem"), "-tlscacert"},
		{"key of another", server(good), files("ca.pem", "cert.pem", "server-key.pem"), "-tlskey"},
	} {
		t.Run(c.what, func(t *testing.T) {
			err := get(t, startServer(t, c.server), c.files)
			if got := fmt.Sprint(err); c.want == "" && err != nil || !strings.Contains(got, c.want) {
				t.Errorf("got %v; want %q", err, c.want)
			}
		})
	}
}

// Renewed files need no restart.
func TestRenewedCertificate(t *testing.T) {
	dir := t.TempDir()
	soon := time.Now().Add(time.Hour)
	ca, other := dnstest.NewAuthority(t, dir, "ca.pem"), dnstest.NewAuthority(t, dir, "other.pem")
	pool := x509.NewCertPool()
	pool.AddCert(ca.Cert)
	u := startServer(t, &tls.Config{
		Certificates: []tls.Certificate{ca.Issue(dir, "server.pem", "server-key.pem", "127.0.0.1", soon)},
		ClientCAs:    pool, ClientAuth: tls.RequireAndVerifyClientCert,
	})
	files := &TLSFiles{filepath.Join(dir, "ca.pem"), filepath.Join(dir, "mine.pem"), filepath.Join(dir, "mine-key.pem")}
	other.Issue(dir, "mine.pem", "mine-key.pem", "client", soon)
	if err := get(t, u, files); err == nil {
		t.Error("with a stranger's certificate: no error")
	}
	ca.Issue(dir, "mine.pem", "mine-key.pem", "client", soon)
	if err := get(t, u, files); err != nil {
		t.Errorf("after the renewal: %v", err)
	}
}

// startServer serves 200 on loopback, over TLS where cfg is not nil.
func startServer(t *testing.T, cfg *tls.Config) URL {
	t.Helper()
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	srv.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	if cfg != nil {
		srv.TLS = cfg
		srv.StartTLS()
	} else {
		srv.Start()
	}
	t.Cleanup(srv.Close)
	u, err := ParseURL("tcp://" + srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// get sends a GET as the client of the engine does, and returns its error or
// that of the reply.
func get(t *testing.T, u URL, files *TLSFiles) error {
	t.Helper()
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) { return u.Dial(ctx, files) }
	transport, base := &http.Transport{DialContext: dial, DisableKeepAlives: true}, "http://docker"
	if files != nil {
		transport.DialTLSContext, base = dial, "https://docker"
	}
	resp, err := (&http.Client{Transport: transport}).Get(base)
	if err != nil {
		return Explain(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusOK {
		return nil
	}
	return ReplyError(resp)
}

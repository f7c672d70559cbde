package engine

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
)

// TLSFiles names the PEM files for mutual TLS to an engine.
type TLSFiles struct{ CA, Cert, Key string }

// Config reads the files for a connection to host. They are read for each
// connection, so that renewed files need no restart.
func (f TLSFiles) Config(host string) (*tls.Config, error) {
	pem, err := os.ReadFile(f.CA)
	if err != nil {
		return nil, fmt.Errorf("-tlscacert: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("-tlscacert: %s holds no certificate in PEM", f.CA)
	}
	cert, err := tls.LoadX509KeyPair(f.Cert, f.Key)
	if err != nil {
		return nil, fmt.Errorf("-tlscert, -tlskey: %w", err)
	}
	return &tls.Config{
		MinVersion:   tls.VersionTLS12,
		RootCAs:      roots,
		Certificates: []tls.Certificate{cert},
		ServerName:   host,
	}, nil
}

// Dial connects to the engine, over TLS where files is not nil.
func (u URL) Dial(ctx context.Context, files *TLSFiles) (net.Conn, error) {
	if files == nil {
		c, err := new(net.Dialer).DialContext(ctx, u.Network, u.Addr)
		return c, u.explainDial(err)
	}
	host, _, err := net.SplitHostPort(u.Addr)
	if err != nil {
		return nil, err
	}
	cfg, err := files.Config(host)
	if err != nil {
		return nil, err
	}
	return (&tls.Dialer{Config: cfg}).DialContext(ctx, u.Network, u.Addr)
}

// Explain says which flag or right is wrong where a connection to an engine
// failed for that. It leaves out the URL, which is made up.
func Explain(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		err = u.Err
	}
	if why := reason(err); why != "" {
		return fmt.Errorf("%s: %w", why, err)
	}
	return err
}

// reason returns what Explain puts in front of err, empty for an error that is
// clear by itself.
func reason(err error) string {
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return "the engine's certificate is not signed by the CA of -tlscacert"
	}
	if _, ok := errors.AsType[x509.HostnameError](err); ok {
		return "the engine's certificate is not for the host in -docker"
	}
	if e, ok := errors.AsType[x509.CertificateInvalidError](err); ok && e.Reason == x509.Expired {
		return "the engine's certificate has expired or is not valid yet"
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return "the engine speaks no TLS on this port: leave out -tlsverify"
	}
	_, isAlert := errors.AsType[tls.AlertError](err)
	text := err.Error()
	switch {
	case errors.Is(err, http.ErrSchemeMismatch):
		return "the engine speaks plain HTTP on this port: leave out -tlsverify"
	case isAlert, strings.Contains(text, "remote error: tls:"):
		return "the engine refused TLS or the certificate of -tlscert"
	case strings.Contains(text, "malformed HTTP response \"\\x15\\x03"): // a TLS alert, read as HTTP
		return "the engine speaks TLS on this port: use -tlsverify"
	case errors.Is(err, os.ErrPermission):
		return "run as root, or as a member of the socket's group"
	}
	return ""
}

package config

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/rayje/dnsdock/internal/dnsname"
	"github.com/rayje/dnsdock/internal/engine"
	"github.com/rayje/dnsdock/internal/host"
	"github.com/rayje/dnsdock/internal/hostsfile"
	"github.com/rayje/dnsdock/internal/publish"
	"github.com/rayje/dnsdock/internal/tsig"
)

// A Config is what the command line and the environment say. It is read-only
// after Parse.
type Config struct {
	ShowVersion bool // print the version and end
	CheckHealth bool // ask the program that runs with the same flags, and end

	DNS       []string // addresses to listen on: host:port, where the host is an IP address or empty
	TTL       uint32   // seconds, of the records of containers
	StateFile string   // empty: none
	HostsFile string   // keeps a block of all names; empty: none
	Names     publish.NameRules
	Docker    Docker
	Forward   Forward
	Transfer  Transfer
	HTTP      HTTP
	Log       Log
}

// Docker says which containers are followed.
type Docker struct {
	Engines []Engine
	TLS     *engine.TLSFiles // for the engines on TCP; nil: no TLS
	Labels  []string         // KEY or KEY=VALUE: only containers that have all of them; nil: all containers

	Swarm     bool // tasks have the names of their services
	Published bool // clients on no network of a container reach it by the ports that it publishes
}

// An Engine is a Docker Engine that is followed.
type Engine struct {
	engine.URL
	Domain dnsname.Name // that its containers' names end in; empty: the apex
}

// String returns the engine as -docker takes it, for the log.
func (e Engine) String() string {
	if e.Domain == "" {
		return e.Text
	}
	return e.Text + "=" + dnsname.Text(e.Domain)
}

// Forward says who answers other names, and for whom.
type Forward struct {
	Nameservers map[dnsname.Name][]Nameserver // by domain; the root's are for all other names; a domain may have none
	Allow       []netip.Prefix                // clients beside the local ones
	CacheSize   int64                         // bytes; 0: no cache
	ForceTTL    bool                          // forwarded answers get Config.TTL
}

// Transfer says who gets whole zones.
type Transfer struct {
	Allow   []netip.Prefix   // the clients that may ask for them
	Notify  []netip.AddrPort // those that are told of changes; each is in Allow
	NS      []dnsname.Name   // their names, for NS records
	KeyFile string           // keys for TSIG; empty: none
}

// HTTP says where HTTP is served, and who may change something by it.
type HTTP struct {
	Addr      string // as in Config.DNS, or unix://PATH; empty: no HTTP
	TokenFile string // changes need the token in this file; empty: no token
	ReadOnly  bool   // no changes
	Open      bool   // changes from every address
}

// Log says what is logged, and how.
type Log struct {
	JSON    bool
	Verbose bool // services that come and go too, not only warnings and errors
	Debug   bool // each query too
}

// A draft is a Config while the flags are read, with those values that make
// sense only together.
type draft struct {
	Config
	given       map[string]bool // the names of the flags that were given
	domain      string
	environment string
	compose     bool
	tlsVerify   bool
	tls         engine.TLSFiles
}

// Parse reads the flags in args. Variables of the environment give defaults
// for some of them. Its errors name the flag and the value, and say what to
// write instead. It returns flag.ErrHelp, unchanged, if help is asked for.
func Parse(args []string, getenv func(string) string) (*Config, error) {
	d := &draft{given: make(map[string]bool)}
	fs := newFlagSet(d)
	err := fs.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return nil, err
	case err != nil:
		return nil, fmt.Errorf("%w (dnsdock -help lists the flags)", err)
	case fs.NArg() > 0:
		return nil, fmt.Errorf("%q is no flag: write -flag=value, as in -ttl=30 or -verbose=false", fs.Arg(0))
	case d.ShowVersion:
		return &d.Config, nil // other values don't matter
	}
	if err := d.setDefaults(getenv); err != nil {
		return nil, err
	}
	if err := d.finish(); err != nil {
		return nil, err
	}
	if d.CheckHealth { // needs no file: a file that is bad now does not stop the program that runs
		return &d.Config, nil
	}
	if err := cmp.Or(d.checkRoutes(), d.refuseSelf()); err != nil {
		return nil, err
	}
	return &d.Config, d.readFiles(getenv)
}

// newFlagSet returns a flag set that writes to d.
func newFlagSet(d *draft) *flag.FlagSet {
	fs := flag.NewFlagSet("dnsdock", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	for _, o := range d.options() {
		set := func(value string) error {
			d.given[o.name] = true
			return o.set(value)
		}
		switch {
		case o.set == nil: // package flag knows -help
		case o.isBool():
			fs.BoolFunc(o.name, "", set)
		default:
			fs.Func(o.name, "", set)
		}
	}
	return fs
}

// setDefaults sets each flag that was not given to the value of its variable,
// else to its default.
func (d *draft) setDefaults(getenv func(string) string) error {
	for _, o := range d.options() {
		value, from := o.preset, "flag -"+o.name
		if o.env != "" && getenv(o.env) != "" {
			value, from = getenv(o.env), fmt.Sprintf("variable %s (flag -%s)", o.env, o.name)
			if o.isBool() {
				value = "true" // whatever the variable holds, as Docker's own client does
			}
		}
		if value == "" || d.given[o.name] {
			continue
		}
		if err := o.set(value); err != nil {
			return invalid(value, from, err)
		}
	}
	return nil
}

// finish checks values against each other and makes those that come from several flags.
func (d *draft) finish() (err error) {
	if len(d.DNS) == 0 {
		return invalid("", "flag -dns", errors.New("write an address, as in :53 or 172.17.0.1:53"))
	}
	if len(d.Docker.Engines) == 0 {
		_, err := engine.ParseURL("")
		return invalid("", "flag -docker", err)
	}
	if err := refuseTwice(d.Docker.Engines); err != nil {
		return err
	}
	if d.Names.Apex, err = parseApex(d.environment, d.domain); err != nil {
		return err
	}
	if len(d.Transfer.Allow) == 0 && (len(d.Transfer.NS) > 0 || d.Transfer.KeyFile != "") {
		return errors.New("-transfer-ns and -transfer-key-file are for those that -transfer names: add it," +
			" as in -transfer=192.0.2.53")
	}
	if d.HTTP.Open && (d.HTTP.ReadOnly || d.HTTP.TokenFile != "") {
		return errors.New("-http-open lets everyone change services, -http-readonly and -http-token-file do not:" +
			" write one of the three")
	}
	if !d.compose {
		d.Names.Second.Compose = false
	}
	if d.given["alias-domain"] && d.Names.AliasDomains == nil {
		d.Names.AliasDomains = []dnsname.Name{} // none, where nil would be all
	}
	d.Names.Networks, d.Names.Host = publish.Dedup(d.Names.Networks), publish.Dedup(d.Names.Host)
	return nil
}

// readFiles reads the files that flags name, so that a wrong path is noticed at the start.
func (d *draft) readFiles(getenv func(string) string) error {
	if err := checkNameserverFiles(d.Forward.Nameservers); err != nil {
		return err
	}
	if d.HTTP.TokenFile != "" {
		if _, err := host.ReadToken(d.HTTP.TokenFile); err != nil {
			return invalid(d.HTTP.TokenFile, "flag -http-token-file", err)
		}
	}
	if d.HostsFile != "" {
		if err := hostsfile.Check(d.HostsFile); err != nil {
			err = fmt.Errorf("%w: write the path of a file that exists, as in /etc/hosts", err)
			return invalid(d.HostsFile, "flag -hosts", err)
		}
	}
	if d.Transfer.KeyFile != "" {
		if _, err := tsig.ReadFile(d.Transfer.KeyFile); err != nil {
			return invalid(d.Transfer.KeyFile, "flag -transfer-key-file", err)
		}
	}
	if !d.tlsVerify || !slices.ContainsFunc(d.Docker.Engines, func(e Engine) bool { return e.Network == "tcp" }) {
		return nil
	}
	dir := cmp.Or(getenv("DOCKER_CERTS"), getenv("DOCKER_CERT_PATH"), filepath.Join(getenv("HOME"), ".docker"))
	d.tls.CA = cmp.Or(d.tls.CA, filepath.Join(dir, "ca.pem"))
	d.tls.Cert = cmp.Or(d.tls.Cert, filepath.Join(dir, "cert.pem"))
	d.tls.Key = cmp.Or(d.tls.Key, filepath.Join(dir, "key.pem"))
	if _, err := d.tls.Config(""); err != nil {
		return fmt.Errorf("%w: write the path of a PEM file, or leave out -tlsverify and DOCKER_TLS_VERIFY", err)
	}
	d.Docker.TLS = &d.tls
	return nil
}

func invalid(value, from string, err error) error {
	return fmt.Errorf("invalid value %q for %s: %w", value, from, err)
}

// EngineDomains returns the domains that single engines have.
func (c *Config) EngineDomains() (domains []dnsname.Name) {
	for _, e := range c.Docker.Engines {
		if e.Domain != "" {
			domains = append(domains, e.Domain)
		}
	}
	return domains
}

// FirstDNS returns the first IP address of -dns that is not all of them. It is not valid if there is none.
func (c *Config) FirstDNS() netip.Addr {
	for _, addr := range c.DNS {
		if a, err := netip.ParseAddrPort(addr); err == nil && !a.Addr().IsUnspecified() {
			return a.Addr().Unmap()
		}
	}
	return netip.Addr{}
}

// OwnAddr returns the value of -dns at which dnsdock itself answers a, empty
// if there is none.
func (c *Config) OwnAddr(a netip.AddrPort) string {
	for _, addr := range c.DNS {
		text, port, _ := net.SplitHostPort(addr)                 // no error: parseListen made it
		if !a.IsValid() || port != strconv.Itoa(int(a.Port())) { // a file of nameservers has no address
			continue
		}
		ip, err := netip.ParseAddr(text)
		anywhere := err != nil || ip.IsUnspecified() && ip.Is4() == a.Addr().Is4()
		if anywhere && host.HasAddr(a.Addr()) || ip == a.Addr() {
			return addr
		}
	}
	return ""
}

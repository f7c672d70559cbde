package config

import (
	"net/netip"

	"github.com/rayje/dnsdock/internal/dnsname"
	"github.com/rayje/dnsdock/internal/publish"
)

// An option is one flag: how it is read, and what the usage and the manual
// say about it.
type option struct {
	section  string // heading in the usage; empty: that of the option before
	name     string
	argument string // what to write behind '='; empty for a flag that is true or false
	preset   string // the default, as one would write it
	env      string // variable that is used where the flag is not given
	many     bool   // may be given more than once
	help     string // code is between backquotes
	set      setter // nil for what only the usage and the manual have: another form of a flag, and -help
}

func (o option) isBool() bool { return o.argument == "" }

// options are all flags, in the order of the usage and the manual.
var options = []option{
	{
		section: "DNS", name: "dns", argument: "ADDR,...", preset: ":53", many: true,
		help: "listen for DNS, UDP and TCP, on these addresses",
		set:  list(func(d *draft) *[]string { return &d.DNS }, parseListen),
	}, {
		name: "domain", argument: "NAME", preset: "docker",
		help: "domain that all names end in; it may have several labels",
		set:  value(func(d *draft) *string { return &d.domain }, verbatim),
	}, {
		name: "environment", argument: "NAME",
		help: "labels before the domain: `-environment=dev` makes `redis.dev.docker`",
		set:  value(func(d *draft) *string { return &d.environment }, verbatim),
	}, {
		name: "ttl", argument: "SECONDS", preset: "0",
		help: "TTL of the records of containers",
		set:  value(func(d *draft) *uint32 { return &d.TTL }, publish.ParseTTL),
	}, {
		name: "alias",
		help: "each container is also `<container-name>.<domain>`",
		set:  value(func(d *draft) *bool { return &d.Names.Alias }, parseBool),
	}, {
		name: "all",
		help: "publish containers that exist but do not run too; a stopped container keeps its last address",
		set:  value(func(d *draft) *bool { return &d.Names.All }, parseBool),
	}, {
		name: "match", argument: "RULE", preset: "all",
		help: "`all`: a query is answered by all names that it fits, below and above it;" +
			" `closest`: by the closest name only",
		set: value(func(d *draft) *bool { return &d.Names.Closest }, choice("closest", "all")),
	}, {
		name: "alias-domain", argument: "DOMAIN,...", many: true,
		help: "containers may have aliases outside of the domain only at or below these; `-alias-domain=`: none;" +
			" without it, anything that is no public suffix as `com` or `co.uk`",
		set: list(func(d *draft) *[]dnsname.Name { return &d.Names.AliasDomains }, parseDomain),
	}, {
		name: "names", argument: "KIND,...", preset: "compose,hostname,alias,id,hyphen,host", many: true,
		help: "which second names containers have; `-names=`: none",
		set:  addSecondNames,
	}, {
		name: "compose", preset: "true",
		help: "`-compose=false`: as `-names` without `compose`",
		set:  value(func(d *draft) *bool { return &d.compose }, parseBool),
	}, {
		name: "health", preset: "true",
		help: "unhealthy containers leave the answer while there are others; `-health=false`: they stay",
		set:  value(func(d *draft) *bool { return &d.Names.Health }, parseBool),
	}, {
		section: "Other names", name: "nameserver", argument: "ADDR,...", preset: "8.8.8.8:53", many: true,
		help: "nameservers for other names, in this order: `IP`, `IP:PORT`, `tcp://IP:PORT`, " +
			"`tls://IP:PORT#NAME` for DNS over TLS, or a path as `/etc/resolv.conf`, a file that names some and" +
			" is followed when it changes; `-nameserver=`: none, other names are REFUSED",
		set: addNameservers,
	}, {
		name: "nameserver", argument: "DOMAIN=ADDR,...", many: true,
		help: "nameservers for a domain and all names below it, as in `-nameserver=corp.example=10.0.0.53`;" +
			" the longest domain wins; `-nameserver=blocked.test=`: none",
	}, {
		name: "allow", argument: "CIDR,...", many: true,
		help: "forward for these clients too, as in `203.0.113.0/24`; without it for local ones only",
		set:  list(func(d *draft) *[]netip.Prefix { return &d.Forward.Allow }, parseCIDR),
	}, {
		name: "cache", argument: "SIZE", preset: "16MB",
		help: "memory for what nameservers answer, in bytes, `KB`, `MB` or `GB`; `-cache=0`: nothing is kept",
		set:  value(func(d *draft) *int64 { return &d.Forward.CacheSize }, parseSize),
	}, {
		name: "forcettl",
		help: "forwarded answers get `-ttl` as their TTL",
		set:  value(func(d *draft) *bool { return &d.Forward.ForceTTL }, parseBool),
	}, {
		section: "Docker", name: "docker", argument: "URL,...", many: true,
		preset: "unix:///var/run/docker.sock", env: "DOCKER_HOST",
		help: "the engines: `unix://PATH` or `tcp://HOST:PORT`; `URL=DOMAIN` gives one a domain of its own",
		set:  splitList(splitURLs, func(d *draft) *[]Engine { return &d.Docker.Engines }, parseEngine),
	}, {
		name: "filter", argument: "label=KEY", many: true,
		help: "publish only containers that have this label, also as `label=KEY=VALUE`; several filters must all fit",
		set:  addFilter,
	}, {
		name: "network", argument: "NAME,...", many: true,
		help: "answer the addresses on these networks only, in this order; without it on all," +
			" the network of the default gateway first",
		set: list(func(d *draft) *[]string { return &d.Names.Networks }, publish.ParseNetwork),
	}, {
		name: "host-address", argument: "ADDR,...", many: true,
		help: "the host's addresses, for containers of `--net=host`; without it the address that the client asked",
		set:  list(func(d *draft) *[]netip.Addr { return &d.Names.Host }, publish.ParseAddr),
	}, {
		name: "tlsverify", env: "DOCKER_TLS_VERIFY",
		help: "mutual TLS to the engines on TCP",
		set:  value(func(d *draft) *bool { return &d.tlsVerify }, parseBool),
	}, {
		name: "tlscacert", argument: "FILE",
		help: "CA certificate; without it `ca.pem` in `$DOCKER_CERTS`," +
			" else in `$DOCKER_CERT_PATH`, else in `$HOME/.docker`",
		set: value(func(d *draft) *string { return &d.tls.CA }, verbatim),
	}, {
		name: "tlscert", argument: "FILE",
		help: "client certificate; without it `cert.pem` in that directory",
		set:  value(func(d *draft) *string { return &d.tls.Cert }, verbatim),
	}, {
		name: "tlskey", argument: "FILE",
		help: "client key; without it `key.pem` in that directory",
		set:  value(func(d *draft) *string { return &d.tls.Key }, verbatim),
	}, {
		section: "HTTP", name: "http", argument: "ADDR", preset: ":80",
		help: "listen for HTTP, the page and the API, on this address or on a socket," +
			" as in `unix:///run/dnsdock/api.sock`; `-http=`: no HTTP",
		set: value(func(d *draft) *string { return &d.HTTP.Addr }, parseHTTP),
	}, {
		name: "http-token-file", argument: "FILE",
		help: "changes by HTTP need the token in this file",
		set:  value(func(d *draft) *string { return &d.HTTP.TokenFile }, verbatim),
	}, {
		name: "http-open",
		help: "whoever reaches HTTP may change services; without it this machine only, or with the token",
		set:  value(func(d *draft) *bool { return &d.HTTP.Open }, parseBool),
	}, {
		name: "http-readonly",
		help: "nothing can be changed by HTTP",
		set:  value(func(d *draft) *bool { return &d.HTTP.ReadOnly }, parseBool),
	}, {
		name: "state", argument: "FILE",
		help: "keep what is changed by HTTP in this file; without it until the end",
		set:  value(func(d *draft) *string { return &d.StateFile }, verbatim),
	}, {
		section: "The rest", name: "log", argument: "FORMAT", preset: "text",
		help: "`text`, or `json`: each line of the log is JSON",
		set:  value(func(d *draft) *bool { return &d.Log.JSON }, choice("json", "text")),
	}, {
		name: "verbose", preset: "true",
		help: "log services that come and go; `-verbose=false`: warnings and errors only",
		set:  value(func(d *draft) *bool { return &d.Log.Verbose }, parseBool),
	}, {
		name: "debug",
		help: "log each query too",
		set:  value(func(d *draft) *bool { return &d.Log.Debug }, parseBool),
	}, {
		name: "healthcheck",
		help: "ask the dnsdock that runs with the same flags whether it serves, and exit with 0 or 1",
		set:  value(func(d *draft) *bool { return &d.CheckHealth }, parseBool),
	}, {
		name: "version",
		help: "print the version",
		set:  value(func(d *draft) *bool { return &d.ShowVersion }, parseBool),
	}, {
		name: "help",
		help: "print this list",
	},
}

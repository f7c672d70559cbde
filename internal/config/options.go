package config

import "github.com/rayje/dnsdock/internal/publish"

// An option is one flag: how it is read, and what the usage and the manual
// say about it.
type option struct {
	name     string
	argument string             // what to write behind '='; empty for a flag that is true or false
	preset   string             // the default, as one would write it
	env      string             // variable that is used where the flag is not given
	many     bool               // may be given more than once
	set      func(string) error // nil for -help, and for a second form of a flag: only the usage has them
	help     string             // code is between backquotes
}

func (o option) isBool() bool { return o.argument == "" }

// A section is a part of the usage and of the manual.
type section struct {
	title   string
	options []option
}

// sections returns all flags, which write to d.
func (d *draft) sections() []section {
	return []section{
		{"DNS", d.dnsOptions()}, {"Names", d.nameOptions()}, {"Other names", d.forwardOptions()},
		{"Zone transfer", d.transferOptions()},
		{"Docker", d.dockerOptions()}, {"HTTP", d.httpOptions()}, {"The rest", d.otherOptions()},
	}
}

// options returns all flags, which write to d.
func (d *draft) options() (list []option) {
	for _, s := range d.sections() {
		list = append(list, s.options...)
	}
	return list
}

func (d *draft) dnsOptions() []option {
	return []option{
		{name: "dns", argument: "ADDR,...", preset: ":53", many: true, set: list(&d.DNS, parseListen),
			help: "listen for DNS, UDP and TCP, on these addresses"},
		{name: "ttl", argument: "SECONDS", preset: "0", set: value(&d.TTL, publish.ParseTTL),
			help: "TTL of the records of containers"},
		{name: "match", argument: "RULE", preset: "all", set: value(&d.Names.Closest, choice("closest", "all")),
			help: "`all`: a query is answered by all names that it fits, below and above it;" +
				" `closest`: by the closest name only"},
		{name: "health", preset: "true", set: value(&d.Names.Health, parseBool),
			help: "unhealthy containers leave the answer while there are others; `-health=false`: they stay"},
		{name: "host-address", argument: "ADDR,...", many: true, set: list(&d.Names.Host, publish.ParseAddr),
			help: "the host's addresses, for containers of `--net=host`; without it the address that the client asked"},
	}
}

func (d *draft) nameOptions() []option {
	return []option{
		{name: "domain", argument: "NAME", preset: "docker", set: value(&d.domain, verbatim),
			help: "domain that all names end in; it may have several labels"},
		{name: "environment", argument: "NAME", set: value(&d.environment, verbatim),
			help: "labels before the domain: `-environment=dev` makes `redis.dev.docker`"},
		{name: "alias", set: value(&d.Names.Alias, parseBool),
			help: "each container is also `<container-name>.<domain>`"},
		{name: "alias-domain", argument: "DOMAIN,...", many: true, set: list(&d.Names.AliasDomains, parseDomain),
			help: "containers may have aliases outside of the domain only at or below these; `-alias-domain=`: none;" +
				" without it, anything that is no public suffix as `com` or `co.uk`"},
		{name: "names", argument: "KIND,...", many: true, preset: "compose,hostname,alias,id,hyphen,host",
			set: d.addSecondNames, help: "which second names containers have; `-names=`: none"},
		{name: "compose", preset: "true", set: value(&d.compose, parseBool),
			help: "`-compose=false`: as `-names` without `compose`"},
	}
}

func (d *draft) forwardOptions() []option {
	return []option{
		{name: "nameserver", argument: "ADDR,...", preset: "8.8.8.8:53", many: true, set: d.addNameservers,
			help: "nameservers for other names, in this order: `IP`, `IP:PORT`, `tcp://IP:PORT`," +
				" `tls://IP:PORT#NAME` for DNS over TLS, or a path as `/etc/resolv.conf`, a file that names some and" +
				" is followed when it changes; `-nameserver=`: none, other names are REFUSED"},
		{name: "nameserver", argument: "DOMAIN=ADDR,...", many: true,
			help: "nameservers for a domain and all names below it, as in `-nameserver=corp.example=10.0.0.53`;" +
				" the longest domain wins; `-nameserver=blocked.test=`: none"},
		{name: "allow", argument: "CIDR,...", many: true, set: list(&d.Forward.Allow, parseCIDR),
			help: "forward for these clients too, as in `203.0.113.0/24`; without it for local ones only"},
		{name: "cache", argument: "SIZE", preset: "16MB", set: value(&d.Forward.CacheSize, parseSize),
			help: "memory for what nameservers answer, in bytes, `KB`, `MB` or `GB`; `-cache=0`: nothing is kept"},
		{name: "forcettl", set: value(&d.Forward.ForceTTL, parseBool),
			help: "forwarded answers get `-ttl` as their TTL"},
	}
}

func (d *draft) transferOptions() []option {
	return []option{
		{name: "transfer", argument: "ADDR,...", many: true, set: d.addSecondaries,
			help: "these may transfer the domain, by AXFR and IXFR: `IP`, `IP:PORT` or a `CIDR`;" +
				" an IP is also sent NOTIFY when something changes; without it nobody"},
		{name: "transfer-ns", argument: "NAME,...", many: true, set: list(&d.Transfer.NS, parseServerName),
			help: "further nameservers of the domain, for its NS records"},
		{name: "transfer-key-file", argument: "FILE", set: value(&d.Transfer.KeyFile, verbatim),
			help: "transfers need one of the TSIG keys in this file, which `tsig-keygen` makes;" +
				" replies and NOTIFY are signed"},
	}
}

func (d *draft) dockerOptions() []option {
	return []option{
		{name: "docker", argument: "URL,...", preset: "unix:///var/run/docker.sock", env: "DOCKER_HOST", many: true,
			set:  splitList(splitURLs, &d.Docker.Engines, parseEngine),
			help: "the engines: `unix://PATH` or `tcp://HOST:PORT`; `URL=DOMAIN` gives one a domain of its own"},
		{name: "all", set: value(&d.Names.All, parseBool),
			help: "publish containers that exist but do not run too; a stopped container keeps its last address"},
		{name: "filter", argument: "label=KEY", many: true, set: d.addFilter,
			help: "publish only containers that have this label, also as `label=KEY=VALUE`;" +
				" several filters must all fit"},
		{name: "network", argument: "NAME,...", many: true, set: list(&d.Names.Networks, publish.ParseNetwork),
			help: "answer the addresses on these networks only, in this order; without it on all," +
				" the network of the default gateway first"},
		{name: "published", set: value(&d.Docker.Published, parseBool),
			help: "clients on no network of a container that publishes ports get the host's address," +
				" and in SRV the published ports; for clients on the LAN, and under Docker Desktop"},
		{name: "swarm", preset: "true", set: value(&d.Docker.Swarm, parseBool),
			help: "`-swarm=false`: tasks of a swarm are containers as others are, and the swarm is not asked"},
		{name: "tlsverify", env: "DOCKER_TLS_VERIFY", set: value(&d.tlsVerify, parseBool),
			help: "mutual TLS to the engines on TCP"},
		{name: "tlscacert", argument: "FILE", set: value(&d.tls.CA, verbatim),
			help: "CA certificate; without it `ca.pem` in `$DOCKER_CERTS`," +
				" else in `$DOCKER_CERT_PATH`, else in `$HOME/.docker`"},
		{name: "tlscert", argument: "FILE", set: value(&d.tls.Cert, verbatim),
			help: "client certificate; without it `cert.pem` in that directory"},
		{name: "tlskey", argument: "FILE", set: value(&d.tls.Key, verbatim),
			help: "client key; without it `key.pem` in that directory"},
	}
}

func (d *draft) httpOptions() []option {
	return []option{
		{name: "http", argument: "ADDR", preset: ":80", set: value(&d.HTTP.Addr, parseHTTP),
			help: "listen for HTTP, the page and the API, on this address or on a socket," +
				" as in `unix:///run/dnsdock/api.sock`; `-http=`: no HTTP"},
		{name: "http-token-file", argument: "FILE", set: value(&d.HTTP.TokenFile, verbatim),
			help: "changes by HTTP need the token in this file"},
		{name: "http-open", set: value(&d.HTTP.Open, parseBool),
			help: "whoever reaches HTTP may change services; without it this machine only, or with the token"},
		{name: "http-readonly", set: value(&d.HTTP.ReadOnly, parseBool),
			help: "nothing can be changed by HTTP"},
		{name: "state", argument: "FILE", set: value(&d.StateFile, verbatim),
			help: "keep what is changed by HTTP in this file; without it until the end"},
	}
}

func (d *draft) otherOptions() []option {
	return []option{
		{name: "hosts", argument: "FILE", set: value(&d.HostsFile, verbatim),
			help: "keep all names with their addresses in this file, as in `/etc/hosts`, in a block that is removed" +
				" at the end; the rest of the file stays as it is"},
		{name: "log", argument: "FORMAT", preset: "text", set: value(&d.Log.JSON, choice("json", "text")),
			help: "`text`, or `json`: each line of the log is JSON"},
		{name: "verbose", preset: "true", set: value(&d.Log.Verbose, parseBool),
			help: "log services that come and go; `-verbose=false`: warnings and errors only"},
		{name: "debug", set: value(&d.Log.Debug, parseBool), help: "log each query too"},
		{name: "healthcheck", set: value(&d.CheckHealth, parseBool),
			help: "ask the dnsdock that runs with the same flags whether it serves, and exit with 0 or 1"},
		{name: "version", set: value(&d.ShowVersion, parseBool), help: "print the version"},
		{name: "help", help: "print this list"},
	}
}

package publish

// SecondNames chooses which names that a container has anyway are answered
// too, where no name by the rule matches.
type SecondNames struct {
	Compose  bool // <number>.<service>.<project>.<apex>
	Hostname bool // docker run --hostname, and --domainname
	Alias    bool // network aliases
	ID       bool // the first 12 digits of the ID
	Hyphen   bool // names with '-' where Compose's or the container's have '_'
	Host     bool // host.<apex>, the host
}

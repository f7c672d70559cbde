package servicejson

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"

	"github.com/rayje/dnsdock/internal/dnsname"
	"github.com/rayje/dnsdock/internal/publish"
)

// ReadService reads a whole service, as PUT sends it, and fills in the defaults of what it does not
// set. It refuses a service without name and image unless mayBeNameless is set: a container may
// publish neither, and PUT takes what GET gave.
func ReadService(data []byte, mayBeNameless bool) (publish.Patch, error) {
	p, err := ReadPatch(data)
	switch {
	case err != nil:
	case p.Name == nil:
		err = errors.New(`property "name" is missing: write the container part, as in "name": "foo"`)
	case p.Image == nil:
		err = errors.New(`property "image" is missing: write the image part, as in "image": "bar"`)
	case *p.Name == "" && *p.Image == "" && !mayBeNameless:
		err = errors.New(`properties "name" and "image" are both empty: write one of them, as in "name": "foo"`)
	case len(p.Addrs) == 0 && (p.CNAME == nil || *p.CNAME == ""):
		err = errors.New(`property "ip" is missing: write an address, as in "ip": "192.168.0.3", or a "cname"`)
	}
	if err != nil {
		return publish.Patch{}, err
	}
	defaults := publish.Patch{
		CNAME:   new(dnsname.Name),
		TXT:     &[]string{},
		Ports:   &[]publish.Port{},
		TTL:     new(publish.DefaultTTL),
		Aliases: &[]dnsname.Name{},
	}
	return defaults.Over(p), nil
}

// ReadPatch reads a JSON object of properties, whose names may be in any letter case.
func ReadPatch(data []byte) (publish.Patch, error) {
	properties, err := readObject(data)
	if err != nil {
		return publish.Patch{}, err
	}
	var p publish.Patch
	for _, k := range publish.SortedKeys(properties) {
		if err := setProperty(&p, k, properties[k]); err != nil {
			return publish.Patch{}, fmt.Errorf("property %q: %w", k, err)
		}
	}
	switch hasCNAME := p.CNAME != nil && *p.CNAME != ""; {
	case hasCNAME && len(p.Addrs) > 0:
		err = errors.New(`properties "cname" and "ip" can't be both: write only one of the two`)
	case !hasCNAME && p.Addrs != nil && len(p.Addrs) == 0:
		err = errors.New(`property "ip": write at least one address, as in "192.168.0.3", or a "cname" instead`)
	}
	return p, err
}

var errNoObject = errors.New(`body is no JSON object: ` +
	`write one, as in {"name": "foo", "image": "bar", "ip": "192.168.0.3"}`)

// readObject reads data as one JSON object and returns its properties by their lower-case names. It refuses a property
// that is there twice, in whichever letter case: package json would take the last one, other programs the first.
func readObject(data []byte) (map[string]json.RawMessage, error) {
	d := json.NewDecoder(bytes.NewReader(data))
	if start, err := d.Token(); err != nil || start != json.Delim('{') {
		return nil, errNoObject
	}
	properties := make(map[string]json.RawMessage)
	twice := ""
	for d.More() {
		key, err := d.Token()
		var value json.RawMessage
		if err != nil || d.Decode(&value) != nil {
			return nil, errNoObject
		}
		k := strings.ToLower(key.(string)) // package json gives a string wherever a key may stand
		if k == "alias" {
			k = "aliases"
		}
		if _, ok := properties[k]; ok {
			twice = k
		}
		properties[k] = value
	}
	_, errClose := d.Token()
	if _, err := d.Token(); errClose != nil || err != io.EOF {
		return nil, errNoObject
	}
	if twice != "" {
		return nil, fmt.Errorf("property %q is there twice: write it once", twice)
	}
	return properties, nil
}

// setProperty sets the property k, a lower-case name. "ip" must be set before "ips".
func setProperty(p *publish.Patch, k string, value json.RawMessage) (err error) {
	switch k {
	case "name":
		p.Name, err = readPart(value)
	case "image":
		p.Image, err = readPart(value)
	case "ip":
		p.Addrs, err = readAddrs(value)
	case "ips":
		given := p.Addrs
		missing := func(a netip.Addr) bool { return !slices.Contains(p.Addrs, a) }
		if p.Addrs, err = readAddrs(value); err == nil && slices.ContainsFunc(given, missing) {
			err = errors.New(`"ip" is not one of them: write only one of the two`)
		}
	case "cname":
		p.CNAME, err = readTarget(value)
	case "txt":
		p.TXT, err = readTXT(value)
	case "ports":
		p.Ports, err = readPorts(value)
	case "ttl":
		p.TTL, err = readTTL(value)
	case "aliases":
		p.Aliases, err = readAliases(value)
	case "names", "second_names", "unicode", "origin", "state", "since", "settings", "problems":
		// They are read-only: PUT takes what GET gave.
	default:
		err = errors.New("unknown: write name, image, ip, ips, cname, txt, ports, ttl or aliases")
	}
	return err
}

func readPart(value json.RawMessage) (*string, error) {
	var s *string
	if err := json.Unmarshal(value, &s); err != nil || s == nil {
		return nil, errors.New(`write a string, as in "foo"`)
	}
	*s = strings.TrimSpace(*s)
	_, err := dnsname.LabelsFromText(*s)
	return s, err
}

func readTTL(value json.RawMessage) (*int, error) {
	var n *int
	if err := json.Unmarshal(value, &n); err != nil || n == nil || *n < publish.DefaultTTL || *n > publish.MaxTTL {
		return nil, fmt.Errorf("write seconds from 0 to %d, or -1 for the default", publish.MaxTTL)
	}
	return n, nil
}

// readAddrs reads a string of addresses with commas between, or a list of strings. "host" stands
// for the host's address.
func readAddrs(value json.RawMessage) ([]netip.Addr, error) {
	parse := func(s string) (netip.Addr, error) {
		if s == "host" {
			return netip.Addr{}, nil
		}
		return publish.ParseAddr(s)
	}
	return readItems(value, `"192.168.0.3"`, parse, func(netip.Addr) int { return publish.AddrCost })
}

// readTarget reads the name that a CNAME points to. An empty string removes the CNAME.
func readTarget(value json.RawMessage) (*dnsname.Name, error) {
	var s *string
	if err := json.Unmarshal(value, &s); err != nil || s == nil {
		return nil, errors.New(`write a name, as in "www.example.com", or ""`)
	}
	if strings.TrimSpace(*s) == "" {
		return new(dnsname.Name), nil
	}
	target, err := dnsname.ParseTarget(*s)
	return &target, err
}

// readTXT reads one string, which may hold commas, or a list of strings.
func readTXT(value json.RawMessage) (*[]string, error) {
	list, _, err := readTexts(value)
	if err != nil {
		return nil, fmt.Errorf(`%w, as in "v=spf1 -all"`, err)
	}
	list, err = publish.ParseTXT(list)
	return &list, err
}

func readPorts(value json.RawMessage) (*[]publish.Port, error) {
	cost := func(publish.Port) int { return publish.MaxItems / publish.MaxPorts }
	ports, err := readItems(value, `["80/tcp=http"]`, publish.ParsePort, cost)
	if errors.Is(err, publish.ErrTooMany) {
		err = publish.ErrPorts
	}
	slices.SortStableFunc(ports, publish.Port.Compare)
	return &ports, err
}

func readAliases(value json.RawMessage) (*[]dnsname.Name, error) {
	aliases, err := readItems(value, `["db.docker"]`, dnsname.ParseAlias, dnsname.Name.Labels)
	return &aliases, err
}

// readItems reads a list as readStrings does, each item by parse, and removes duplicates. The sum
// of the items' costs may be publish.MaxItems at most.
func readItems[T comparable](
	value json.RawMessage, example string, parse func(string) (T, error), cost func(T) int,
) ([]T, error) {
	list, err := readStrings(value)
	if err != nil {
		return nil, fmt.Errorf("%w, as in %s", err, example)
	}
	items := make([]T, 0, len(list))
	for _, s := range list {
		item, err := parse(s)
		if err != nil {
			return nil, fmt.Errorf("%.100q: %w", s, err)
		}
		items = append(items, item)
	}
	items = publish.Dedup(items)
	left := publish.MaxItems
	for _, item := range items {
		if left -= cost(item); left < 0 {
			return nil, publish.ErrTooMany
		}
	}
	return items, nil
}

// readStrings reads a string of items with commas, spaces or newlines between, or a list of
// strings. Empty items are left out.
func readStrings(value json.RawMessage) ([]string, error) {
	list, isList, err := readTexts(value)
	if err == nil && !isList {
		list = dnsname.SplitList(list[0])
	}
	for i := range list {
		list[i] = strings.TrimSpace(list[i])
	}
	return slices.DeleteFunc(list, func(s string) bool { return s == "" }), err
}

// readTexts reads a string or a list of strings.
func readTexts(value json.RawMessage) (list []string, isList bool, err error) {
	var s *string
	var items []*string // pointers tell null from ""
	if json.Unmarshal(value, &s) == nil && s != nil {
		return []string{*s}, false, nil
	}
	if err := json.Unmarshal(value, &items); err != nil || items == nil || slices.Contains(items, nil) {
		return nil, false, errors.New("write a string or a list of strings")
	}
	for _, item := range items {
		list = append(list, *item)
	}
	return list, true, nil
}

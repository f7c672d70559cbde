package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/rayje/dnsdock/internal/dnsname"
	"github.com/rayje/dnsdock/internal/engine"
	"github.com/rayje/dnsdock/internal/publish"
)

// value returns a setter of a flag with a single value, which it writes to dst.
func value[T any](dst *T, parse func(string) (T, error)) func(string) error {
	return func(text string) (err error) {
		*dst, err = parse(text)
		return err
	}
}

// list returns a setter of a flag whose values have commas or spaces between
// them. It appends them to dst.
func list[T any](dst *[]T, parse func(string) (T, error)) func(string) error {
	return splitList(dnsname.SplitList, dst, parse)
}

// splitList is list with another way to split the values.
func splitList[T any](split func(string) []string, dst *[]T, parse func(string) (T, error)) func(string) error {
	return func(text string) error {
		for _, item := range split(text) {
			if item = strings.TrimSpace(item); item == "" {
				continue
			}
			v, err := parse(item)
			if err != nil {
				return err
			}
			*dst = append(*dst, v)
		}
		return nil
	}
}

// choice returns a parser of two words, which reports whether it read yes.
func choice(yes, no string) func(string) (bool, error) {
	return func(text string) (bool, error) {
		if text != yes && text != no {
			return false, fmt.Errorf("write %s or %s", no, yes)
		}
		return text == yes, nil
	}
}

func parseBool(text string) (bool, error) {
	b, err := strconv.ParseBool(text)
	if err != nil {
		return false, errors.New("write true or false")
	}
	return b, nil
}

func verbatim(text string) (string, error) { return text, nil }

// parseListen reads an address to listen on, and returns it in its canonical form.
func parseListen(text string) (string, error) {
	ip, port, err := net.SplitHostPort(text)
	if ip == "localhost" {
		ip = "127.0.0.1"
	}
	if err == nil && ip != "" {
		var a netip.Addr
		a, err = netip.ParseAddr(ip)
		ip = a.Unmap().String()
	}
	n, portErr := strconv.ParseUint(port, 10, 16)
	if err != nil || portErr != nil {
		return "", errors.New("write ADDRESS:PORT or :PORT, as in 172.17.0.1:53, [::1]:53 or :53")
	}
	return net.JoinHostPort(ip, strconv.FormatUint(n, 10)), nil
}

// maxSocketPath is the longest path of a socket on all systems, unix(7); macOS allows the least.
const maxSocketPath = 103

// parseHTTP reads an address to listen on or unix:// and an absolute path.
// The empty text, for no HTTP, stays empty.
func parseHTTP(text string) (string, error) {
	if !strings.HasPrefix(text, "unix:") {
		if text == "" {
			return "", nil
		}
		return parseListen(text)
	}
	file, ok := strings.CutPrefix(text, "unix://")
	if !ok || !filepath.IsAbs(file) || len(file) > maxSocketPath || strings.HasSuffix(file, "/") {
		return "", fmt.Errorf("write unix:// and an absolute path of at most %d bytes,"+
			" as in unix:///run/dnsdock/api.sock", maxSocketPath)
	}
	return text, nil
}

// maxCache bounds -cache: more is a slip of the pen.
const maxCache = 16 << 30 // bytes

// parseSize reads a number of bytes, with or without a unit.
func parseSize(text string) (int64, error) {
	number, shift := strings.ToUpper(text), 0
	for i, unit := range []string{"K", "M", "G"} {
		for _, end := range []string{"", "B", "IB"} {
			if bare, ok := strings.CutSuffix(number, unit+end); ok {
				number, shift = bare, 10*(i+1)
			}
		}
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n < 0 || n > maxCache>>shift {
		return 0, errors.New("write a size, as in 16MB, 512KB or 0, of 16GB at most")
	}
	return n << shift, nil
}

// parseCIDR reads a range of addresses, or a single address.
func parseCIDR(text string) (netip.Prefix, error) {
	if a, err := publish.ParseAddr(text); err == nil {
		return a.Prefix(a.BitLen())
	}
	p, err := netip.ParsePrefix(text)
	if err != nil || p.Addr().Is4In6() {
		return p, errors.New("write a CIDR or an address, as in 203.0.113.0/24 or 2001:db8::7")
	}
	return p.Masked(), nil
}

// splitURLs splits at the commas before a URL: the path of a socket may hold commas too.
func splitURLs(text string) (urls []string) {
	for item := range strings.SplitSeq(text, ",") {
		if last := len(urls) - 1; last >= 0 && item != "" && !strings.Contains(item, "://") {
			urls[last] += "," + item
		} else {
			urls = append(urls, item)
		}
	}
	return urls
}

// parseEngine reads URL or URL=DOMAIN. A path may hold '=' too.
func parseEngine(text string) (e Engine, err error) {
	if at := strings.LastIndexByte(text, '='); at >= 0 && !strings.Contains(text[at:], "/") {
		if e.Domain, err = parseDomain(text[at+1:]); err != nil {
			return e, err
		}
		text = text[:at]
	}
	e.URL, err = engine.ParseURL(text)
	return e, err
}

// refuseTwice returns an error if two of the engines are the same.
func refuseTwice(engines []Engine) error {
	seen := make(map[string]bool)
	for _, e := range engines {
		at := e.Network + " " + e.Addr
		if seen[at] {
			return invalid(e.Text, "flag -docker", errors.New("this engine is there twice: write it once"))
		}
		seen[at] = true
	}
	return nil
}

// addSecondNames sets the flag -names.
func (d *draft) addSecondNames(text string) error {
	second := &d.Names.Second
	kinds := map[string]*bool{
		"compose": &second.Compose, "hostname": &second.Hostname, "alias": &second.Alias,
		"id": &second.ID, "hyphen": &second.Hyphen, "host": &second.Host,
	}
	for _, item := range dnsname.SplitList(text) {
		kind, ok := kinds[item]
		if !ok {
			return fmt.Errorf("there is no %q: write some of compose, hostname, alias, id, hyphen and host,"+
				" with commas between", item)
		}
		*kind = true
	}
	return nil
}

// addFilter sets the flag -filter. A value may hold commas, as in docker ps.
func (d *draft) addFilter(text string) error {
	label, ok := strings.CutPrefix(text, "label=")
	if key, _, _ := strings.Cut(label, "="); !ok || key == "" || strings.ContainsAny(key, " \t\n") {
		return errors.New("write label=KEY or label=KEY=VALUE, as in label=com.example.dns=public")
	}
	d.Docker.Labels = append(d.Docker.Labels, label)
	return nil
}

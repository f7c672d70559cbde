package config

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/rayje/dnsdock/internal/dnsname"
)

// maxApex leaves room for names below the apex, dnsdock's own among them.
const maxApex = 200 // bytes in wire format

var errLongApex = fmt.Errorf("the domain that names end in has over %d bytes: write a shorter one", maxApex)

// parseApex joins the values of -environment and -domain.
func parseApex(environment, domain string) (dnsname.Name, error) {
	labels, err := parseLabels(environment)
	if err != nil {
		return "", invalid(environment, "flag -environment", err)
	}
	zone, err := parseDomain(domain)
	if err != nil {
		return "", invalid(domain, "flag -domain", err)
	}
	if len(labels)+len(zone) > maxApex {
		return "", invalid(environment, "flag -environment", errLongApex)
	}
	return dnsname.Name(labels) + zone, nil
}

// parseDomain reads a domain that the names of containers end in.
func parseDomain(text string) (dnsname.Name, error) {
	labels, err := parseLabels(text)
	domain := dnsname.Name(labels) + dnsname.Root
	switch {
	case err != nil:
		return "", err
	case domain == dnsname.Root:
		return "", errors.New("write a domain, as in docker or docker.example.com")
	case len(domain) > maxApex:
		return "", errLongApex
	case domain.Under(dnsname.Localhost):
		return "", errors.New("it is the host itself: write another, as in docker")
	case isAddr(domain):
		return "", errors.New("it is an address: write a name, as in docker")
	case domain.IsReverse(), dnsname.InAddrArpa.Under(domain):
		return "", errors.New("it is for addresses: write another, as in docker")
	}
	return domain, nil
}

func isAddr(n dnsname.Name) bool {
	_, err := netip.ParseAddr(dnsname.Text(n))
	return err == nil
}

// parseLabels reads the labels of a domain, in which dots around them count for
// nothing.
func parseLabels(text string) (labels string, err error) {
	return dnsname.LabelsFromText(strings.Trim(text, "."))
}

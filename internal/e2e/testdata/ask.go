// Ask takes "host", a type and a name or address. Built without cgo it has
// Go's own resolver.
package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
)

func main() {
	list, err := ask(os.Args[2], os.Args[3])
	var e *net.DNSError
	switch {
	case errors.As(err, &e) && e.IsNotFound:
		fmt.Println("nothing")
	case err != nil:
		fmt.Println("error:", err)
	}
	for _, line := range list {
		fmt.Println(line)
	}
}

func ask(qtype, name string) (list []string, err error) {
	switch qtype {
	case "addrs":
		return net.LookupHost(name)
	case "A", "AAAA":
		ips, err := net.DefaultResolver.LookupNetIP(context.Background(), map[string]string{"A": "ip4", "AAAA": "ip6"}[qtype], name)
		for _, ip := range ips {
			list = append(list, ip.Unmap().String())
		}
		return list, err
	case "PTR":
		return net.LookupAddr(name)
	case "CNAME":
		target, err := net.LookupCNAME(name)
		return []string{target}, err
	case "MX":
		all, err := net.LookupMX(name)
		for _, mx := range all {
			list = append(list, fmt.Sprint(mx.Pref, " ", mx.Host))
		}
		return list, err
	case "TXT":
		all, err := net.LookupTXT(name)
		for _, text := range all {
			list = append(list, fmt.Sprintf("%q", text))
		}
		return list, err
	case "SRV":
		part := strings.SplitN(name, ".", 3)
		_, all, err := net.LookupSRV(part[0][1:], part[1][1:], part[2])
		for _, srv := range all {
			list = append(list, fmt.Sprint(srv.Priority, srv.Weight, srv.Port, " ", srv.Target))
		}
		return list, err
	}
	all, err := net.LookupNS(name)
	for _, ns := range all {
		list = append(list, ns.Host)
	}
	return list, err
}

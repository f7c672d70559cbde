// Package dnsname holds domain names, and the one way in which text becomes a name.
package dnsname

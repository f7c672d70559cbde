// Package dnstest has what the tests of several packages share.
package dnstest

// Package dnsserver reads queries from sockets, and answers them with kept answers or by an Authority.
package dnsserver

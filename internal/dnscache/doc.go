// Package dnscache has questions for upstreams, what they said in wire format, and a bounded cache of that.
package dnscache

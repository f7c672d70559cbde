// Package transfer gives whole zones to other nameservers: AXFR, IXFR, NOTIFY and text.
package transfer

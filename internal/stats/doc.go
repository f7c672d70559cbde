// Package stats counts answers and writes the counts as text for Prometheus.
package stats

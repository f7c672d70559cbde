// Package feed tells listeners what changes, and never waits for them.
package feed

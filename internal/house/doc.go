// Package house tests that the packages of this module keep to the map in docs/internals.md and to its limits on size.
package house

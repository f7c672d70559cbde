// Package zonetest has an index that tests fill with services.
package zonetest

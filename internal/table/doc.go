// Package table has a typed sync.Map.
package table

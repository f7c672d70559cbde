// Package table has a hash table that readers use without a lock.
package table

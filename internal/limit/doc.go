// Package limit bounds how many of something (connections, waiting queries, listeners) clients may hold at a time.
package limit

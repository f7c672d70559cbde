// Package dnswire reads and checks DNS messages as bytes: what clients may send, what a reply must repeat, how streams
// frame them.
package dnswire

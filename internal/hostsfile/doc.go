// Package hostsfile keeps a marked block of lines in a hosts file, and leaves
// the rest of the file as it is.
package hostsfile

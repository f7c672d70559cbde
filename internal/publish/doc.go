// Package publish turns a container into a service: the names that it has, and what they are answered with.
package publish

// Package dockerjson reads what the Docker Remote API tells of a container.
package dockerjson

// Package swarm makes containers of what a swarm's managers list and its engines gossip.
package swarm

package index

import "github.com/rayje/dnsdock/internal/publish"

// virtualIn returns the IDs of those services of a swarm that a viewer gets the virtual
// addresses of, in place of tasks that views have.
func virtualIn(views []*Set, c Viewer) map[string]bool {
	if !AnyHas(views, publish.IsVIP) {
		return nil
	}
	near := make(map[string]bool) // false: no task is found
	for s := range Shuffled(views, publish.IsVIP) {
		if _, ok := s.AddrsFor(c.Places...); ok {
			near[s.VIP] = false
		}
	}
	left := len(near)
	for s := range Shuffled(views, publish.HasData) {
		if left == 0 {
			break
		}
		id := swarmServiceOf(s)
		if had, ok := near[id]; ok && !had {
			near[id] = true
			left--
		}
	}
	return near
}

// swarmServiceOf returns the ID of the service of a swarm that s is a task or the virtual address of; empty: none.
func swarmServiceOf(s *publish.Service) string {
	if t := s.Origin.Task; t != nil && s.VIP == "" {
		return t.ServiceID
	}
	return s.VIP
}

package zone

import (
	"github.com/rayje/dnsdock/internal/dnsname"
	"github.com/rayje/dnsdock/internal/index"
)

const (
	maxExpensive = 100 // queries that may wait for their turn: some hundred milliseconds' worth with 100,000 services
	quick        = 16  // services whose answer takes some microseconds
)

// inTurn waits for the turn of a question about n, whose highest name of ours
// is top, if the answer may have to look at very many services. With 100,000
// services that takes milliseconds, so only one such query runs at a time. The
// caller calls done. It returns false if too many queries wait.
func (d *decision) inTurn(n, top dnsname.Name) (done func(), ok bool) {
	switch c := d.client; {
	case c.Quick && d.isExpensive(n, top, quick):
		d.slow = true
		return nil, false
	case !d.isExpensive(n, top, index.Many):
		return func() {}, true
	}
	select {
	case d.expensive <- struct{}{}:
	default:
		d.busy = true
		return nil, false
	}
	if d.client.BeforeWait != nil {
		d.client.BeforeWait()
	}
	d.walking.Lock()
	return func() {
		d.walking.Unlock()
		<-d.expensive
	}, true
}

// isExpensive reports whether an answer about n looks at all services, at all
// addresses, or at more of the services below a name than many.
func (z *Resolver) isExpensive(n, top dnsname.Name, many int) bool {
	if n.IsReverse() {
		p, ok := n.Prefix()
		v := z.Reg.At(n)
		return ok && !p.IsSingleIP() || v != nil && v.Len() > many
	}
	if !z.Reg.IsZone(top) && z.local[top] {
		return false
	}
	if n.HasWildcard() {
		if n = z.Reg.Trim(n); n.HasWildcard() {
			return true
		}
	}
	for range 3 { // n itself, or the name behind _port._protocol
		if z.Reg.CountBelow(n) > many {
			return true
		}
		if label := n.Label(); label == "" || label[0] != '_' {
			break
		}
		n = n.Parent()
	}
	return false
}

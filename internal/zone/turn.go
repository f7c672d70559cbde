package zone

import (
	"github.com/rayje/dnsdock/internal/dnsname"
	"github.com/rayje/dnsdock/internal/index"
	"github.com/rayje/dnsdock/internal/table"
)

// maxExpensive is how many expensive queries may wait for their turn: some
// hundred milliseconds' worth with 100,000 services.
const maxExpensive = 100

// inTurn waits for the turn of a question about n, whose highest name of ours
// is top, if the answer may have to look at very many services. With 100,000
// services that takes milliseconds, so only one such query runs at a time. The
// caller calls done. It returns false if too many queries wait.
func (z *Resolver) inTurn(n, top dnsname.Name, c Client) (done func(), ok bool) {
	if !z.isExpensive(n, top) {
		return func() {}, true
	}
	select {
	case z.expensive <- struct{}{}:
	default:
		return nil, false
	}
	if c.BeforeWait != nil {
		c.BeforeWait()
	}
	z.walking.Lock()
	return func() {
		z.walking.Unlock()
		<-z.expensive
	}, true
}

// isExpensive reports whether an answer about n looks at all services, at all
// addresses, or at very many of the services below a name.
func (z *Resolver) isExpensive(n, top dnsname.Name) bool {
	if n.IsReverse() {
		p, ok := n.Prefix()
		v := z.Reg.At(n)
		return ok && !p.IsSingleIP() || v != nil && v.Len() > index.Many
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
		for _, nodes := range []*table.Table[dnsname.Name, *index.Node]{&z.Reg.Nodes, &z.Reg.Compose} {
			if at, ok := nodes.Load(n); ok && at.Subtree.Len() > index.Many {
				return true
			}
		}
		if label := n.Label(); label == "" || label[0] != '_' {
			break
		}
		n = n.Parent()
	}
	return false
}

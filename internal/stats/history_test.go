package stats

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"
)

// The history has an hour of minutes, and no more. Time is simulated.
func TestHistory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var all Traffic
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		answer := func(n int) {
			synctest.Wait() // for a minute that ends now
			for range n {
				all.Shared(TCP).Add(Own, dns.RcodeSuccess, dns.TypeA)
			}
		}
		want := func(minutes ...uint64) {
			t.Helper()
			synctest.Wait()
			last := all.LastHour()
			if got := last["own"]; !slices.Equal(got, minutes) || len(last["cached"]) != len(minutes) {
				t.Errorf("got %v; want %v", last, minutes)
			}
		}
		want()
		answer(7) // before the history begins
		go func() { ended <- all.Run(ctx) }()
		want(0)
		answer(2)
		want(2)
		time.Sleep(period)
		want(2, 0)
		answer(3)
		want(2, 3)
		time.Sleep(10 * period)
		want(2, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
		time.Sleep(1000 * period)
		answer(5)
		want(append(make([]uint64, periods-1), 5)...)
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

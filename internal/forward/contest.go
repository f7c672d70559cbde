package forward

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"
)

// A contest is several ways to get one thing, which are tried one after the other, but not given up before one
// succeeds.
type contest[T any] struct {
	tries int
	// how long try i may take until the next one begins too; at least one is tried
	patience func(i int) time.Duration
	late     func(i int, begun time.Time) // called when that time is over; may be nil
	try      func(ctx context.Context, i int) (T, error)
}

// run returns the first success. A try that fails makes the next one begin at once. It returns the last error if
// none succeeds, errTimeout at the deadline of ctx, and ends all tries when it returns.
func (c contest[T]) run(ctx context.Context) (won T, err error) {
	type result struct {
		value T
		err   error
	}
	if c.tries == 1 { // as for most queries: no goroutine, and no clock but that of ctx
		return c.tryOne(ctx, 0)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	results := make(chan result, c.tries)
	timer := time.NewTimer(0)
	defer timer.Stop()
	open := 0
	var begun []time.Time // of each try so far
	begin := func() {
		i := len(begun)
		begun = append(begun, time.Now())
		open++
		timer.Reset(c.patience(i))
		go func() {
			value, err := c.tryOne(ctx, i)
			results <- result{value, err}
		}()
	}
	for begin(); open > 0; {
		select {
		case r := <-results:
			if open--; r.err == nil {
				return r.value, nil
			}
			err = r.err
			if len(begun) < c.tries {
				begin()
			}
		case <-timer.C:
			if c.late != nil {
				c.late(len(begun)-1, begun[len(begun)-1])
			}
			if len(begun) < c.tries {
				begin()
			}
		case <-ctx.Done():
			if err = ctx.Err(); errors.Is(err, context.DeadlineExceeded) {
				err = errTimeout
			}
			return won, err
		}
	}
	return won, err
}

// tryOne is try, with a panic as an error.
func (c contest[T]) tryOne(ctx context.Context, i int) (value T, err error) {
	defer func() {
		if bug := recover(); bug != nil {
			err = fmt.Errorf("bug: %v\n%s", bug, debug.Stack())
		}
	}()
	return c.try(ctx, i)
}

package fencelock

import (
	"context"
	"sync"
	"time"
)

const step = 250 * time.Millisecond

// limits gives each request a context that ends in time. A timer for each would be a good part of the cost of a lock: those
// that end in the same quarter of a second share one.
type limits struct {
	mu    sync.Mutex
	begun time.Time
	ends  map[time.Duration]context.Context // by the number of the step
}

// limited has the values of the caller's context, and not its end.
type limited struct {
	context.Context
	until time.Time       // for the socket
	ended context.Context // a little later, for those who wait for a connection
}

func (l *limited) Deadline() (time.Time, bool) { return l.until, true }
func (l *limited) Done() <-chan struct{}       { return l.ended.Done() }
func (l *limited) Err() error                  { return l.ended.Err() }

func (l *limits) within(ctx context.Context, limit time.Duration) context.Context {
	until := time.Since(l.begun) + limit
	n := until/step + 1
	l.mu.Lock()
	defer l.mu.Unlock()
	ended, shared := l.ends[n]
	if !shared {
		var cancel context.CancelFunc
		ended, cancel = context.WithDeadline(context.Background(), l.begun.Add(n*step))
		l.ends[n] = ended
		context.AfterFunc(ended, func() {
			cancel()
			l.mu.Lock()
			defer l.mu.Unlock()
			delete(l.ends, n)
		})
	}
	return &limited{ctx, l.begun.Add(until), ended}
}

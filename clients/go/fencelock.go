// Package fencelock has distributed locks for go-redis, on a Redis or Valkey server with the redis-lock module.
//
//	locks := fencelock.New(client)
//	lock, err := locks.Acquire(ctx, "invoice:42")
//	if err != nil {
//		return err
//	}
//	defer lock.Release(ctx)
//	// work with lock.Context(), and send lock.Fence() along with every write
//
// Whoever asks first is served first. A lock is renewed while somebody has the Lock; when it is lost all the same, its
// context is cancelled at once, with the cause ErrLost.
package fencelock

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

var (
	// ErrBusy says that somebody else has the lock. If the context of an Acquire has ended, its error is there, too.
	ErrBusy = errors.New("fencelock: somebody else has the lock")
	// ErrLost is what every LostError is.
	ErrLost = errors.New("fencelock: the lock is lost")
	// ErrReleased is the cause with which the context of a lock ends by Release, and the error of a second Release.
	ErrReleased = errors.New("fencelock: the lock was released")
	// ErrDeadlock says that the wait would never end. Release all that is held, then begin again.
	ErrDeadlock = errors.New("fencelock: this wait would never end")
	// ErrClosed is the error after Close.
	ErrClosed = errors.New("fencelock: closed")
)

// LostError says why a lock is held no more though nobody released it.
type LostError struct {
	Key    string
	Reason string // in the words of the server, such as "broken" or "expired"; "lease-over" by our own clock; its error, such as "NOPERM"
}

func (e *LostError) Error() string { return ErrLost.Error() + ": " + e.Key + ": " + e.Reason }

// Is makes every LostError an ErrLost.
func (e *LostError) Is(target error) bool { return target == ErrLost }

// Option says what kind of lock is wanted, and for how long.
type Option func(*request)

type request struct {
	keys  []string
	owner string
	lease time.Duration
	most  time.Duration
	renew bool
	watch bool
	wait  bool
	mode  []any
}

// Lease is how long the lock lasts without a word from its holder, 30 seconds if not said. It is renewed at a third of it.
func Lease(d time.Duration) Option { return func(r *request) { r.lease = d } }

// MaxHold ends the lock after this time, however often it is renewed.
func MaxHold(d time.Duration) Option { return func(r *request) { r.most = d } }

// NoRenewal lets the lock end with its lease.
func NoRenewal() Option { return func(r *request) { r.renew = false } }

// Shared is for a reader: many hold the lock together, and no writer meanwhile.
func Shared() Option { return func(r *request) { r.mode = []any{"SHARED"} } }

// Watch tells of a loss at once, and not by the next renewal. It takes one more connection for all that watch, and a request for
// each lock, renewal and change. It is for one server: elsewhere, and where the user may not listen, the renewals tell.
func Watch() Option { return func(r *request) { r.watch = true } }

// Limit makes the lock a semaphore: permits are taken of as many as limit says. All who use the key say the same limit.
func Limit(limit, permits int) Option {
	return func(r *request) { r.mode = []any{"LIMIT", limit, "PERMITS", permits} }
}

// Owner names the holder. Give all locks of one piece of work the same name, and the server finds deadlocks between them.
// Without it each lock is an owner of its own.
func Owner(name string) Option { return func(r *request) { r.owner = name } }

// Locker acquires locks. It can be used by many goroutines at once.
type Locker struct {
	line
	room   room
	keeper keeper
	life   context.Context // ends by Close
	end    context.CancelCauseFunc
	calls  sync.WaitGroup // acquires that are under way, and what the keeper does
}

// New makes a Locker from a client, a cluster client, a ring or a failover client. It opens connections of its own, with
// the settings of the client and at most as many, but uses those of a failover client. The client is yours to close.
func New(client redis.UniversalClient) *Locker {
	c := &Locker{}
	size := c.line.open(client)
	c.room.init(size / 2)
	c.keeper.init(c)
	c.life, c.end = context.WithCancelCause(context.Background())
	return c
}

// Acquire waits until it has the lock, or ctx ends: then it leaves the line, gives back what came in the last moment, and
// returns an error that is ErrBusy and the cause of ctx.
func (c *Locker) Acquire(ctx context.Context, key string, opts ...Option) (*Lock, error) {
	return c.acquire(ctx, true, []string{key}, opts)
}

// TryAcquire takes the lock if it is free. Otherwise the error is ErrBusy.
func (c *Locker) TryAcquire(ctx context.Context, key string, opts ...Option) (*Lock, error) {
	return c.acquire(ctx, false, []string{key}, opts)
}

// AcquireMulti is Acquire for up to 64 locks, all or none, under one fence. Who waits for them holds none of them. In a
// cluster they share a slot.
func (c *Locker) AcquireMulti(ctx context.Context, keys []string, opts ...Option) (*Lock, error) {
	return c.acquire(ctx, true, keys, opts)
}

// TryAcquireMulti takes all the locks if all are free. Otherwise the error is ErrBusy.
func (c *Locker) TryAcquireMulti(ctx context.Context, keys []string, opts ...Option) (*Lock, error) {
	return c.acquire(ctx, false, keys, opts)
}

// Do acquires the lock, calls work, and releases the lock, also if work panics. The context of work ends with ctx, or with
// the cause ErrLost as soon as the lock is lost. If it is lost before the work is done, the error is ErrLost.
func (c *Locker) Do(
	ctx context.Context, key string, work func(ctx context.Context, fence int64) error, opts ...Option,
) (err error) {
	lock, err := c.Acquire(ctx, key, opts...)
	if err != nil {
		return err
	}
	held, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(lock.Context(), func() { cancel(context.Cause(lock.Context())) })
	defer func() {
		stop()
		cancel(nil)
		err = errors.Join(err, lock.Release(ctx))
	}()
	return work(held, lock.Fence())
}

// Close ends the waits that are under way with ErrClosed, gives back what is held, and closes the connections.
func (c *Locker) Close() error {
	c.keeper.mu.Lock()
	c.keeper.closed = true // so nobody enters any more
	c.keeper.timer.Stop()
	c.keeper.mu.Unlock()
	c.end(ErrClosed)
	c.calls.Wait()
	c.keeper.giveBack()
	if !c.own {
		return nil
	}
	return c.client.Close()
}

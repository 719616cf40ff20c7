package fencelock

import (
	"context"
	"runtime"
	"time"

	"github.com/redis/go-redis/v9"
)

// Lock is one hold of a lock, or of several under one fence. It is renewed until Release, or until the program has neither
// the Lock nor its context any more; then it is given back.
type Lock struct {
	locker  *Locker
	hold    *hold
	context context.Context
	dropped runtime.Cleanup
}

// held is the context of a lock. Who has it has the lock.
type held struct {
	context.Context
	lock *Lock
}

// Fence returns a number that grows with every grant of the lock. Send it along with every write, so that whatever you
// write to can refuse an older one.
func (l *Lock) Fence() int64 { return l.hold.fence }

// Owner returns the name under which the server knows the holder.
func (l *Lock) Owner() string { return l.hold.owner }

// Context has the values of the context that the lock was acquired with, not its end. It is cancelled as soon as the lock
// is lost, with a LostError as its cause, which is ErrLost; and by Release, with the cause ErrReleased.
func (l *Lock) Context() context.Context { return l.context }

// Release gives the lock back, also if ctx has ended. A lock that was lost before is ErrLost. After another error the
// release is sent again for as long as the lease lasts; you need not do so.
func (l *Lock) Release(ctx context.Context) error {
	h, k := l.hold, &l.locker.keeper
	if !k.release(h) {
		return ErrReleased
	}
	l.dropped.Stop()
	h.cancel(ErrReleased)
	n, err := l.locker.ask(ctx, min(1500*time.Millisecond, l.locker.reply), h.release)
	if err != nil && passing(err) {
		k.owe(h.release, time.Now().Add(k.copy(h).lease))
	}
	if n == 0 && err == nil && len(h.keys) > 1 { // one of them was lost, and nothing was released yet
		_ = l.locker.send(ctx, l.locker.reply, h.about("RELEASE"))
	}
	return l.verdict(ctx, n, err)
}

// Renew asks the server for a new lease, before a step that must not be done twice. It lasts so long, or as long as before
// if lease is 0; so do all renewals after it. A lock that was lost is ErrLost.
func (l *Lock) Renew(ctx context.Context, lease time.Duration) error {
	k := &l.locker.keeper
	h := k.copy(l.hold)
	if h.released {
		return ErrReleased
	}
	if lost, ok := context.Cause(l.context).(*LostError); ok { // asking could bring it back after a failover
		return lost
	}
	if lease > 0 {
		h.lease = lease
	}
	sent := time.Now()
	left, err := l.locker.ask(ctx, l.locker.reply, h.renewal)
	if err == nil && left > 0 {
		k.renewed(l.hold, h.lease, sent, left)
	}
	return l.verdict(ctx, left, err)
}

// TTL asks the server how long the lease lasts if nobody renews it. It is 0 if the lock is not held any more; a loss that was
// not known before is told.
func (l *Lock) TTL(ctx context.Context) (time.Duration, error) {
	h, left := l.hold, int64(1<<62)
	if context.Cause(l.context) != nil {
		return 0, nil
	}
	for _, key := range h.keys {
		n, err := l.locker.ask(ctx, l.locker.reply, func() *redis.Cmd {
			return command(1, "LOCK.CHECK", key, h.owner, "FENCE", h.fence)
		})
		if err != nil && word(err) != "WRONGTYPE" {
			return 0, err
		}
		left = min(left, n)
	}
	if left == 0 {
		if reason := l.locker.why(ctx, h)[0]; reason == "recovering" { // after a failover: a renewal brings it back
			left, _ = l.locker.ask(ctx, l.locker.reply, h.renewal)
		} else {
			l.locker.keeper.lose(h, reason)
		}
	}
	return time.Duration(left) * time.Millisecond, nil
}

// verdict makes an error of a reply to what only the holder may say, and tells the holder of the loss.
func (l *Lock) verdict(ctx context.Context, reply int64, err error) error {
	if lost, ok := context.Cause(l.context).(*LostError); ok {
		return lost
	}
	if (err == nil && reply == 0) || word(err) == "WRONGTYPE" {
		lost := &LostError{l.hold.keys[0], l.locker.why(ctx, l.hold)[0]}
		l.locker.keeper.lose(l.hold, lost.Reason)
		return lost
	}
	return err
}

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
	asked   context.Context // of the acquire
	context context.Context // made when it is asked for
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
func (l *Lock) Context() context.Context {
	k, h := &l.locker.keeper, l.hold
	k.mu.Lock()
	defer k.mu.Unlock()
	if l.context == nil {
		inner, cancel := context.WithCancelCause(context.WithoutCancel(l.asked))
		if l.context, h.cancel = (held{inner, l}), cancel; h.over != nil {
			cancel(h.over)
		}
	}
	return l.context
}

// Release gives the lock back, also if ctx has ended. A lock that was lost before is ErrLost. After another error the
// release is sent again for as long as the lease lasts; you need not do so.
func (l *Lock) Release(ctx context.Context) error {
	h, k := l.hold, &l.locker.keeper
	if !k.release(h) {
		return ErrReleased
	}
	l.dropped.Stop()
	n, err := l.locker.ask(ctx, min(1500*time.Millisecond, l.locker.reply), h.release)
	if err != nil && passing(err) {
		k.owe(h.release, time.Now().Add(k.copy(h).lease))
	}
	if n == 0 && err == nil && len(h.keys) > 1 { // one of them was lost, and nothing was released yet
		_ = l.locker.send(ctx, l.locker.reply, h.about("LOCK.RELEASE", "LOCK.MRELEASE"))
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
	if h.over != nil { // asking could bring it back after a failover
		return h.over
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
	if l.locker.keeper.copy(h).over != nil {
		return 0, nil
	}
	for _, key := range h.keys {
		n, err := l.locker.ask(ctx, l.locker.reply, func() *redis.Cmd {
			return redis.NewCmd(ctx, "LOCK.CHECK", key, h.owner, "FENCE", h.fence)
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
	k := &l.locker.keeper
	if lost, ok := k.copy(l.hold).over.(*LostError); ok {
		return lost
	}
	if (err == nil && reply == 0) || word(err) == "WRONGTYPE" {
		reason := l.locker.why(ctx, l.hold)[0]
		k.lose(l.hold, reason)
		return &LostError{l.hold.keys[0], reason}
	}
	return err
}

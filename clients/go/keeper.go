package fencelock

import (
	"context"
	"runtime"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

const linger = time.Second // without a hold, after which nothing is left running

// hold is one grant, as the keeper knows it. It outlives the Lock that the user has.
type hold struct {
	request
	fence    int64
	until    time.Time // when the lease ends, by our own clock
	due      time.Time // when it is to be renewed, if it is
	end      *time.Timer
	cancel   context.CancelCauseFunc
	released bool
	look     bool // whether the server is to be asked whether it is still held
}

func (h *hold) plan() { h.due = time.Now().Add(jitter(h.lease*28/100, h.lease/3)) }

// renewal names the fence and the mode: by them the hold stands again on a server that has lost it in a failover.
func (h *hold) renewal() *redis.Cmd {
	ms, same := h.lease.Milliseconds(), append([]any{"FENCE", h.fence}, h.mode...)
	if len(h.keys) == 1 {
		return h.about("RENEW", append([]any{"PX", ms}, same...)...)
	}
	return command(4, append(several(h.keys, "LOCK.MRENEW", h.owner, ms), same...)...)
}

func (h *hold) release() *redis.Cmd { return h.about("RELEASE", "FENCE", h.fence) }

func (h *hold) checks() (cmds []redis.Cmder) {
	for _, key := range h.keys {
		cmds = append(cmds, redis.NewMapStringInterfaceCmd(context.Background(), "LOCK.CHECK", key, h.owner, "FENCE", h.fence, "WITHINFO"))
	}
	return cmds
}

// debt is a request that must still go out, until this moment.
type debt struct {
	request func() *redis.Cmd
	until   time.Time
}

// keeper has the holds: it renews those that are due, all in one go, tells of those that are lost, and gives back those
// that were dropped. Its goroutine runs only while there is something to renew or to give back. The end of a lease has a
// timer for each hold, which no request keeps waiting.
type keeper struct {
	*Locker
	mu      sync.Mutex
	holds   map[*hold]struct{}
	debts   []debt
	ear     ear
	running bool
	closed  bool
	planned time.Time     // when the goroutine wakes
	wake    chan struct{} // before that
}

func (k *keeper) init(c *Locker) {
	k.Locker, k.holds, k.wake = c, map[*hold]struct{}{}, make(chan struct{}, 1)
	k.ear.open(k)
}

// enter begins a call that Close waits for; it must end by calls.Done.
func (k *keeper) enter() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.closed {
		k.calls.Add(1)
	}
	return !k.closed
}

func (k *keeper) add(ctx context.Context, h *hold) *Lock {
	l := &Lock{locker: k.Locker, hold: h}
	inner, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	l.context, h.cancel = held{inner, l}, cancel
	if h.renew {
		l.dropped = runtime.AddCleanup(l, k.drop, h)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.holds[h] = struct{}{}
	h.end = time.AfterFunc(time.Until(h.until), func() { k.expire(h) })
	if h.plan(); h.renew {
		k.watch(h.due)
	}
	if h.look = h.watch; h.look {
		k.listen()
		k.watch(time.Now())
	}
	return l
}

// release tells whether this is the first release of the hold, and forgets it.
func (k *keeper) release(h *hold) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	first := !h.released
	h.released = true
	k.forget(h)
	return first
}

func (k *keeper) forget(h *hold) (known bool) {
	_, known = k.holds[h]
	delete(k.holds, h)
	h.end.Stop()
	return known
}

func (k *keeper) expire(h *hold) {
	if !k.copy(h).until.After(time.Now()) { // and was not renewed in this moment
		k.lose(h, "lease-over")
	}
}

func (k *keeper) drop(h *hold) {
	if k.release(h) {
		h.cancel(ErrReleased)
		k.owe(h.release, time.Now().Add(k.copy(h).lease))
	}
}

func (k *keeper) owe(request func() *redis.Cmd, until time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.debts = append(k.debts, debt{request, until})
	k.watch(time.Now())
}

func (k *keeper) lose(h *hold, reason string) {
	k.mu.Lock()
	known := k.forget(h)
	k.mu.Unlock()
	if known {
		h.cancel(&LostError{h.keys[0], reason})
	}
}

// copy returns the hold as it is now.
func (k *keeper) copy(h *hold) hold {
	k.mu.Lock()
	defer k.mu.Unlock()
	return *h
}

func (k *keeper) renewed(h *hold, lease time.Duration, sent time.Time, leftMs int64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	h.lease = lease
	k.until(h, sent, leftMs)
	if h.renew {
		k.watch(h.due)
	}
}

func (k *keeper) until(h *hold, sent time.Time, leftMs int64) {
	if _, known := k.holds[h]; known {
		h.until = sent.Add(time.Duration(leftMs) * time.Millisecond)
		h.end.Reset(time.Until(h.until))
		h.plan()
	}
}

// watch sees to it that the goroutine runs, and wakes in time.
func (k *keeper) watch(due time.Time) {
	if !k.running && !k.closed {
		k.running = true
		k.calls.Go(k.run)
	} else if due.Before(k.planned) {
		select {
		case k.wake <- struct{}{}:
		default:
		}
	}
}

func (k *keeper) run() {
	for idle := false; ; {
		now := time.Now()
		k.mu.Lock()
		nothing := len(k.holds) == 0 && len(k.debts) == 0
		if k.closed || (idle && nothing) {
			k.running = false
			k.mu.Unlock()
			return
		}
		idle = nothing
		k.planned = now.Add(linger)
		if len(k.debts) > 0 {
			k.planned = now.Add(linger / 3)
		}
		for h := range k.holds {
			if h.renew && h.due.Before(k.planned) {
				k.planned = h.due
			}
			if h.look && k.ear.id != 0 {
				k.planned = now
			}
		}
		pause := k.planned.Sub(now)
		k.mu.Unlock()
		rest(k.life, pause, k.wake)
		k.turn()
	}
}

// turn sends all that is due in one go.
func (k *keeper) turn() {
	now, limit, lost := time.Now(), k.reply, map[*hold]string{}
	var looks, gone []*hold
	var cmds []redis.Cmder
	var then []func() // what comes of the replies
	k.mu.Lock()
	for h := range k.holds {
		if h.renew && h.due.Sub(now) < h.lease/12 { // who is due soon comes along
			cmd := h.renewal()
			cmds, limit = append(cmds, cmd), min(limit, h.until.Sub(now))
			h.look = h.watch // what was told meanwhile may have been lost with a connection
			then = append(then, func() {
				left, err := least(cmd)
				if word := word(err); (err == nil && left == 0) || word == "WRONGTYPE" {
					gone = append(gone, h)
				} else if err == nil {
					k.until(h, now, left)
				} else if word == "NOPERM" || word == "BADARG" { // asking again would not help
					lost[h] = word
				} else { // no reply, or an error: again soon, as long as the lease lasts
					h.due = time.Now().Add(jitter(0, min(time.Second, h.lease/12)) + time.Millisecond)
				}
			})
		}
		if h.look && k.ear.id != 0 {
			looks, h.look = append(looks, h), false
		}
	}
	for _, d := range k.debts {
		if cmd := d.request(); d.until.After(now) {
			cmds = append(cmds, cmd)
			then = append(then, func() {
				if err := cmd.Err(); err != nil && passing(err) {
					k.debts = append(k.debts, d)
				}
			})
		}
	}
	k.debts = nil
	if len(looks) > 0 {
		cmds = append(cmds, redis.NewCmd(context.Background(), "CLIENT", "TRACKING", "ON", "REDIRECT", k.ear.id))
	}
	for _, h := range looks {
		checks := h.checks()
		cmds = append(cmds, checks...)
		then = append(then, func() {
			if reason := reason(checks); reason != "" && reason != "recovering" { // which a renewal mends
				lost[h] = reason
			}
		})
	}
	k.mu.Unlock()
	if len(cmds) == 0 {
		return
	}
	k.batch(context.Background(), max(limit, 50*time.Millisecond), cmds)
	k.mu.Lock()
	for _, take := range then {
		take()
	}
	k.mu.Unlock()
	if len(gone) > 0 {
		for i, reason := range k.why(context.Background(), gone...) {
			lost[gone[i]] = reason
		}
	}
	for h, reason := range lost {
		k.lose(h, reason)
	}
}

// giveBack ends what is still held and pays the debts, in one go.
func (k *keeper) giveBack() {
	k.mu.Lock()
	defer k.mu.Unlock()
	var cmds []redis.Cmder
	for h := range k.holds {
		h.cancel(&LostError{h.keys[0], "closed"})
		k.forget(h)
		cmds = append(cmds, h.release())
	}
	for _, d := range k.debts {
		cmds = append(cmds, d.request())
	}
	if len(cmds) > 0 {
		k.batch(context.Background(), k.reply, cmds)
	}
}

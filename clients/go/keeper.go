package fencelock

import (
	"context"
	"runtime"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

const linger = time.Second // without a watched hold, after which nobody listens

// hold is one grant, as the keeper knows it. It outlives the Lock that the user has.
type hold struct {
	request
	fence    int64
	until    time.Time               // when the lease ends, by our own clock
	due      time.Time               // when it is to be renewed; never, if that is not before the end of the lease
	over     error                   // why it is held no more
	cancel   context.CancelCauseFunc // of its context, if somebody has asked for it
	released bool
	look     bool // whether the server is to be asked whether it is still held
}

func (h *hold) plan() {
	if h.due = h.until; h.renew {
		h.renewIn(jitter(h.lease*28/100, h.lease/3))
	}
}

func (h *hold) renewIn(d time.Duration) {
	if h.due = time.Now().Add(d); h.due.After(h.until) {
		h.due = h.until
	}
}

// renewal names the fence and the mode: by them the hold stands again on a server that has lost it in a failover.
func (h *hold) renewal() *redis.Cmd {
	ms, same := h.lease.Milliseconds(), append([]any{"FENCE", h.fence}, h.mode...)
	if len(h.keys) > 1 {
		return h.several([]any{"LOCK.MRENEW", h.owner, ms}, same)
	}
	return h.about("LOCK.RENEW", nil, append([]any{"PX", ms}, same...)...)
}

func (h *hold) release() *redis.Cmd {
	return h.about("LOCK.RELEASE", "LOCK.MRELEASE", "FENCE", h.fence)
}

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
// that were dropped. It has one timer for all of them, which is not touched for a hold that ends before it, and no goroutine
// but while a request of it is under way. What falls due meanwhile does not wait for the reply.
type keeper struct {
	*Locker
	mu      sync.Mutex
	holds   map[*hold]struct{}
	debts   []debt
	ear     ear
	closed  bool
	timer   *time.Timer
	planned time.Time // when it fires; zero if there is nothing to do
	dropped func(*hold)
}

func (k *keeper) init(c *Locker) {
	k.Locker, k.holds, k.dropped = c, map[*hold]struct{}{}, k.drop
	k.timer = time.AfterFunc(1<<62, k.turn)
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
	l := &Lock{locker: k.Locker, hold: h, asked: ctx}
	if h.renew {
		l.dropped = runtime.AddCleanup(l, k.dropped, h)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.holds[h] = struct{}{}
	h.plan()
	k.watch(h.due)
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
	k.end(h, ErrReleased)
	return first
}

// end forgets a hold and tells whoever has its context.
func (k *keeper) end(h *hold, why error) {
	if _, known := k.holds[h]; !known {
		return
	}
	delete(k.holds, h)
	if h.over = why; h.cancel != nil {
		h.cancel(why)
	}
}

func (k *keeper) lose(h *hold, reason string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.end(h, &LostError{h.keys[0], reason})
}

// drop gives back what nobody has any more, unless the same owner has it once more.
func (k *keeper) drop(h *hold) {
	if k.release(h) && !k.hasTwin(h) {
		k.owe(h.release, time.Now().Add(k.copy(h).lease))
	}
}

func (k *keeper) hasTwin(h *hold) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	for other := range k.holds {
		if other.owner == h.owner && other.fence == h.fence {
			return true
		}
	}
	return false
}

func (k *keeper) owe(request func() *redis.Cmd, until time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.debts = append(k.debts, debt{request, until})
	k.watch(time.Now())
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
}

func (k *keeper) until(h *hold, sent time.Time, leftMs int64) {
	if _, known := k.holds[h]; known {
		h.until = sent.Add(time.Duration(leftMs) * time.Millisecond)
		h.plan()
		k.watch(h.due)
	}
}

// watch sees to it that the timer fires by this moment.
func (k *keeper) watch(due time.Time) {
	if !k.closed && (k.planned.IsZero() || due.Before(k.planned)) {
		k.planned = due
		k.timer.Reset(time.Until(due))
	}
}

// turn ends the holds whose lease is over, and sends all that is due in one go.
func (k *keeper) turn() {
	if !k.enter() {
		return
	}
	defer k.calls.Done()
	now, limit, lost := time.Now(), k.reply, map[*hold]string{}
	var looks, gone []*hold
	var cmds []redis.Cmder
	var then []func() // what comes of the replies
	k.mu.Lock()
	k.planned = time.Time{}
	for h := range k.holds {
		if !h.until.After(now) {
			k.end(h, &LostError{h.keys[0], "lease-over"})
			continue
		}
		if h.due.Before(h.until) && h.due.Sub(now) < h.lease/12 { // who is due soon comes along
			h.due = h.until // not once more meanwhile
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
					h.renewIn(jitter(0, min(time.Second, h.lease/12)) + time.Millisecond)
					k.watch(h.due)
				}
			})
		}
		k.watch(h.due)
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
					k.watch(time.Now().Add(linger / 3))
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
		k.end(h, &LostError{h.keys[0], "closed"})
		cmds = append(cmds, h.release())
	}
	for _, d := range k.debts {
		cmds = append(cmds, d.request())
	}
	if len(cmds) > 0 {
		k.batch(context.Background(), k.reply, cmds)
	}
}

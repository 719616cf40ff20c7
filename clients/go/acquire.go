package fencelock

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	ticket   = 5 * time.Second        // how long a place in line outlives the last request for it
	patience = 10 * time.Second       // without one good reply, after which a wait ends with the last error
	look     = 100 * time.Millisecond // between two looks where no line can form
)

var process = func() string {
	host, _ := os.Hostname()
	return host[:min(len(host), 64)] + ":" + strconv.Itoa(os.Getpid()) + ":"
}()

// wait is one try to have the lock, or one wait in line for it, under one owner from the first request to the last. The
// first request asks for the lock or a place in line, and is answered at once. The next ones wait in the server.
type wait struct {
	*Locker
	*hold            // what it becomes
	seat   *seat     // nil until the server has said that the lock is busy
	queued bool      // the server has a place in line for us
	good   time.Time // when the server last gave a reply that counts
	failed error     // the last request, if it did
	again  bool      // one did, so an earlier one may have been obeyed
	sent   bool      // at least one request
	asked  bool      // one of which no reply came, and which may be on its way still
}

func (c *Locker) acquire(ctx context.Context, waits bool, keys []string, opts []Option) (*Lock, error) {
	h := &hold{request: request{keys: keys, lease: 30 * time.Second, renew: true, wait: waits}}
	for _, option := range opts {
		option(&h.request)
	}
	w := wait{Locker: c, hold: h, good: time.Now()}
	if len(keys) == 0 {
		return nil, errors.New("fencelock: there is no key")
	}
	if w.owner == "" {
		w.owner = process + rand.Text()
	}
	if !c.keeper.enter() {
		return nil, ErrClosed
	}
	defer c.calls.Done()
	err := w.stand(ctx)
	if w.seat != nil {
		c.room.part(w.seat)
	}
	if err == nil {
		return c.keeper.add(ctx, h), nil
	}
	if w.sent && (waits || w.again || err != ErrBusy) {
		w.leave(ctx)
	}
	return nil, err
}

// stand returns nil when it has the lock.
func (w *wait) stand(ctx context.Context) error {
	has, err := w.once(ctx)
	if !has && w.wait { // from now on it may last, and Close must end it
		waiting, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		defer context.AfterFunc(w.life, func() { cancel(ErrClosed) })()
		ctx = waiting
	}
	for ; ; has, err = w.once(ctx) {
		switch {
		case ctx.Err() != nil:
			if !w.sent {
				return context.Cause(ctx)
			} else if err == nil {
				err = ErrBusy
			}
			return fmt.Errorf("%w: %w", err, context.Cause(ctx))
		case has:
			return nil
		case err == nil:
			w.good, w.failed = time.Now(), nil
			if !w.wait {
				return ErrBusy
			}
			continue
		}
		w.queued, w.asked = false, w.asked && word(err) == ""
		pause, err := w.judge(err)
		if err != nil {
			return err
		}
		rest(ctx, pause, nil)
	}
}

// once sends one request, and tells whether it brought the lock.
func (w *wait) once(ctx context.Context) (bool, error) {
	block := time.Duration(0)
	if w.queued && w.room.sit(ctx, w.seat) {
		block = min(sliceTime, w.reply)
		if end, ok := ctx.Deadline(); ok {
			block = min(block, time.Until(end)+time.Millisecond)
		}
	}
	if ctx.Err() != nil {
		return false, w.failed
	}
	words := append(append(make([]any, 0, 10), "PX", w.lease.Milliseconds()), w.mode...)
	if w.most > 0 {
		words = append(words, "MAXHOLD", w.most.Milliseconds())
	}
	if block = block.Truncate(time.Millisecond); block > 0 {
		words = append(words, "BLOCK", block.Milliseconds())
		gone, line, cancel := make(chan struct{}), &w.line, w.request.cancel()
		stop := context.AfterFunc(ctx, func() { // ends the request at once, and not only with its slice
			defer close(gone)
			_ = line.send(ctx, time.Second, cancel)
		})
		defer func() {
			if !stop() {
				<-gone
			}
		}()
	}
	if w.wait {
		words = append(words, "QUEUE", ticket.Milliseconds())
	}
	sent, cmd := time.Now(), w.about("LOCK.ACQUIRE", "LOCK.MACQUIRE", words...)
	w.sent, w.asked = true, true
	_ = w.send(ctx, block+w.reply, cmd)
	if cmd.Err() != nil && cmd.Err() != redis.Nil {
		return false, cmd.Err()
	}
	w.asked = false
	if cmd.Err() != nil {
		if w.queued = w.wait; w.queued && w.seat == nil {
			w.seat = w.room.join(strings.Join(w.keys, "\n"))
		}
		return false, nil
	}
	var err error
	if w.fence, err = cmd.Int64(); err != nil {
		return false, err
	}
	if w.until = sent.Add(w.lease); w.most > 0 {
		w.until = sent.Add(min(w.lease, w.most))
	}
	if block > 0 { // the turn may have come some time ago: claim it, and count from now
		sent, cmd = time.Now(), w.renewal()
		_ = w.send(ctx, w.reply, cmd)
		left, err := least(cmd)
		if err != nil {
			return false, err
		}
		if left == 0 { // too late, the next in line has it; so stand in line again
			w.queued = false
			return false, nil
		}
		w.until = sent.Add(time.Duration(left) * time.Millisecond)
	}
	return true, nil
}

// judge returns after what time to ask again, or the error that asking again cannot mend.
func (w *wait) judge(err error) (time.Duration, error) {
	switch word(err) {
	case "WRONGTYPE", "RECOVERING": // a string: somebody who uses SET NX has the lock; or nobody knows yet who has it
		if w.good, w.failed = time.Now(), nil; w.wait {
			return look, nil
		}
		w.again = w.again || word(err) == "RECOVERING" && strings.HasPrefix(w.owner, process) // the client itself has asked twice
		return 0, ErrBusy
	case "DEADLOCK":
		return 0, fmt.Errorf("%w: %w", ErrDeadlock, err)
	}
	if !passing(err) || (!w.wait && w.again) || time.Since(w.good) > patience {
		return 0, err
	}
	w.failed, w.again = err, true
	return jitter(20*time.Millisecond, 200*time.Millisecond), nil
}

// leave gives back the place in line, and a grant that came in the last moment.
func (w *wait) leave(ctx context.Context) {
	err := w.send(ctx, min(time.Second, w.reply), w.request.cancel())
	if w.asked || (err != nil && word(err) == "") { // on another connection a request may be on its way: once more in a moment
		w.keeper.owe(w.request.cancel, time.Now().Add(w.lease))
	}
}

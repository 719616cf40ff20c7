// The block of docs/clients.md: the library of clients/go in steps.
package locks

import (
	"context"
	"errors"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"fencelock"

	"github.com/redis/go-redis/v9"
)

// Locks has what the trials give to the block.
type Locks struct {
	*fencelock.Locker
	lease, wait time.Duration
}

func New(options redis.UniversalOptions, lease, wait time.Duration) *Locks {
	return &Locks{fencelock.New(redis.NewUniversalClient(&options)), lease, wait}
}

func (l *Locks) Hold(ctx context.Context, key string, work func(context.Context, int64) error) error {
	return Hold(ctx, l.Locker, key, l.wait, work, fencelock.Lease(l.lease))
}

func hold(l *Locks, ctx context.Context, key string, work func(int64) error) error {
	return l.Hold(ctx, key, func(_ context.Context, fence int64) error { return work(fence) })
}

func TestWorkMayOutlastTheLease(t *testing.T) {
	err := New(here, 2*time.Second, time.Minute).Hold(bg, "long", func(ctx context.Context, _ int64) error {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(5 * time.Second):
			return nil
		}
	})
	if err != nil {
		t.Error(err)
	}
	nothingIsLeft(t)
}

// Runs work that begins with act and ends when its context does; returns why it ended, and after what time.
func ended(lease time.Duration, key string, act func()) (why error, after time.Duration) {
	_ = New(here, lease, time.Minute).Hold(bg, key, func(ctx context.Context, _ int64) error {
		start := time.Now()
		act()
		<-ctx.Done()
		why, after = context.Cause(ctx), time.Since(start)
		return why
	})
	return
}

func TestTheWorkEndsWhenTheLockIsLost(t *testing.T) {
	why, after := ended(1500*time.Millisecond, "broken", func() { admin.Do(bg, "LOCK.BREAK", "broken") })
	if !errors.Is(why, fencelock.ErrLost) || after > time.Second {
		t.Error(why, after)
	}
	nothingIsLeft(t)
}

func TestTheWorkEndsWhenNobodyAnswers(t *testing.T) {
	pid, _ := strconv.Atoi(os.Getenv("LOCK_PID"))
	time.AfterFunc(2*time.Second, func() { _ = syscall.Kill(pid, syscall.SIGCONT) })
	why, after := ended(time.Second, "silent", func() { _ = syscall.Kill(pid, syscall.SIGSTOP) })
	if !errors.Is(why, fencelock.ErrLost) || after > 1800*time.Millisecond {
		t.Error(why, after)
	}
	nothingIsLeft(t)
}

func TestTheWorkEndsWhenARefusalStays(t *testing.T) {
	why, after := ended(3*time.Second, "refused", func() { admin.ConfigSet(bg, "lock.max-lease-ms", "1000") })
	admin.ConfigSet(bg, "lock.max-lease-ms", "604800000")
	if !errors.Is(why, fencelock.ErrLost) || !strings.Contains(why.Error(), "BADARG") || after > 2*time.Second {
		t.Error(why, after)
	}
	nothingIsLeft(t)
}

func TestAConnectionThatIsCutDoesNotEndTheHold(t *testing.T) {
	err := New(here, 1500*time.Millisecond, time.Minute).Hold(bg, "reconnect", func(ctx context.Context, _ int64) error {
		for range 6 {
			admin.Do(bg, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
			time.Sleep(300 * time.Millisecond)
		}
		return context.Cause(ctx)
	})
	if err != nil {
		t.Error(err)
	}
	nothingIsLeft(t)
}

func TestAContextThatIsCancelledBeforeTheRequestHasArrivedEndsTheWaitSoon(t *testing.T) {
	somebodyHolds("early", 30000)
	locks := New(here, 30*time.Second, time.Minute)
	for round := range 20 {
		ctx, cancel := context.WithTimeout(bg, time.Duration(round)*50*time.Microsecond)
		start := time.Now()
		err := hold(locks, ctx, "early", func(int64) error { panic("held") })
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) > 2*time.Second {
			t.Error(err, time.Since(start))
		}
		cancel()
	}
	admin.Do(bg, "LOCK.RELEASE", "early", "somebody")
	nothingIsLeft(t)
}

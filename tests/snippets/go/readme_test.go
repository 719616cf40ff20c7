// The block of README.md: the library of clients/go.
package pay

import (
	"context"
	"errors"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"fencelock"

	"github.com/redis/go-redis/v9"
)

var (
	admin = redis.NewClient(&redis.Options{Addr: "localhost:" + os.Getenv("LOCK_PORT")})
	bg    = context.Background()
)

func TestMain(m *testing.M) {
	locks = fencelock.New(admin)
	os.Exit(m.Run())
}

// Nobody holds the lock or waits for it, long before a lease could have ended.
func isFree(t *testing.T, invoice string) {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		waiting, err := admin.Do(bg, "LOCK.WAITERS", "invoice:"+invoice).Slice()
		free, _ := admin.Do(bg, "LOCK.AWAIT", "invoice:"+invoice, "FREE").Int()
		if err == nil && len(waiting) == 0 && free == 1 {
			return
		}
		if time.Now().After(end) {
			t.Fatal("not free: ", invoice, waiting, err)
		}
	}
}

func TestTwoHundredCallersAreServedOneAtATime(t *testing.T) {
	defer isFree(t, "7")
	calls, inside, fences := sync.WaitGroup{}, atomic.Int32{}, []int64{}
	for range 200 {
		calls.Go(func() {
			err := Pay(bg, "7", func(_ context.Context, fence int64) error {
				if inside.Add(1) != 1 {
					t.Error("two at a time")
				}
				fences = append(fences, fence)
				inside.Add(-1)
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	calls.Wait()
	if len(slices.Compact(slices.Clone(fences))) != 200 || !slices.IsSorted(fences) {
		t.Error(len(fences), "fences")
	}
}

func TestALostLockEndsTheContextAndIsTold(t *testing.T) {
	defer isFree(t, "8")
	err := Pay(bg, "8", func(ctx context.Context, _ int64) error {
		admin.Do(bg, "LOCK.BREAK", "invoice:8")
		return nil
	})
	if !errors.Is(err, fencelock.ErrLost) {
		t.Error(err)
	}
}

func TestAnErrorAndAPanicGiveTheLockBack(t *testing.T) {
	failure := errors.New("at work")
	if err := Pay(bg, "9", func(context.Context, int64) error { return failure }); !errors.Is(err, failure) {
		t.Error(err)
	}
	isFree(t, "9")
	func() {
		defer func() { _ = recover() }()
		_ = Pay(bg, "9", func(context.Context, int64) error { panic("at work") })
	}()
	isFree(t, "9")
}

func TestAContextThatEndsEndsTheWait(t *testing.T) {
	admin.Do(bg, "LOCK.ACQUIRE", "invoice:10", "somebody", "NOEXPIRE")
	ctx, cancel := context.WithTimeout(bg, 300*time.Millisecond)
	defer cancel()
	err := Pay(ctx, "10", func(context.Context, int64) error { panic("held") })
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	admin.Do(bg, "LOCK.RELEASE", "invoice:10", "somebody")
	isFree(t, "10")
}

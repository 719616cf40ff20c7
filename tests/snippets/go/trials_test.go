//go:build renewing

// What a block of Go that waits and renews by itself must stand. The server listens on LOCK_PORT and is the process LOCK_PID; LOCK_CLUSTER_PORT is a
// cluster of one node. The block is the rest of this package; each driver says in hold how it is called.
package locks

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"fencelock"

	"github.com/redis/go-redis/v9"
)

var (
	here    = redis.UniversalOptions{Addrs: []string{"localhost:" + os.Getenv("LOCK_PORT")}, PoolSize: 5}
	cluster = redis.UniversalOptions{Addrs: []string{"localhost:" + os.Getenv("LOCK_CLUSTER_PORT")}, IsClusterMode: true}
	admin   = redis.NewClient(&redis.Options{Addr: here.Addrs[0]})
	bg      = context.Background()
)

func info(field string) int {
	for line := range strings.Lines(admin.Info(bg, "everything").Val()) {
		if value, found := strings.CutPrefix(line, "lock_"+field+":"); found {
			n, _ := strconv.Atoi(strings.TrimSpace(value))
			return n
		}
	}
	return -1
}

func until(t *testing.T, what string, limit time.Duration, condition func() bool) {
	t.Helper()
	for end := time.Now().Add(limit); !condition(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// Nobody holds a lock or waits for one, long before a lease could have ended.
func nothingIsLeft(t *testing.T) {
	t.Helper()
	until(t, "locks and lines to be empty", 5*time.Second, func() bool { return info("held") == 0 && info("waiting") == 0 })
}

func somebodyHolds(key string, ms int) { admin.Do(bg, "LOCK.ACQUIRE", key, "somebody", "PX", ms) }

func TestMain(m *testing.M) {
	if key := os.Getenv("HOLD"); key != "" { // the process that will be killed
		hold(New(here, 1500*time.Millisecond, time.Minute), bg, key, func(int64) error {
			os.Stdout.WriteString("held\n")
			time.Sleep(time.Minute)
			return nil
		})
	}
	os.Exit(m.Run())
}

func TestTwoHundredCallersAreServedOneAtATime(t *testing.T) {
	defer nothingIsLeft(t)
	locks, calls := New(here, 30*time.Second, time.Minute), sync.WaitGroup{}
	var inside atomic.Int32
	var fences []int64
	for range 200 {
		calls.Go(func() {
			err := hold(locks, bg, "crowd", func(fence int64) error {
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

func TestTheDefaultSettingsOutlastTheSocketTimeoutOfTheClient(t *testing.T) {
	defer nothingIsLeft(t)
	somebodyHolds("slow", 7000)
	abandoned := info("abandoned")
	if err := hold(New(here, 30*time.Second, time.Minute), bg, "slow", func(int64) error { return nil }); err != nil {
		t.Error(err)
	}
	if info("abandoned") != abandoned {
		t.Error("the wait was cut")
	}
}

func TestABusyLockIsNil(t *testing.T) {
	somebodyHolds("busy", 30000)
	err := hold(New(here, 30*time.Second, 200*time.Millisecond), bg, "busy", func(int64) error { panic("held") })
	if !errors.Is(err, fencelock.ErrBusy) {
		t.Error(err)
	}
	admin.Do(bg, "LOCK.RELEASE", "busy", "somebody")
	nothingIsLeft(t)
}

func TestAPanicGivesTheLockBack(t *testing.T) {
	defer nothingIsLeft(t)
	defer func() { _ = recover() }()
	_ = hold(New(here, 30*time.Second, time.Minute), bg, "panic", func(int64) error { panic("at work") })
}

func TestALostLockIsTold(t *testing.T) {
	defer nothingIsLeft(t)
	err := hold(New(here, 30*time.Second, time.Minute), bg, "lost", func(int64) error {
		return admin.Do(bg, "LOCK.BREAK", "lost").Err()
	})
	if err == nil || !strings.Contains(err.Error(), "lost") {
		t.Error(err)
	}
}

func TestACancelledContextEndsTheWaitAndNoWorkRuns(t *testing.T) {
	defer nothingIsLeft(t)
	somebodyHolds("cancel", 30000)
	ctx, cancel := context.WithCancel(bg)
	done := make(chan error)
	go func() {
		done <- hold(New(here, 30*time.Second, time.Minute), ctx, "cancel", func(int64) error { panic("held") })
	}()
	until(t, "the wait", 5*time.Second, func() bool { return info("waiting") == 1 })
	cancel()
	select {
	case err := <-done:
		if !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	case <-time.After(5 * time.Second):
		t.Error("it still waits")
	}
	admin.Do(bg, "LOCK.RELEASE", "cancel", "somebody")
}

func TestContextsThatAreCancelledAtTheGrantLeaveNothingBehind(t *testing.T) {
	locks := New(here, 30*time.Second, time.Minute)
	for round := range 30 {
		somebodyHolds("grant", 30000)
		ctx, cancel := context.WithCancel(bg)
		calls := sync.WaitGroup{}
		for range 6 {
			calls.Go(func() {
				err := hold(locks, ctx, "grant", func(int64) error { return nil })
				if err != nil && !errors.Is(err, context.Canceled) {
					t.Error(err)
				}
			})
		}
		until(t, "six waits", 5*time.Second, func() bool { return info("waiting") == 6 })
		admin.Do(bg, "LOCK.RELEASE", "grant", "somebody")
		time.Sleep(time.Duration(round) * 20 * time.Microsecond)
		cancel()
		calls.Wait()
		nothingIsLeft(t)
	}
}

func TestASocketTimeoutLeavesNothingBehind(t *testing.T) {
	defer nothingIsLeft(t)
	pid, _ := strconv.Atoi(os.Getenv("LOCK_PID"))
	locks := New(here, 30*time.Second, 100*time.Millisecond) // the socket timeout is 5.1 s
	_ = hold(locks, bg, "stopped", func(int64) error { return nil })
	_ = syscall.Kill(pid, syscall.SIGSTOP)
	time.AfterFunc(5500*time.Millisecond, func() { _ = syscall.Kill(pid, syscall.SIGCONT) })
	if err := hold(locks, bg, "stopped", func(int64) error { panic("held") }); err == nil {
		t.Error("no error")
	}
}

func TestWaitsThatAreCutAtTheGrantLeaveNothingBehind(t *testing.T) {
	defer nothingIsLeft(t)
	locks, calls := New(here, 30*time.Second, time.Minute), sync.WaitGroup{}
	somebodyHolds("cut", 30000)
	for range 50 {
		calls.Go(func() { _ = hold(locks, bg, "cut", func(int64) error { return nil }) })
	}
	until(t, "50 waits", 5*time.Second, func() bool { return info("waiting") == 50 })
	_, _ = admin.TxPipelined(bg, func(pipe redis.Pipeliner) error {
		pipe.Do(bg, "LOCK.RELEASE", "cut", "somebody")
		pipe.Do(bg, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
		return nil
	})
	calls.Wait()
}

func TestAKilledHolderKeepsTheLockForOneLease(t *testing.T) {
	defer nothingIsLeft(t)
	holder := exec.Command(os.Args[0])
	holder.Env = append(os.Environ(), "HOLD=killed")
	out, _ := holder.StdoutPipe()
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	_, _ = out.Read(make([]byte, 5))
	start := time.Now()
	_ = holder.Process.Kill()
	_ = holder.Wait()
	if err := hold(New(here, 30*time.Second, time.Minute), bg, "killed", func(int64) error { return nil }); err != nil {
		t.Error(err)
	}
	if waited := time.Since(start); waited > 3*time.Second {
		t.Error("waited for", waited)
	}
}

func TestOnACluster(t *testing.T) {
	locks := New(cluster, 30*time.Second, time.Minute)
	for range 2 {
		if err := hold(locks, bg, "cluster", func(int64) error { return nil }); err != nil {
			t.Error(err)
		}
	}
}

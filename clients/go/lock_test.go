package fencelock_test

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"fencelock"

	"github.com/redis/go-redis/v9"
)

func TestAcquireAndRelease(t *testing.T) {
	_, locks := shared.use(t, nil)
	type name struct{}
	lock, err := locks.Acquire(context.WithValue(bg, name{}, "value"), "k")
	if err != nil || lock.Fence() == 0 || lock.Context().Value(name{}) != "value" {
		t.Fatal(err)
	}
	if _, err := locks.TryAcquire(bg, "k"); !errors.Is(err, fencelock.ErrBusy) {
		t.Error(err)
	}
	if err := lock.Release(bg); err != nil || context.Cause(lock.Context()) != fencelock.ErrReleased {
		t.Error(err, context.Cause(lock.Context()))
	}
	for _, err := range []error{lock.Release(bg), lock.Renew(bg, 0)} {
		if err != fencelock.ErrReleased {
			t.Error(err)
		}
	}
	again, err := locks.TryAcquire(bg, "k")
	if err != nil || again.Fence() <= lock.Fence() {
		t.Fatal(err)
	}
	ended, cancel := context.WithCancel(bg)
	cancel()
	if err := again.Release(ended); err != nil {
		t.Error(err)
	}
	shared.idle(t, "k")
}

func TestAContextThatEndsEndsTheWait(t *testing.T) {
	_, locks := shared.use(t, nil)
	shared.cmd("LOCK.ACQUIRE", "k", "other")
	ctx, cancel := context.WithCancel(bg)
	done := make(chan error)
	go func() {
		_, err := locks.Acquire(ctx, "k")
		done <- err
	}()
	until(t, "it waits", 5*time.Second, func() bool { return shared.stat("clients", "blocked_clients") == 1 })
	begun := time.Now()
	cancel()
	err := <-done
	if !errors.Is(err, context.Canceled) || !errors.Is(err, fencelock.ErrBusy) || time.Since(begun) > 10*time.Second {
		t.Error(err, time.Since(begun))
	}
	if shared.waiting("k") != 0 {
		t.Error("it is in line still")
	}
	if _, err := locks.Acquire(ctx, "k"); err != context.Canceled {
		t.Error(err)
	}
	ctx, cancel = context.WithTimeout(bg, 300*time.Millisecond)
	defer cancel()
	begun = time.Now()
	_, err = locks.Acquire(ctx, "k")
	if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, fencelock.ErrBusy) || time.Since(begun) > 10*time.Second {
		t.Error(err, time.Since(begun))
	}
	shared.cmd("LOCK.RELEASE", "k", "other")
	shared.idle(t, "k")
}

func TestContextsThatEndAtTheGrantLeaveNothing(t *testing.T) {
	_, locks := shared.use(t, nil)
	for round := range 30 {
		shared.cmd("LOCK.ACQUIRE", "k", "other")
		ctx, cancel := context.WithCancel(bg)
		var calls sync.WaitGroup
		for range 6 {
			calls.Go(func() {
				err := locks.Do(ctx, "k", func(context.Context, int64) error { return nil })
				if err != nil && !errors.Is(err, context.Canceled) {
					t.Error(err)
				}
			})
		}
		until(t, "six wait", 5*time.Second, func() bool { return shared.waiting("k") == 6 })
		shared.cmd("LOCK.RELEASE", "k", "other")
		time.Sleep(time.Duration(round) * 50 * time.Microsecond)
		cancel()
		calls.Wait()
		shared.idle(t, "k")
	}
}

func TestALossIsTold(t *testing.T) {
	_, locks := shared.use(t, nil)
	for reason, how := range map[string][]any{
		"broken": {"LOCK.BREAK", "k"}, "stolen": {"LOCK.STEAL", "k", "thief"}, "deleted": {"DEL", "k"}, "overwritten": {"SET", "k", "x"},
	} {
		for _, keys := range [][]string{{"k"}, {"j", "k"}} {
			shared.FlushAll(bg)
			lock, err := locks.AcquireMulti(bg, keys, fencelock.Lease(3*time.Second))
			if err != nil {
				t.Fatal(err)
			}
			shared.cmd(how...)
			select {
			case <-lock.Context().Done():
			case <-time.After(10 * time.Second):
				t.Error(reason, "was not told")
			}
			var lost *fencelock.LostError
			if !errors.As(context.Cause(lock.Context()), &lost) || lost.Reason != reason {
				t.Error(reason, keys, context.Cause(lock.Context()))
			}
			if err := lock.Release(bg); !errors.Is(err, fencelock.ErrLost) {
				t.Error(err)
			}
			if len(keys) > 1 {
				shared.idle(t, "j")
			}
		}
	}
}

func TestRenewAndTTL(t *testing.T) {
	_, locks := shared.use(t, nil)
	lock, err := locks.Acquire(bg, "k", fencelock.Lease(5*time.Second), fencelock.NoRenewal())
	if err != nil {
		t.Fatal(err)
	}
	if err := lock.Renew(bg, time.Minute); err != nil {
		t.Error(err)
	}
	if left, err := lock.TTL(bg); err != nil || left < 50*time.Second {
		t.Error(left, err)
	}
	shared.cmd("DEL", "k")
	if left, err := lock.TTL(bg); err != nil || left != 0 {
		t.Error(left, err)
	}
	if err := lock.Renew(bg, 0); err == nil || err.Error() != "fencelock: the lock is lost: k: deleted" {
		t.Error(err)
	}
	if !errors.Is(context.Cause(lock.Context()), fencelock.ErrLost) {
		t.Error("the context goes on")
	}
	brief, err := locks.Acquire(bg, "k", fencelock.Lease(200*time.Millisecond), fencelock.NoRenewal())
	if err != nil {
		t.Fatal(err)
	}
	<-brief.Context().Done()
	before := shared.calls("lock.renew")
	if err := brief.Renew(bg, time.Minute); !errors.Is(err, fencelock.ErrLost) || shared.calls("lock.renew") != before {
		t.Error("a lease that is over by our own clock is not renewed", err)
	}
}

func TestDo(t *testing.T) {
	_, locks := shared.use(t, nil)
	mine := errors.New("mine")
	if err := locks.Do(bg, "k", func(context.Context, int64) error { return mine }); !errors.Is(err, mine) {
		t.Error(err)
	}
	err := locks.Do(bg, "k", func(ctx context.Context, _ int64) error {
		shared.cmd("LOCK.BREAK", "k")
		<-ctx.Done()
		return context.Cause(ctx)
	}, fencelock.Lease(3*time.Second))
	if !errors.Is(err, fencelock.ErrLost) {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(bg)
	err = locks.Do(ctx, "k", func(ctx context.Context, _ int64) error {
		cancel()
		<-ctx.Done()
		return ctx.Err()
	})
	if !errors.Is(err, context.Canceled) || errors.Is(err, fencelock.ErrLost) {
		t.Error(err)
	}
	func() {
		defer func() { _ = recover() }()
		_ = locks.Do(bg, "k", func(context.Context, int64) error { panic("at work") })
	}()
	shared.idle(t, "k")
}

func TestADroppedLockEndsAndItsContextKeepsIt(t *testing.T) {
	_, locks := shared.use(t, nil)
	ctx := func() context.Context {
		lock, err := locks.Acquire(bg, "k")
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(lock.Context(), time.Minute)
		t.Cleanup(cancel)
		return ctx
	}()
	for range 3 {
		runtime.GC()
		time.Sleep(50 * time.Millisecond)
	}
	if shared.holders("k") != 1 || ctx.Err() != nil {
		t.Error("somebody had the context still")
	}
	if _, err := locks.Acquire(bg, "dropped"); err != nil {
		t.Fatal(err)
	}
	until(t, "the dropped lock is free", 10*time.Second, func() bool {
		runtime.GC()
		return shared.holders("dropped") == 0
	})
	runtime.KeepAlive(ctx)
}

func TestCloseEndsWaitsAndGivesBack(t *testing.T) {
	_, locks := shared.use(t, nil)
	lock, err := locks.Acquire(bg, "k")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() {
		_, err := locks.Acquire(bg, "k")
		done <- err
	}()
	until(t, "it waits", 5*time.Second, func() bool { return shared.waiting("k") == 1 })
	_ = locks.Close()
	if err := <-done; !errors.Is(err, fencelock.ErrClosed) {
		t.Error(err)
	}
	if !errors.Is(context.Cause(lock.Context()), fencelock.ErrLost) {
		t.Error(context.Cause(lock.Context()))
	}
	if _, err := locks.Acquire(bg, "k"); err != fencelock.ErrClosed {
		t.Error(err)
	}
	shared.idle(t, "k")
}

func TestManyOnAPoolOfOne(t *testing.T) {
	_, locks := shared.use(t, func(o *redis.Options) { o.PoolSize = 1 })
	shared.ConfigSet(bg, "lock.claim-ms", "10000") // the order is the point, not how busy this machine is
	defer shared.ConfigSet(bg, "lock.claim-ms", "1000")
	shared.cmd("LOCK.ACQUIRE", "k", "other")
	var fences []int64
	var locked sync.WaitGroup
	order := make([]int, 0, 8)
	for n := range 8 {
		locked.Go(func() {
			err := locks.Do(bg, "k", func(_ context.Context, fence int64) error {
				fences, order = append(fences, fence), append(order, n)
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		})
		until(t, "it is in line", 5*time.Second, func() bool { return shared.waiting("k") == n+1 })
	}
	shared.cmd("LOCK.RELEASE", "k", "other")
	locked.Wait()
	if len(order) != 8 || !slices.IsSorted(order) || !slices.IsSorted(fences) {
		t.Error(order, fences)
	}
}

func TestTheSameOwnerAsksAgain(t *testing.T) {
	_, locks := shared.use(t, nil)
	shared.cmd("LOCK.ACQUIRE", "k", "other")
	done := make(chan error)
	go func() {
		lock, err := locks.Acquire(bg, "k")
		if err == nil {
			err = lock.Release(bg)
		}
		done <- err
	}()
	blocked := func() bool { return shared.stat("clients", "blocked_clients") == 1 }
	until(t, "it waits", 5*time.Second, blocked)
	shared.cmd("LOCK.ACQUIRE", "k", "later", "QUEUE", "60000")
	for _, how := range [][]any{{"ERROR"}, {"TIMEOUT"}, {}} {
		for line := range strings.Lines(shared.ClientList(bg).Val()) {
			var id int64
			if _, _ = fmt.Sscanf(line, "id=%d", &id); strings.Contains(line, "cmd=lock.acquire") && strings.Contains(line, "flags=b") {
				if len(how) == 0 {
					shared.cmd("CLIENT", "KILL", "ID", id)
				} else {
					shared.cmd("CLIENT", "UNBLOCK", id, how[0])
				}
			}
		}
		time.Sleep(50 * time.Millisecond)
		until(t, "it waits again", 5*time.Second, blocked)
	}
	readonly := func() int { return shared.number("errorstats", "errorstat_READONLY:count=%d") }
	before := readonly()
	t.Cleanup(func() { shared.cmd("REPLICAOF", "NO", "ONE") })
	shared.cmd("REPLICAOF", "127.0.0.1", "1")
	until(t, "it asks a replica", 10*time.Second, func() bool { return readonly() > before })
	shared.cmd("REPLICAOF", "NO", "ONE")
	until(t, "it waits on the new primary", 5*time.Second, func() bool { return shared.waiting("k") > 0 })
	shared.cmd("LOCK.RELEASE", "k", "other")
	shared.cmd("LOCK.RECOVERY", "END") // which began with the promotion
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestADeadlockIsTold(t *testing.T) {
	_, locks := shared.use(t, nil)
	lock, err := locks.Acquire(bg, "a", fencelock.Owner("me"))
	if err != nil || lock.Owner() != "me" {
		t.Fatal(err)
	}
	shared.cmd("LOCK.ACQUIRE", "b", "other")
	shared.cmd("LOCK.ACQUIRE", "a", "other", "QUEUE", "60000")
	if _, err := locks.Acquire(bg, "b", fencelock.Owner("me")); !errors.Is(err, fencelock.ErrDeadlock) {
		t.Error(err)
	}
	_ = lock.Release(bg)
	shared.cmd("LOCK.RELEASE", "a", "other", "CANCEL")
	shared.cmd("LOCK.RELEASE", "b", "other")
	shared.idle(t, "a", "b")
}

func TestPermits(t *testing.T) {
	_, locks := shared.use(t, nil)
	two, err := locks.TryAcquire(bg, "k", fencelock.Limit(3, 2))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := locks.TryAcquire(bg, "k", fencelock.Limit(3, 2)); !errors.Is(err, fencelock.ErrBusy) {
		t.Error(err)
	}
	one, err := locks.TryAcquire(bg, "k", fencelock.Limit(3, 1))
	if err = errors.Join(err, two.Release(bg), one.Release(bg)); err != nil {
		t.Error(err)
	}
}

func TestAThousandLocksAreRenewedInFewRequests(t *testing.T) {
	_, locks := shared.use(t, nil)
	held := make([]*fencelock.Lock, 1000)
	for n := range held {
		held[n], _ = locks.Acquire(bg, fmt.Sprint("k", n), fencelock.Lease(9*time.Second))
	}
	renewals, reads := shared.calls("lock.renew"), shared.stat("stats", "total_reads_processed")
	time.Sleep(6500 * time.Millisecond)
	renewals, reads = shared.calls("lock.renew")-renewals, shared.stat("stats", "total_reads_processed")-reads
	for _, lock := range held {
		if err := lock.Context().Err(); err != nil {
			t.Error(err)
		}
	}
	t.Logf("%d renewals in %d reads", renewals, reads)
	if renewals < 2000 || reads > renewals/10 {
		t.Error("not in few requests")
	}
	for _, lock := range held {
		_ = lock.Release(bg)
	}
}

const rights = "on >secret resetkeys ~lock:* resetchannels -@all +ping +hello +lock.acquire +lock.release +lock.renew +lock.check"

func asApp(t *testing.T, s *server, change func(*redis.Options)) {
	if err := s.ACLSetUser(bg, "app", strings.Fields(rights)...).Err(); err != nil {
		t.Fatal(err)
	}
	_, locks := s.use(t, func(o *redis.Options) {
		o.Username, o.Password = "app", "secret"
		change(o)
	})
	s.cmd("LOCK.ACQUIRE", "lock:k", "other", "PX", "300")
	before := s.calls("lock.renew")
	err := locks.Do(bg, "lock:k", func(ctx context.Context, _ int64) error {
		until(t, "it was renewed", 5*time.Second, func() bool { return s.calls("lock.renew") >= before+2 })
		return context.Cause(ctx)
	}, fencelock.Lease(4500*time.Millisecond))
	if err != nil {
		t.Error(err)
	}
	if _, err := locks.Acquire(bg, "elsewhere"); err == nil || !strings.HasPrefix(err.Error(), "NOPERM") {
		t.Error(err)
	}
	s.idle(t, "lock:k")
}

func TestAUserWithFewRights(t *testing.T) {
	asApp(t, shared, func(*redis.Options) {})
	shared.cmd("ACL", "DELUSER", "app")
	_, locks := shared.use(t, func(o *redis.Options) { o.Username, o.Password = "app", "secret" })
	begun := time.Now()
	if _, err := locks.Acquire(bg, "k"); err == nil || time.Since(begun) > 5*time.Second {
		t.Error("a refused login is not tried again", err, time.Since(begun))
	}
}

func TestTLS(t *testing.T) {
	dir := t.TempDir()
	make := exec.Command("openssl", strings.Fields("req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -keyout key -out crt")...)
	make.Dir = dir
	if out, err := make.CombinedOutput(); err != nil {
		t.Fatal(string(out))
	}
	port := freePort()
	s, err := launch("--tls-port", fmt.Sprint(port), "--tls-cert-file", dir+"/crt", "--tls-key-file", dir+"/key",
		"--tls-ca-cert-file", dir+"/crt", "--tls-auth-clients", "no")
	if err != nil {
		t.Skip("this server was built without TLS")
	}
	t.Cleanup(s.stop)
	asApp(t, s, func(o *redis.Options) { o.Addr, o.TLSConfig = fmt.Sprint("127.0.0.1:", port), trusting() })
}

func TestClusterAndRing(t *testing.T) {
	s := start("--cluster-enabled", "yes")
	t.Cleanup(s.stop)
	s.cmd("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
	until(t, "the cluster is there", 10*time.Second, func() bool {
		return strings.Contains(s.ClusterInfo(bg).Val(), "cluster_state:ok")
	})
	for _, client := range []redis.UniversalClient{
		redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{s.addr()}, ReadOnly: true}),
		redis.NewRing(&redis.RingOptions{Addrs: map[string]string{"one": s.addr()}}),
		struct{ *redis.Client }{redis.NewClient(&redis.Options{Addr: s.addr()})}, // one that is not known
	} {
		locks := fencelock.New(client)
		lock, err := locks.AcquireMulti(bg, []string{"{k}:a", "{k}:b"}, fencelock.Lease(4500*time.Millisecond))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(bg, 1500*time.Millisecond)
		if _, err := locks.Acquire(ctx, "{k}:b"); !errors.Is(err, fencelock.ErrBusy) {
			t.Error(err)
		}
		cancel()
		if left, err := lock.TTL(bg); err != nil || left < time.Second || lock.Context().Err() != nil {
			t.Error(left, err)
		}
		if err := lock.Release(bg); err != nil {
			t.Error(err)
		}
		s.idle(t, "{k}:a", "{k}:b")
		_ = locks.Close()
		_ = client.Close()
	}
}

func TestARefusalThatStaysEndsTheHoldAtOnce(t *testing.T) {
	_, locks := shared.use(t, nil)
	lock, err := locks.Acquire(bg, "k", fencelock.Lease(3*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	shared.ConfigSet(bg, "lock.max-lease-ms", "1000")
	defer shared.ConfigSet(bg, "lock.max-lease-ms", "604800000")
	<-lock.Context().Done()
	var lost *fencelock.LostError
	if !errors.As(context.Cause(lock.Context()), &lost) || lost.Reason != "BADARG" {
		t.Error(context.Cause(lock.Context()))
	}
	_ = lock.Release(bg)
	shared.idle(t, "k")
}

func TestARenewalThatHangsDoesNotDelayWordOfAnotherLoss(t *testing.T) {
	_, locks := shared.use(t, func(o *redis.Options) { o.Addr = faults.addr })
	long, err := locks.Acquire(bg, "long", fencelock.Lease(9*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	faults.tell("fault LOCK.RENEW half-open")
	defer faults.tell("heal")
	time.Sleep(3100 * time.Millisecond) // the renewal is under way, and has 5 s
	begun := time.Now()
	short, err := locks.Acquire(bg, "short", fencelock.Lease(400*time.Millisecond), fencelock.NoRenewal())
	if err != nil {
		t.Fatal(err)
	}
	<-short.Context().Done()
	if took := time.Since(begun); took > 3*time.Second {
		t.Error("told after", took)
	}
	_ = short.Release(bg)
	if err := long.Release(bg); err != nil {
		t.Error(err)
	}
	shared.idle(t, "long", "short")
}

package fencelock_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"fencelock"

	"github.com/redis/go-redis/v9"
)

// watchOver starts a Sentinel for the primary at this port.
func watchOver(t *testing.T, primary int) (*redis.SentinelClient, *redis.FailoverOptions) {
	port, dir := freePort(), t.TempDir()
	conf := filepath.Join(dir, "sentinel.conf")
	text := fmt.Sprintf("port %d\nbind 127.0.0.1\ndir %s\nsentinel monitor main 127.0.0.1 %d 1\n", port, dir, primary)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	process := exec.Command(os.Getenv("SERVER_BIN"), conf, "--sentinel")
	if err := process.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = process.Process.Kill(), process.Wait() })
	addr := fmt.Sprint("127.0.0.1:", port)
	sentinel := redis.NewSentinelClient(&redis.Options{Addr: addr})
	t.Cleanup(func() { _ = sentinel.Close() })
	return sentinel, &redis.FailoverOptions{MasterName: "main", SentinelAddrs: []string{addr}}
}

// TestSentinel holds a lock through a planned failover: the replica that takes over has it. The old primary says yes to all
// for some seconds more, so nothing may be asked there.
func TestSentinel(t *testing.T) {
	primary := start()
	t.Cleanup(primary.stop)
	replica := start("--replicaof", fmt.Sprintf("127.0.0.1 %d", primary.port))
	t.Cleanup(replica.stop)
	until(t, "the replica follows", 20*time.Second, func() bool { return replica.stat("replication", "slave_repl_offset") > 0 })
	sentinel, options := watchOver(t, primary.port)
	until(t, "the Sentinel knows both", 20*time.Second, func() bool {
		replicas, err := sentinel.Replicas(bg, "main").Result()
		return err == nil && len(replicas) == 1 && replicas[0]["master-link-status"] == "ok"
	})

	client := redis.NewFailoverClient(options)
	locks := fencelock.New(client)
	t.Cleanup(func() { _, _ = locks.Close(), client.Close() })
	lock, err := locks.Acquire(bg, "k", fencelock.Lease(15*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	until(t, "the replica has it", 10*time.Second, func() bool { return replica.holders("k") == 1 })
	if err := sentinel.Failover(bg, "main").Err(); err != nil {
		t.Fatal(err)
	}
	until(t, "the replica is the primary", 30*time.Second, func() bool {
		return replica.Do(bg, "ROLE").Val().([]any)[0] == "master"
	})
	ctx, cancel := context.WithTimeout(bg, 30*time.Second)
	defer cancel()
	until(t, "the lock is renewed there", 15*time.Second, func() bool { return replica.calls("lock.renew") > 0 })
	if err := errors.Join(context.Cause(lock.Context()), lock.Renew(ctx, 0), lock.Release(ctx)); err != nil {
		t.Fatal(err)
	}
	replica.cmd("LOCK.RECOVERY", "END") // nothing was lost
	next, err := locks.Acquire(ctx, "k")
	if err != nil || next.Fence() <= lock.Fence() {
		t.Fatal(err)
	}
	if err := next.Release(ctx); err != nil {
		t.Error(err)
	}
	replica.idle(t, "k")
}

// TestALimitHoldsOverAClientForSentinel has a server that is silent. The client tries again by itself, which must not take longer.
func TestALimitHoldsOverAClientForSentinel(t *testing.T) {
	primary := start()
	t.Cleanup(primary.stop)
	between := startProxy(primary.port)
	t.Cleanup(between.stop)
	_, port, _ := net.SplitHostPort(between.addr)
	number, _ := strconv.Atoi(port)
	sentinel, options := watchOver(t, number)
	until(t, "the Sentinel knows it", 20*time.Second, func() bool { return sentinel.Master(bg, "main").Val()["flags"] == "master" })
	options.ReadTimeout = 2 * time.Second // and so the limit of a request
	client := redis.NewFailoverClient(options)
	locks := fencelock.New(client)
	t.Cleanup(func() { _, _ = locks.Close(), client.Close() })
	for range 8 {
		between.tell("fault LOCK.ACQUIRE half-open")
	}
	begun := time.Now()
	_, err := locks.TryAcquire(bg, "k") // which asks twice
	if took := time.Since(begun); err == nil || took > 6*time.Second {
		t.Error(err, "after", took)
	}
	between.tell("heal")
	primary.idle(t, "k")
}

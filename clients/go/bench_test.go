package fencelock_test

import (
	"context"
	"syscall"
	"testing"

	"fencelock"

	"github.com/redis/go-redis/v9"
)

// BenchmarkPair is one acquire and one release by the library, and BenchmarkRaw the same two commands by go-redis alone; what
// counts is the time of the processor.
func BenchmarkPair(b *testing.B) {
	client := redis.NewClient(&redis.Options{Addr: shared.addr()})
	locks := fencelock.New(client)
	measure(b, func(ctx context.Context) error {
		lock, err := locks.TryAcquire(ctx, "pair")
		if err != nil {
			return err
		}
		return lock.Release(ctx)
	})
	_, _ = locks.Close(), client.Close()
}

func BenchmarkRaw(b *testing.B) {
	client := redis.NewClient(&redis.Options{Addr: shared.addr()})
	measure(b, func(ctx context.Context) error {
		fence, err := client.Do(ctx, "LOCK.ACQUIRE", "raw", "bench:12345:owner", "PX", 30000).Int64()
		if err != nil {
			return err
		}
		return client.Do(ctx, "LOCK.RELEASE", "raw", "bench:12345:owner", "FENCE", fence).Err()
	})
	_ = client.Close()
}

func measure(b *testing.B, pair func(context.Context) error) {
	before := processorTime()
	for b.Loop() {
		if err := pair(bg); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(processorTime()-before)/float64(b.N), "cpu-ns/op")
}

func processorTime() int64 {
	var usage syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &usage)
	return usage.Utime.Nano() + usage.Stime.Nano()
}

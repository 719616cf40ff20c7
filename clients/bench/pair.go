// The program of clients/bench in Go, on go-redis. See bench.py for what it obeys.
package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"fencelock"

	"github.com/redis/go-redis/v9"
)

func main() {
	ctx := context.Background()
	client := redis.NewClient(&redis.Options{Addr: "127.0.0.1:" + os.Args[1]})
	locks := fencelock.New(client)
	held := []*fencelock.Lock{}
	acquire := func(key string, opts ...fencelock.Option) *fencelock.Lock {
		lock, err := locks.Acquire(ctx, key, opts...)
		if err != nil {
			panic(err)
		}
		return lock
	}
	release := func(lock *fencelock.Lock) {
		if err := lock.Release(ctx); err != nil {
			panic(err)
		}
	}
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); fmt.Println("ok") {
		words := strings.Fields(lines.Text())
		n, _ := strconv.Atoi(words[1])
		switch words[0] {
		case "raw":
			for range n {
				fence, err := client.Do(ctx, "LOCK.ACQUIRE", "raw", "bench:12345:0123456789abcdef", "PX", 30000).Int64()
				if err != nil {
					panic(err)
				}
				if err := client.Do(ctx, "LOCK.RELEASE", "raw", "bench:12345:0123456789abcdef", "FENCE", fence).Err(); err != nil {
					panic(err)
				}
			}
		case "lib":
			for range n {
				release(acquire("pair"))
			}
		case "hold":
			lease, _ := strconv.Atoi(words[2])
			for i := range n {
				held = append(held, acquire(fmt.Sprint("held:", i), fencelock.Lease(time.Duration(lease)*time.Millisecond)))
			}
		case "drop":
			for _, lock := range held {
				release(lock)
			}
			held = nil
		case "turn":
			lock := acquire(words[1])
			fmt.Println("wall", time.Now().UnixNano())
			release(lock)
		case "rtt":
			for range n {
				begun := time.Now()
				client.Do(ctx, "PING")
				fmt.Println(time.Since(begun).Nanoseconds())
			}
		}
	}
}

// Clients of redsync: one, driven line by line, or a crowd; see src/peers/child.rs for the words.
package main

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/go-redsync/redsync/v4"
	"github.com/go-redsync/redsync/v4/redis"
	"github.com/go-redsync/redsync/v4/redis/goredis/v9"
	goredis9 "github.com/redis/go-redis/v9"
)

// Never ends by itself.
const tries = 1_000_000

func client(leaseMs, pollMs, name string, ports []string) *redsync.Mutex {
	lease, _ := strconv.Atoi(leaseMs)
	poll, _ := strconv.Atoi(pollMs)
	var pools []redis.Pool
	for _, port := range ports {
		pools = append(pools, goredis.NewPool(goredis9.NewClient(&goredis9.Options{Addr: "127.0.0.1:" + port})))
	}
	return redsync.New(pools...).NewMutex(name,
		redsync.WithExpiry(time.Duration(lease)*time.Millisecond),
		redsync.WithRetryDelay(time.Duration(poll)*time.Millisecond),
		redsync.WithTries(tries))
}

func one(mutex *redsync.Mutex, lines *bufio.Scanner) {
	fmt.Println("ready")
	for lines.Scan() {
		if lines.Text() == "acquire" {
			if err := mutex.Lock(); err != nil {
				fmt.Println("error", strings.ReplaceAll(err.Error(), "\n", " "))
			} else {
				fmt.Println("held -")
			}
		} else if ok, err := mutex.Unlock(); ok && err == nil {
			fmt.Println("released 1")
		} else {
			fmt.Println("released 0")
		}
	}
}

func main() {
	lines := bufio.NewScanner(os.Stdin)
	words := os.Args[1:]
	if words[0] == "crowd" {
		crowd(words, lines)
	} else {
		one(client(words[2], words[3], words[4], words[6:]), lines)
	}
}

// One client of redsync, driven line by line; see src/peers/child.rs for the words.
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

func main() {
	lease, _ := strconv.Atoi(os.Args[2])
	poll, _ := strconv.Atoi(os.Args[3])
	var pools []redis.Pool
	for _, port := range os.Args[6:] {
		pools = append(pools, goredis.NewPool(goredis9.NewClient(&goredis9.Options{Addr: "127.0.0.1:" + port})))
	}
	mutex := redsync.New(pools...).NewMutex(os.Args[4],
		redsync.WithExpiry(time.Duration(lease)*time.Millisecond),
		redsync.WithRetryDelay(time.Duration(poll)*time.Millisecond),
		redsync.WithTries(1_000_000))
	fmt.Println("ready")
	lines := bufio.NewScanner(os.Stdin)
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

package main

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-redsync/redsync/v4"
)

const drain = 5 * time.Second

var began = time.Now()

func now() int64 {
	return int64(time.Since(began)) + 1
}

// One client of a crowd and what it did.
type worker struct {
	mutex   *redsync.Mutex
	mu      sync.Mutex
	events  []string
	waiting atomic.Int64
}

// One client after the other, each with connections of its own.
func crowd(words []string, lines *bufio.Scanner) {
	clients, _ := strconv.Atoi(words[4])
	holdMs, _ := strconv.Atoi(words[5])
	var workers []*worker
	for index := range clients {
		name := words[7]
		if words[6] != "one" {
			name += "n" + strconv.Itoa(index)
		}
		workers = append(workers, &worker{mutex: client(words[2], words[3], name, words[8:])})
	}
	fmt.Println("ready")
	for lines.Scan() {
		fmt.Println("now", now())
		if !round(workers, time.Duration(holdMs)*time.Millisecond, lines) {
			return
		}
	}
}

// False: some wait for ever.
func round(workers []*worker, hold time.Duration, lines *bufio.Scanner) bool {
	var ends atomic.Bool
	var group sync.WaitGroup
	for index, each := range workers {
		each.events = nil
		group.Add(1)
		go func() {
			defer group.Done()
			each.work(index, hold, &ends)
		}()
	}
	lines.Scan()
	ends.Store(true)
	done := make(chan struct{})
	go func() { group.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(drain):
	}
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	idle := true
	for _, each := range workers {
		each.mu.Lock()
		out.WriteString(strings.Join(each.events, ""))
		each.mu.Unlock()
		if since := each.waiting.Load(); since > 0 {
			idle = false
			fmt.Fprintln(out, "waiting", since)
		}
	}
	fmt.Fprintln(out, "end")
	return idle
}

func (w *worker) work(index int, hold time.Duration, ends *atomic.Bool) {
	for !ends.Load() {
		asked := now()
		w.waiting.Store(asked)
		if w.mutex.Lock() != nil {
			continue
		}
		granted := now()
		w.waiting.Store(0)
		time.Sleep(hold)
		releasing := now()
		w.mutex.Unlock()
		event := fmt.Sprintln(index, asked, granted, releasing, now())
		w.mu.Lock()
		w.events = append(w.events, event)
		w.mu.Unlock()
		time.Sleep(hold)
	}
}

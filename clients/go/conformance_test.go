package fencelock_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"fencelock"

	"github.com/redis/go-redis/v9"
)

type scenario struct {
	Name   string
	Client struct {
		Connections int
		Timeout     float64
	}
	Keys, Needs []string
	NotYet      string `json:"not-yet"`
	Steps       []step
}

type step struct {
	Do, Kind, Reason, Line        string
	Who, Expect, Reply            any
	Wait                          *float64
	Timeout, Within, For, Seconds float64
	Renew, Later                  bool
	Limit, N                      int
	Args                          []any
	Waiting, Holders, Blocked     *int
}

// call is one acquire, and what came of it.
type call struct {
	done   chan struct{}
	cancel context.CancelFunc
	lock   *fencelock.Lock
	err    error
	alone  bool
}

type play struct {
	*testing.T
	client    *redis.Client
	locks     *fencelock.Locker
	keys      []string
	calls     map[string]*call
	fences    map[string]int64
	believers map[string]bool
	taken     []*redis.Conn
	crowd     sync.WaitGroup
	mu        sync.Mutex
	order     []int
}

// TestConformance plays clients/conformance/scenarios.json.
func TestConformance(t *testing.T) {
	var all []scenario
	data, err := os.ReadFile("../conformance/scenarios.json")
	if err = errors.Join(err, json.Unmarshal(data, &all)); err != nil {
		t.Fatal(err)
	}
	for _, s := range all {
		t.Run(s.Name, func(t *testing.T) {
			if s.NotYet != "" {
				t.Skip(s.NotYet)
			}
			if slices.Contains(s.Needs, "fork") {
				t.Skip("a Go program does not fork")
			}
			faults.tell("heal")
			client, locks := shared.use(t, func(o *redis.Options) {
				o.Addr, o.PoolSize = faults.addr, max(s.Client.Connections, 50*(1-min(1, s.Client.Connections)))
				o.ReadTimeout = seconds(s.Client.Timeout, 5)
			})
			p := &play{T: t, client: client, locks: locks, keys: s.Keys, calls: map[string]*call{}, fences: map[string]int64{}, believers: map[string]bool{}}
			if p.keys == nil {
				p.keys = []string{"k"}
			}
			for _, step := range s.Steps {
				p.step(step)
			}
			shared.idle(t, p.keys...)
			faults.tell("heal")
		})
	}
}

func seconds(n, otherwise float64) time.Duration {
	if n == 0 {
		n = otherwise
	}
	return time.Duration(n * float64(time.Second))
}

func outcome(err error) string {
	switch {
	case err == nil:
		return "held"
	case errors.Is(err, fencelock.ErrLost):
		return "not-owned"
	case errors.Is(err, fencelock.ErrBusy):
		return "busy"
	}
	return "error"
}

func (p *play) step(s step) {
	who, _ := s.Who.(string)
	c := p.calls[who]
	switch s.Do {
	case "acquire":
		p.calls[who] = p.acquire(s)
		if !s.Later {
			p.join(who, s)
		}
	case "join":
		p.join(who, s)
	case "cancel":
		c.cancel()
	case "release":
		delete(p.believers, who)
		result := outcome(c.lock.Release(bg))
		if result == "held" {
			result = "ok"
		}
		p.same(s.Do, result, s.Expect)
	case "owned":
		left, err := c.lock.TTL(bg)
		p.same(s.Do, left > 0 && err == nil, s.Expect)
	case "lost":
		until(p.T, who+" is told of the loss", seconds(s.Within, 5), func() bool { return c.lock.Context().Err() != nil })
		var lost *fencelock.LostError
		if !errors.As(context.Cause(c.lock.Context()), &lost) || lost.Reason != s.Reason {
			p.Fatal(context.Cause(c.lock.Context()))
		}
	case "not-lost":
		time.Sleep(seconds(s.For, 0))
		if err := context.Cause(c.lock.Context()); err != nil {
			p.Fatal(err)
		}
	case "drop":
		delete(p.calls, who)
		delete(p.believers, who)
		c = nil
		runtime.GC()
	case "rising":
		for names := s.Who.([]any); len(names) > 1; names = names[1:] {
			if p.fences[names[0].(string)] >= p.fences[names[1].(string)] {
				p.Fatal(p.fences)
			}
		}
	case "crowd":
		p.gather(s.N)
	case "crowd-in-order":
		until(p.T, "all had their turn", seconds(s.Within, 5), func() bool {
			p.mu.Lock()
			defer p.mu.Unlock()
			return len(p.order) == cap(p.order)
		})
		p.crowd.Wait()
		p.same(s.Do, slices.IsSorted(p.order), true)
	case "exhaust":
		for range p.client.Options().PoolSize {
			conn := p.client.Conn()
			p.same("ping", conn.Ping(bg).Err(), nil)
			p.taken = append(p.taken, conn)
		}
	case "give-back":
		for _, conn := range p.taken {
			_ = conn.Close()
		}
	case "server":
		if reply := shared.cmd(s.Args...); s.Reply != nil {
			p.same(s.Do, reply, s.Reply)
		}
	case "until":
		until(p.T, fmt.Sprintf("%+v", s), seconds(s.Within, 5), func() bool {
			return (s.Waiting == nil || shared.waiting(p.keys[0]) == *s.Waiting) &&
				(s.Holders == nil || shared.holders(p.keys[0]) == *s.Holders) &&
				(s.Blocked == nil || shared.stat("clients", "blocked_clients") == *s.Blocked)
		})
	case "fault":
		faults.tell(s.Line)
	case "sleep":
		time.Sleep(seconds(s.Seconds, 0))
	default:
		p.Fatal("unknown step ", s.Do)
	}
}

func (p *play) same(what string, is, wanted any) {
	p.Helper()
	if is != wanted {
		p.Fatalf("%s: %v, expected %v", what, is, wanted)
	}
}

func (p *play) acquire(s step) *call {
	options := []fencelock.Option{fencelock.Lease(seconds(s.Timeout, 10))}
	if !s.Renew {
		options = append(options, fencelock.NoRenewal())
	}
	acquire, keys := p.locks.AcquireMulti, p.keys[:1]
	switch s.Kind {
	case "shared":
		options = append(options, fencelock.Shared())
	case "semaphore":
		options = append(options, fencelock.Limit(s.Limit, 1))
	case "multi":
		keys = p.keys
	}
	c := &call{done: make(chan struct{}), alone: s.Kind == "" || s.Kind == "multi"}
	ctx, cancel := context.WithCancel(bg)
	if s.Wait != nil && *s.Wait == 0 {
		acquire = p.locks.TryAcquireMulti
	} else if s.Wait != nil {
		ctx, cancel = context.WithTimeout(bg, seconds(*s.Wait, 0))
	}
	c.cancel = cancel
	go func() {
		defer close(c.done)
		c.lock, c.err = acquire(ctx, keys, options...)
	}()
	return c
}

func (p *play) join(who string, s step) {
	c := p.calls[who]
	select {
	case <-c.done:
	case <-time.After(seconds(s.Within, 5)):
		p.Fatal(who, " still waits")
	}
	if outcome(c.err) != s.Expect {
		p.Fatalf("%s: %v, expected %v", who, c.err, s.Expect)
	}
	if c.err == nil {
		for other := range p.believers {
			if c.alone && p.calls[other].lock.Context().Err() == nil {
				p.Fatalf("%s and %s believe in one lock at one moment", who, other)
			}
		}
		p.believers[who], p.fences[who] = true, c.lock.Fence()
	}
}

func (p *play) gather(n int) {
	p.order = make([]int, 0, n)
	for i := range n {
		before := shared.waiting(p.keys[0])
		p.crowd.Go(func() {
			lock, err := p.locks.Acquire(bg, p.keys[0])
			if err != nil {
				p.Error(err)
				return
			}
			p.mu.Lock()
			p.order = append(p.order, i)
			p.mu.Unlock()
			if err := lock.Release(bg); err != nil {
				p.Error(err)
			}
		})
		until(p.T, "it is in line", 5*time.Second, func() bool { return shared.waiting(p.keys[0]) == before+1 })
	}
}

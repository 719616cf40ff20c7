package fencelock_test

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
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
		Direct      bool
	}
	Keys, Needs, On []string
	Thorough        bool
	Except          map[string]string
	NotYet          string `json:"not-yet"`
	Steps           []step
}

type step struct {
	Do, Kind, Reason, Line        string
	Owner, Key, With, Mode        string
	Who, Expect, Reply            any
	Wait                          *float64
	Timeout, Within, For, Seconds float64
	Renew, Later, Watch           bool
	Limit, N, Program, Renewals   int
	AtMost                        int `json:"at-most"`
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
	key    string
}

type play struct {
	*testing.T
	client    *redis.Client
	home      *server // where the keys are
	next      *server // where they will be, if there is a successor
	locks     *fencelock.Locker
	second    *fencelock.Locker // of another program
	deployed  *deployed         // without the proxy, or nil
	many      []*fencelock.Lock
	keys      []string
	calls     map[string]*call
	fences    map[string]int64
	believers map[string]bool
	taken     []*redis.Conn
	crowd     sync.WaitGroup
	mu        sync.Mutex
	order     []int
}

func scenarios(t *testing.T) (all []scenario) {
	data, err := os.ReadFile("../conformance/scenarios.json")
	if err = errors.Join(err, json.Unmarshal(data, &all)); err != nil {
		t.Fatal(err)
	}
	return all
}

func newPlay(t *testing.T, s scenario, home *server, locks *fencelock.Locker) *play {
	p := &play{T: t, home: home, locks: locks, keys: s.Keys, calls: map[string]*call{}, fences: map[string]int64{}, believers: map[string]bool{}}
	if p.keys == nil {
		p.keys = []string{"k"}
	}
	return p
}

func (p *play) play(s scenario) {
	for _, step := range s.Steps {
		p.step(step)
	}
	p.home.idle(p.T, p.keys...)
}

// TestConformance plays clients/conformance/scenarios.json.
func TestConformance(t *testing.T) {
	for _, s := range scenarios(t) {
		t.Run(s.Name, func(t *testing.T) {
			if reason := s.reason("restart", "unblock", "successor"); reason != "" {
				t.Skip(reason)
			}
			faults.tell("heal")
			shared.reset()
			options := func(o *redis.Options) {
				o.Addr, o.PoolSize = faults.addr, max(s.Client.Connections, 50*(1-min(1, s.Client.Connections)))
				o.ReadTimeout = seconds(s.Client.Timeout, 5)
				if s.Client.Direct {
					o.Addr = shared.addr()
				}
			}
			var successor *server
			if slices.Contains(s.Needs, "successor") {
				successor = start()
				t.Cleanup(successor.stop)
				successor.cmd("CONFIG", "SET", "lock.recovery-window-ms", 10000)
				successor.cmd("LOCK.ACQUIRE", "before", "other")
			}
			client, locks := shared.use(t, options)
			p := newPlay(t, s, shared, locks)
			p.client, p.next = client, successor
			if slices.Contains(s.Needs, "two-programs") {
				other := redis.NewClient(client.Options())
				p.second = fencelock.New(other)
				t.Cleanup(func() { _, _ = p.second.Close(), other.Close() })
			}
			p.play(s)
			faults.tell("heal")
		})
	}
}

// reason says why a scenario is not played; can names what the driver knows to do here beside the usual.
func (s *scenario) reason(can ...string) string {
	if s.Thorough && os.Getenv("BRIEF") != "" {
		return "only in the long form"
	}
	if s.NotYet != "" || s.Except["go"] != "" {
		return s.NotYet + s.Except["go"]
	}
	can = append(can, "cancel", "drop", "pool", "owner", "key", "extend", "close", "two-programs", "many", "watch")
	for _, need := range s.Needs {
		if need == "fork" {
			return "a Go program does not fork"
		}
		if !slices.Contains(can, need) {
			return "this driver does not know " + need
		}
	}
	return ""
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
		p.settled(s, c.lock.Release(bg))
	case "extend":
		p.settled(s, c.lock.Renew(bg, seconds(s.Seconds, 0)))
	case "close":
		_ = p.locks.Close()
	case "successor":
		p.home = p.next
		p.home.cmd("REPLICAOF", "127.0.0.1", "1")
		p.home.cmd("REPLICAOF", "NO", "ONE")
		faults.tell(fmt.Sprint("server ", p.home.port))
	case "restart":
		p.home.restart(p.T)
	case "unblock":
		for line := range strings.Lines(p.home.ClientList(bg).Val()) {
			if fields := strings.Fields(line); strings.Contains(line, " cmd=lock.") && strings.Contains(line, " flags=b ") {
				p.home.cmd("CLIENT", "UNBLOCK", strings.TrimPrefix(fields[0], "id="), s.With)
			}
		}
	case "many":
		p.keys = nil
		for i := range s.N {
			p.keys = append(p.keys, fmt.Sprint("k:", i))
			lock, err := p.locks.TryAcquire(bg, p.keys[i], fencelock.Lease(seconds(s.Timeout, 10)))
			p.same(s.Do, err, nil)
			p.many = append(p.many, lock)
		}
	case "release-many":
		for _, lock := range p.many {
			p.same(s.Do, lock.Release(bg), nil)
		}
	case "reads":
		renewals, reads := p.home.calls("lock.renew"), p.home.stat("stats", "total_reads_processed")
		time.Sleep(seconds(s.For, 0))
		renewals, reads = p.home.calls("lock.renew")-renewals, p.home.stat("stats", "total_reads_processed")-reads
		if renewals < s.Renewals || reads > s.AtMost {
			p.Fatalf("%d renewals in %d reads", renewals, reads)
		}
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
		if reply := p.home.cmd(s.Args...); s.Reply != nil {
			p.same(s.Do, fmt.Sprint(reply), fmt.Sprint(s.Reply))
		}
	case "until":
		key := cmp.Or(s.Key, p.keys[0])
		until(p.T, fmt.Sprintf("%+v", s), seconds(s.Within, 5), func() bool {
			return (s.Waiting == nil || p.home.waiting(key) == *s.Waiting) &&
				(s.Mode == "" || p.home.look(key)["mode"] == s.Mode) &&
				(s.Holders == nil || p.home.holders(key) == *s.Holders) &&
				(s.Blocked == nil || p.home.stat("clients", "blocked_clients") == *s.Blocked)
		})
	case "failover":
		p.home = p.deployed.failover()
	case "fault":
		if p.deployed == nil {
			faults.tell(s.Line)
		}
	case "sleep":
		time.Sleep(seconds(s.Seconds, 0))
	default:
		p.Fatal("unknown step ", s.Do)
	}
}

func (p *play) settled(s step, err error) {
	p.Helper()
	result := outcome(err)
	if result == "held" {
		result = "ok"
	}
	p.same(s.Do, result, s.Expect)
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
	if s.Watch {
		options = append(options, fencelock.Watch())
	}
	if s.Owner != "" {
		options = append(options, fencelock.Owner(s.Owner))
	}
	locks, keys := p.locks, []string{cmp.Or(s.Key, p.keys[0])}
	if s.Program == 2 {
		locks = p.second
	}
	acquire := locks.AcquireMulti
	switch s.Kind {
	case "shared":
		options = append(options, fencelock.Shared())
	case "semaphore":
		options = append(options, fencelock.Limit(s.Limit, 1))
	case "multi":
		keys = p.keys
	}
	c := &call{done: make(chan struct{}), alone: s.Kind == "" || s.Kind == "multi", key: keys[0]}
	ctx, cancel := context.WithCancel(bg)
	if s.Wait != nil && *s.Wait == 0 {
		acquire = locks.TryAcquireMulti
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
	if s.Expect == "not-held" && c.err != nil {
		return
	}
	if outcome(c.err) != s.Expect {
		p.Fatalf("%s: %v, expected %v", who, c.err, s.Expect)
	}
	if c.err == nil {
		for other := range p.believers {
			if o := p.calls[other]; c.alone && o.key == c.key && o.lock.Context().Err() == nil {
				p.Fatalf("%s and %s believe in one lock at one moment", who, other)
			}
		}
		p.believers[who], p.fences[who] = true, c.lock.Fence()
	}
}

func (p *play) gather(n int) {
	p.order = make([]int, 0, n)
	for i := range n {
		before := p.home.waiting(p.keys[0])
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
		until(p.T, "it is in line", 5*time.Second, func() bool { return p.home.waiting(p.keys[0]) == before+1 })
	}
}

// The driver of clients/conformance. What it is asked for stands there.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"runtime"
	"sync"
	"time"

	"fencelock"

	"github.com/redis/go-redis/v9"
)

type event map[string]any

type request struct {
	Do, Who, Kind, Owner, Name, CA, User, Password string
	Program, Connections, Limit                    int
	Timeout, Seconds, Most                         float64
	Wait                                           *float64
	Renew, Watch                                   bool
	Keys                                           []string
	Ports                                          []int
}

type call struct {
	cancel context.CancelFunc
	lock   *fencelock.Lock
	deaf   func() bool // after it nobody listens for its loss
}

var (
	bg      = context.Background()
	calls   sync.Map
	clients []redis.UniversalClient
	lockers []*fencelock.Locker
	saying  sync.Mutex
)

func say(do, who string, e event) {
	saying.Lock()
	defer saying.Unlock()
	e["do"], e["who"] = do, who
	_ = json.NewEncoder(os.Stdout).Encode(e)
}

func seconds(n float64) time.Duration { return time.Duration(n * float64(time.Second)) }

func acquire(r request) event {
	options := []fencelock.Option{fencelock.Lease(seconds(r.Timeout)), fencelock.Owner(r.Owner)}
	also := func(wanted bool, option fencelock.Option) {
		if wanted {
			options = append(options, option)
		}
	}
	also(!r.Renew, fencelock.NoRenewal())
	also(r.Watch, fencelock.Watch())
	also(r.Most > 0, fencelock.MaxHold(seconds(r.Most)))
	also(r.Kind == "shared", fencelock.Shared())
	also(r.Kind == "semaphore", fencelock.Limit(r.Limit, 1))
	take := lockers[r.Program-1].AcquireMulti
	ctx, cancel := context.WithCancel(bg)
	if r.Wait != nil && *r.Wait == 0 {
		take = lockers[r.Program-1].TryAcquireMulti
	} else if r.Wait != nil {
		ctx, cancel = context.WithTimeout(bg, seconds(*r.Wait))
	}
	calls.Store(r.Who, &call{cancel: cancel})
	lock, err := take(ctx, r.Keys, options...)
	if err != nil {
		return outcome(err)
	}
	calls.Store(r.Who, &call{cancel, lock, listen(r.Who, lock.Context())})
	return event{"outcome": "held", "fence": lock.Fence()}
}

// listen tells of a loss. Whoever listens has the lock, too.
func listen(who string, held context.Context) func() bool {
	return context.AfterFunc(held, func() {
		if lost, ok := context.Cause(held).(*fencelock.LostError); ok {
			say("lost", who, event{"reason": lost.Reason})
		}
	})
}

func outcome(err error) event {
	for known, name := range map[error]string{nil: "ok", fencelock.ErrLost: "not-owned", fencelock.ErrBusy: "busy"} {
		if errors.Is(err, known) {
			return event{"outcome": name}
		}
	}
	return event{"outcome": "error", "error": err.Error()}
}

func obey(r request) event {
	found, _ := calls.Load(r.Who)
	c, _ := found.(*call)
	switch r.Do {
	case "open":
		clients = append(clients, connect(r))
		lockers = append(lockers, fencelock.New(clients[len(clients)-1]))
	case "acquire":
		return acquire(r)
	case "cancel":
		c.cancel()
	case "release":
		return outcome(c.lock.Release(bg))
	case "extend":
		return outcome(c.lock.Renew(bg, seconds(r.Seconds)))
	case "owned":
		left, err := c.lock.TTL(bg)
		return event{"owned": left > 0 && err == nil}
	case "drop":
		c.deaf()
		calls.Delete(r.Who)
		runtime.GC()
	case "exhaust":
		size := clients[0].(*redis.Client).Options().PoolSize
		for range size {
			go clients[0].BLPop(bg, 0, "nothing")
		}
		return event{"taken": size}
	case "close":
		_ = lockers[0].Close()
	case "end":
		for i := range clients {
			_, _ = lockers[i].Close(), clients[i].Close()
		}
		clients, lockers = nil, nil
		calls.Clear()
	case "left": // beside the main goroutine and this one
		return event{"left": make([]int, runtime.NumGoroutine()-2)}
	}
	return outcome(nil)
}

func main() {
	toldLater := "who has a failover client is told by the renewals"
	say("hello", "", event{"cannot": event{"fork": "a Go program does not fork", "watch on sentinel": toldLater}})
	requests := json.NewDecoder(os.Stdin)
	for r := (request{}); requests.Decode(&r) == nil; r = (request{}) {
		saying.Lock() // so that all that was done before the last answer is seen
		go func() { say(r.Do, r.Who, obey(r)) }()
		saying.Unlock()
	}
}

package fencelock

import (
	"cmp"
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	replyTime = 5 * time.Second // to wait for a reply, unless the client's ReadTimeout is shorter
	sliceTime = time.Second     // that one request waits in the server
	tries     = 3

	failover = "FailoverClient" // what go-redis calls the address of a client for Sentinel
)

// line is the way to the server: a client with the settings of the user's, but for those that time and repeat requests.
type line struct {
	client redis.UniversalClient
	own    bool
	reply  time.Duration // how long a reply may take
	limits limits
}

// open returns how many connections there may be.
func (l *line) open(client redis.UniversalClient) int {
	l.own, l.reply, l.limits = true, replyTime, limits{begun: time.Now(), ends: map[time.Duration]context.Context{}}
	size := 20
	read := time.Duration(0)
	// Every request has a context with a deadline of its own. What is sent again is decided here, not in the client. Of one
	// that is not known neither is sure: its own timeouts hold.
	switch c := client.(type) {
	case *redis.Client:
		o := *c.Options()
		size, read = o.PoolSize, o.ReadTimeout
		if o.Addr == failover { // another pool would go on with the old primary, which may grant for some seconds more
			shared := c.WithTimeout(0) // the same pool, with options of its own
			shared.Options().ContextTimeoutEnabled, shared.Options().MaxRetries = true, 0
			l.client, l.own = shared, false
			break
		}
		o.ContextTimeoutEnabled, o.ReadTimeout, o.WriteTimeout, o.MaxRetries, o.DialerRetries = true, -1, -1, -1, 1
		o.PoolTimeout, o.MinIdleConns, o.Protocol, o.ClientSideCache, o.ClientSideCacheConfig = replyTime, 0, 2, nil, nil
		l.client = redis.NewClient(&o)
	case *redis.ClusterClient:
		o := *c.Options()
		size, read = o.PoolSize, o.ReadTimeout
		o.ContextTimeoutEnabled, o.ReadTimeout, o.WriteTimeout, o.MaxRetries, o.DialerRetries = true, -1, -1, -1, 1
		o.PoolTimeout, o.MinIdleConns, o.Protocol = replyTime, 0, 2
		o.ReadOnly, o.RouteByLatency, o.RouteRandomly = false, false, false
		l.client = redis.NewClusterClient(&o)
	case *redis.Ring:
		o := *c.Options()
		size, read = o.PoolSize, o.ReadTimeout
		o.ContextTimeoutEnabled, o.ReadTimeout, o.WriteTimeout, o.MaxRetries, o.DialerRetries = true, -1, -1, -1, 1
		o.PoolTimeout, o.MinIdleConns, o.Protocol = replyTime, 0, 2
		l.client = redis.NewRing(&o)
	default:
		l.client, l.own = client, false
	}
	if read > 0 {
		l.reply = min(read, replyTime)
	}
	return size
}

// about makes a request for the keys: one command for one key, another for several, which says how many they are.
func (r *request) about(one, several any, words ...any) *redis.Cmd {
	if len(r.keys) > 1 {
		return r.several([]any{several, r.owner}, words)
	}
	args := append(make([]any, 0, 3+len(words)), one, r.keys[0], r.owner)
	return redis.NewCmd(context.Background(), append(args, words...)...)
}

func (r *request) several(args, words []any) *redis.Cmd {
	args = append(args, len(r.keys))
	first := len(args)
	for _, key := range r.keys {
		args = append(args, key)
	}
	cmd := redis.NewCmd(context.Background(), append(args, words...)...)
	cmd.SetFirstKeyPos(int8(first))
	return cmd
}

// cancel ends the wait and the hold.
func (r *request) cancel() *redis.Cmd { return r.about("LOCK.RELEASE", "LOCK.MRELEASE", "CANCEL") }

// send sends one request, which the end of ctx does not stop.
func (l *line) send(ctx context.Context, limit time.Duration, cmd redis.Cmder) error {
	return l.client.Process(l.limits.within(ctx, limit), cmd)
}

// batch sends many requests in one go. Each has its own error.
func (l *line) batch(ctx context.Context, limit time.Duration, cmds []redis.Cmder) {
	ctx = l.limits.within(ctx, limit)
	pipe := l.client.Pipeline()
	for _, cmd := range cmds {
		_ = pipe.Process(ctx, cmd)
	}
	_, _ = pipe.Exec(ctx)
}

// ask sends a request that may be sent twice. It returns the least of the numbers in the reply.
func (l *line) ask(ctx context.Context, limit time.Duration, request func() *redis.Cmd) (int64, error) {
	for turn := 1; ; turn++ {
		cmd := request()
		_ = l.send(ctx, limit, cmd)
		n, err := least(cmd)
		if err == nil || turn == tries || !passing(err) {
			return n, err
		}
		time.Sleep(time.Duration(turn) * jitter(20*time.Millisecond, 100*time.Millisecond))
	}
}

// why returns the reason why a hold has ended, for each, in the words of the server.
func (l *line) why(ctx context.Context, holds ...*hold) []string {
	checks, reasons := []redis.Cmder{}, make([]string, len(holds))
	for _, h := range holds {
		checks = append(checks, h.checks()...)
	}
	l.batch(ctx, time.Second, checks)
	for i, h := range holds {
		reasons[i] = cmp.Or(reason(checks[:len(h.keys)]), "unknown")
		checks = checks[len(h.keys):]
	}
	return reasons
}

// reason returns why there is no hold, as the replies to its checks say; nothing if there is one, or nobody knows.
func reason(checks []redis.Cmder) string {
	for _, check := range checks {
		info := check.(*redis.MapStringInterfaceCmd)
		if reason, _ := info.Val()["reason"].(string); info.Err() == nil && info.Val()["result"] == int64(0) {
			return reason
		} else if word(info.Err()) == "WRONGTYPE" {
			return "overwritten"
		}
	}
	return ""
}

func least(cmd *redis.Cmd) (int64, error) {
	if _, many := cmd.Val().([]any); many {
		all, err := cmd.Int64Slice()
		return slices.Min(append(all, 1<<62)), err
	}
	return cmd.Int64()
}

// word returns the first word of what the server said, or "" if err is not a reply.
func word(err error) string {
	if err == nil {
		return ""
	}
	var reply redis.Error
	if !errors.As(err, &reply) {
		return ""
	}
	first, _, _ := strings.Cut(reply.Error(), " ")
	return first
}

// passing tells whether the same owner should ask again: there was no reply, or one that is true only now.
func passing(err error) bool {
	switch word(err) {
	case "":
		return !errors.Is(err, redis.ErrClosed)
	case "UNBLOCKED", "READONLY", "TRYAGAIN", "MOVED", "ASK", "LOADING", "BUSY", "MASTERDOWN", "CLUSTERDOWN":
		return true
	}
	return false
}

func jitter(from, to time.Duration) time.Duration { return from + rand.N(to-from) }

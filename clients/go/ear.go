package fencelock

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"
)

// ear hears at once when a watched lock changes; the keeper then asks whether the hold is still there. The server tracks what
// is asked (CLIENT TRACKING) and tells the connection of the ear. What is not heard so, the next renewal tells.
type ear struct {
	options *redis.Options // of its client; nil where nobody can listen
	id      int64          // of its connection; 0 before there is one
	running bool
}

// open prepares an ear, for one server with a client of our own.
func (e *ear) open(k *keeper) {
	one, ok := k.client.(*redis.Client)
	if !ok || !k.own {
		return
	}
	options := *one.Options()
	usual := options.OnConnect
	options.OnConnect = func(ctx context.Context, conn *redis.Conn) error {
		id, err := conn.ClientID(ctx).Result()
		k.mu.Lock()
		e.id = id
		k.mu.Unlock()
		if err == nil && usual != nil {
			err = usual(ctx, conn)
		}
		return err
	}
	e.options = &options
}

// listen sees to it that the ear listens while something is watched.
func (k *keeper) listen() {
	if k.ear.options != nil && !k.ear.running && !k.closed {
		k.ear.running = true
		k.calls.Go(k.hear)
	}
}

func (k *keeper) hear() {
	client := redis.NewClient(k.ear.options)
	defer client.Close()
	messages := client.Subscribe(k.life, "__redis__:invalidate")
	defer context.AfterFunc(k.life, func() { _ = messages.Close() })()
	defer messages.Close()
	for {
		said, err := messages.ReceiveTimeout(k.life, linger)
		timeout, ok := err.(interface{ Timeout() bool })
		silent := ok && timeout.Timeout()
		if !silent {
			message, _ := said.(*redis.Message)
			k.look(message) // after an error about all, as it may stand for a message: go-redis does not know that of FLUSHALL
		}
		k.mu.Lock()
		if word(err) == "NOPERM" {
			k.ear.options = nil
		}
		watched := !silent || slices.ContainsFunc(slices.Collect(maps.Keys(k.holds)), func(h *hold) bool { return h.watch })
		k.ear.running = k.ear.options != nil && !k.closed && watched
		running := k.ear.running
		k.mu.Unlock()
		if !running {
			return
		}
		if err != nil && !silent {
			rest(k.life, jitter(20*time.Millisecond, 200*time.Millisecond), nil)
		}
	}
}

// look has the keeper ask about the holds that the message is about, or about all.
func (k *keeper) look(message *redis.Message) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for h := range k.holds {
		if message == nil || slices.ContainsFunc(h.keys, func(key string) bool { return slices.Contains(message.PayloadSlice, key) }) {
			h.look = h.watch
		}
	}
	k.watch(time.Now())
}

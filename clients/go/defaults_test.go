package fencelock_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"fencelock"

	"github.com/redis/go-redis/v9"
)

func trusting() *tls.Config { return &tls.Config{InsecureSkipVerify: true} }

// scene is a line for a lock that is held for long: a patient client, then one in its default settings, then a patient one.
type scene struct {
	*testing.T
	server *server
	key    string
	mu     sync.Mutex
	served []string
	all    sync.WaitGroup
}

func (s *scene) serve(who string, release func() error) {
	s.mu.Lock()
	s.served = append(s.served, who)
	s.mu.Unlock()
	if err := release(); err != nil {
		s.Error(who, err)
	}
}

// patient waits on a raw socket that has no timeout.
func (s *scene) patient(who string) {
	conn, err := net.Dial("tcp", s.server.addr())
	if err != nil {
		s.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "LOCK.ACQUIRE %s %s BLOCK 0\r\n", s.key, s.key+who)
	if reply, err := bufio.NewReader(conn).ReadString('\n'); err != nil || reply[0] != ':' {
		s.Error(who, reply, err)
		return
	}
	s.serve(who, func() error { return s.server.Do(bg, "LOCK.RELEASE", s.key, s.key+who).Err() })
}

func (s *scene) play(held time.Duration, hurried func()) {
	s.server.cmd("LOCK.ACQUIRE", s.key, s.key, "PX", "600000")
	for n, one := range []func(){func() { s.patient("first") }, hurried, func() { s.patient("third") }} {
		s.all.Go(one)
		until(s.T, "it is in line", 5*time.Second, func() bool { return s.server.waiting(s.key) == n+1 })
	}
	time.Sleep(held)
	s.server.cmd("LOCK.RELEASE", s.key, s.key)
	s.all.Wait()
	s.Log("served:", s.served)
}

// TestDefaultSettings waits longer than go-redis waits for a reply. Its ReadTimeout is 5 s by default.
func TestDefaultSettings(t *testing.T) {
	held := 20 * time.Second
	if os.Getenv("BRIEF") != "" {
		held = 7 * time.Second
	}
	s := start()
	t.Cleanup(s.stop)
	inOrder := []string{"first", "hurried", "third"}
	all := func(t *testing.T, name string, hurried func(*scene, *redis.Client), check func(*scene)) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client := redis.NewClient(&redis.Options{Addr: s.addr()})
			defer client.Close()
			scene := &scene{T: t, server: s, key: name}
			scene.play(held, func() { hurried(scene, client) })
			check(scene)
		})
	}
	kept := func(s *scene) {
		if !slices.Equal(s.served, inOrder) {
			s.Error("the order was not kept, or somebody was lost")
		}
	}
	all(t, "library", func(s *scene, client *redis.Client) {
		locks := fencelock.New(client)
		defer locks.Close()
		lock, err := locks.Acquire(bg, s.key)
		if err != nil {
			s.Error(err)
			return
		}
		s.serve("hurried", func() error { return lock.Release(bg) })
	}, kept)
	all(t, "slices", func(s *scene, client *redis.Client) {
		for {
			fence, err := client.Do(bg, "LOCK.ACQUIRE", s.key, s.key+"hurried", "BLOCK", 1000, "QUEUE", 5000).Int64()
			if err == redis.Nil {
				continue
			} else if err != nil {
				s.Error(err)
				return
			}
			if kept, err := client.Do(bg, "LOCK.RENEW", s.key, s.key+"hurried", "FENCE", fence).Bool(); kept || err != nil {
				s.serve("hurried", func() error { return client.Do(bg, "LOCK.RELEASE", s.key, s.key+"hurried").Err() })
				return
			}
		}
	}, kept)
	all(t, "BLOCK-0", func(s *scene, client *redis.Client) { // what goes wrong without slices
		ctx, cancel := context.WithTimeout(bg, held+20*time.Second)
		defer cancel()
		if err := client.Do(ctx, "LOCK.ACQUIRE", s.key, s.key+"hurried", "BLOCK", 0).Err(); err != nil {
			s.Log("hurried:", err)
			return
		}
		s.serve("hurried", func() error { return client.Do(bg, "LOCK.RELEASE", s.key, s.key+"hurried").Err() })
	}, func(s *scene) {
		if got := strings.Join(s.served, " "); got != "first third hurried" && got != "first third" {
			s.Error("it was in its place after all")
		}
	})
}

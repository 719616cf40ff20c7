// The block of docs/cookbook.md in which one of many leads.
package leader

import (
	"context"
	"errors"
	"log"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"fencelock"

	"github.com/redis/go-redis/v9"
)

var (
	admin = redis.NewClient(&redis.Options{Addr: "localhost:" + os.Getenv("LOCK_PORT")})
	bg    = context.Background()
)

// scene is several candidates, each a program of its own, and who of them leads.
type scene struct {
	*testing.T
	all     sync.WaitGroup
	leaders atomic.Int32
	broken  bool // then a new one leads before the old one has heard of it, which the term is for
	terms   chan int64
}

func (s *scene) candidate(ctx context.Context, lead func(ctx context.Context) error) {
	client := redis.NewClient(&redis.Options{Addr: admin.Options().Addr})
	locks := fencelock.New(client)
	s.all.Go(func() {
		defer func() { _, _ = locks.Close(), client.Close() }()
		err := Campaign(ctx, locks, func(ctx context.Context, term int64) error {
			if s.leaders.Add(1) != 1 && !s.broken {
				s.Error("two lead")
			}
			s.terms <- term
			defer s.leaders.Add(-1)
			return lead(ctx)
		})
		if err != nil && !errors.Is(err, context.Canceled) {
			s.Error(err)
		}
	})
}

// term returns the fence of the next one to lead, which must be larger than the one before.
func (s *scene) term(before int64) int64 {
	s.Helper()
	select {
	case term := <-s.terms:
		if term <= before {
			s.Error("an earlier term")
		}
		return term
	case <-time.After(20 * time.Second):
		s.Fatal("nobody leads")
		return 0
	}
}

func (s *scene) waiting(n int) {
	s.Helper()
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if all, err := admin.Do(bg, "LOCK.WAITERS", "leader").Slice(); err == nil && len(all) == n {
			return
		} else if time.Now().After(end) {
			s.Fatal("waited in vain for ", n, " to wait: ", all, err)
		}
	}
}

// The program that will be killed leads for ever.
func TestMain(m *testing.M) {
	if os.Getenv("LEAD") != "" {
		_ = Campaign(bg, fencelock.New(admin), func(context.Context, int64) error {
			_, _ = os.Stdout.WriteString("leads")
			select {}
		})
	}
	os.Exit(m.Run())
}

func TestOneLeadsAndEachFollowsTheOneBefore(t *testing.T) {
	s := &scene{T: t, terms: make(chan int64, 20)}
	step := make(chan bool)
	for range 10 {
		s.candidate(bg, func(context.Context) error { <-step; return nil })
	}
	var term int64
	for range 10 {
		term = s.term(term)
		step <- true
	}
	s.all.Wait()
}

func TestALeaderThatLostItsLockIsToldAndStandsInLineAgain(t *testing.T) {
	s := &scene{T: t, terms: make(chan int64, 20), broken: true}
	ctx, cancel := context.WithCancel(bg)
	ended := make(chan error, 20)
	for range 2 {
		s.candidate(ctx, func(ctx context.Context) error {
			<-ctx.Done()
			ended <- context.Cause(ctx)
			return context.Cause(ctx)
		})
	}
	term := s.term(0)
	for range 4 {
		s.waiting(1)
		admin.Do(bg, "LOCK.BREAK", "leader")
		term = s.term(term) // the other one
		select {
		case err := <-ended:
			if !errors.Is(err, fencelock.ErrLost) {
				t.Error(err)
			}
		case <-time.After(3 * time.Second):
			t.Fatal("it leads on")
		}
	}
	cancel()
	s.all.Wait()
}

func TestALeaderThatDiesIsFollowedWithinItsLease(t *testing.T) {
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), "LEAD=1")
	out, _ := child.StdoutPipe()
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	_, _ = out.Read(make([]byte, 5))
	s := &scene{T: t, terms: make(chan int64, 20)}
	s.candidate(bg, func(context.Context) error { return nil })
	s.waiting(1)
	begun := time.Now()
	_ = child.Process.Kill()
	_ = child.Wait()
	s.term(0)
	if took := time.Since(begun); took > 8*time.Second {
		t.Error("followed after", took)
	}
	s.all.Wait()
}

// told hears what is logged.
type told chan string

func (t told) Write(line []byte) (int, error) {
	select {
	case t <- string(line):
	default: // nobody listens any more
	}
	return len(line), nil
}

// restarts is a server that can be away.
type restarts struct {
	*testing.T
	port, dir string
	*exec.Cmd
}

func (r *restarts) start() {
	r.Helper()
	r.Cmd = exec.Command(os.Getenv("SERVER_BIN"), "--port", r.port, "--dir", r.dir, "--bind", "127.0.0.1", "--save", "",
		"--loadmodule", os.Getenv("MODULE_PATH"))
	if err := r.Cmd.Start(); err != nil {
		r.Fatal(err)
	}
}

func (r *restarts) kill() {
	_ = r.Process.Kill()
	_ = r.Wait()
}

func TestTheElectionSurvivesAServerThatIsAwayForLong(t *testing.T) {
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(free.Addr().String())
	_ = free.Close()
	server := &restarts{T: t, port: port, dir: t.TempDir()}
	server.start()
	defer func() { server.kill() }()

	lines := make(told, 100)
	log.SetOutput(lines)
	defer log.SetOutput(os.Stderr)
	client := redis.NewClient(&redis.Options{Addr: "127.0.0.1:" + port})
	defer client.Close()
	locks := fencelock.New(client)
	defer locks.Close()
	ctx, cancel := context.WithCancel(bg)
	terms, ended := make(chan int64, 10), make(chan error, 1)
	go func() {
		ended <- Campaign(ctx, locks, func(ctx context.Context, term int64) error {
			terms <- term
			<-ctx.Done()
			return context.Cause(ctx)
		})
	}()
	next := func() int64 {
		select {
		case term := <-terms:
			return term
		case err := <-ended:
			t.Fatal("the election is over: ", err)
		case <-time.After(time.Minute):
			t.Fatal("nobody leads")
		}
		return 0
	}
	first := next()
	server.kill()
	// It loses the lock, stands in line again, and gives that wait up, as nobody answers for so long.
	for given := 0; given < 2; {
		select {
		case line := <-lines:
			if strings.Contains(line, "leader: again") {
				given++
			}
		case err := <-ended:
			t.Fatal("the election is over: ", err)
		case <-time.After(time.Minute):
			t.Fatal("it has not noticed")
		}
	}
	server.start()
	if again := next(); again <= first {
		t.Error("an earlier term")
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

package fencelock_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"fencelock"

	"github.com/redis/go-redis/v9"
)

var (
	bg     = context.Background()
	shared *server // of all tests that need no other
	faults *proxy  // before it
)

func TestMain(m *testing.M) {
	if os.Getenv("SERVER_BIN") == "" || os.Getenv("MODULE_PATH") == "" {
		fmt.Println("set SERVER_BIN and MODULE_PATH, or run make test-clients LANG=go")
		os.Exit(1)
	}
	shared = start()
	faults = startProxy(shared.port)
	code := m.Run()
	faults.stop()
	shared.stop()
	os.Exit(code)
}

type server struct {
	*redis.Client
	process *exec.Cmd
	port    int
	dir     string
}

// freePort returns one below those that the system gives to connections, of which the port 10,000 above is free, too.
func freePort() int {
	for {
		port := 12000 + rand.Intn(10000)
		one, err := net.Listen("tcp", fmt.Sprint("127.0.0.1:", port))
		if err != nil {
			continue
		}
		two, err := net.Listen("tcp", fmt.Sprint("127.0.0.1:", port+10000))
		one.Close()
		if err == nil {
			two.Close()
			return port
		}
	}
}

func launch(args ...string) (*server, error) {
	s := &server{port: freePort()}
	s.dir, _ = os.MkdirTemp("", "fencelock-")
	base := []string{"--port", fmt.Sprint(s.port), "--bind", "127.0.0.1", "--dir", s.dir, "--save", "",
		"--lock.recovery-window-ms", "-1"}
	s.process = exec.Command(os.Getenv("SERVER_BIN"), append(append(base, args...), "--loadmodule", os.Getenv("MODULE_PATH"))...)
	s.Client = redis.NewClient(&redis.Options{Addr: s.addr(), ReadTimeout: -1})
	if err := s.process.Start(); err != nil {
		return nil, err
	}
	gone := make(chan error, 1)
	go func() { gone <- s.process.Wait() }()
	listens := func() bool {
		conn, err := net.Dial("tcp", s.addr())
		if err == nil {
			conn.Close()
		}
		return err == nil
	}
	for end := time.Now().Add(20 * time.Second); !listens() || s.Ping(bg).Err() != nil; time.Sleep(10 * time.Millisecond) {
		if len(gone) > 0 || time.Now().After(end) {
			s.stop()
			return nil, errors.New("the server does not start")
		}
	}
	return s, nil
}

func start(args ...string) *server {
	s, err := launch(args...)
	if err != nil {
		panic(err)
	}
	return s
}

func (s *server) stop() {
	_ = s.Close()
	_ = s.process.Process.Kill()
	_ = os.RemoveAll(s.dir)
}

func (s *server) addr() string { return fmt.Sprint("127.0.0.1:", s.port) }

func (s *server) cmd(args ...any) any { return s.Do(bg, args...).Val() }

func (s *server) look(key string) map[string]any {
	cmd := redis.NewMapStringInterfaceCmd(bg, "LOCK.INFO", key)
	_ = s.Process(bg, cmd)
	return cmd.Val()
}

func (s *server) holders(key string) int {
	holds, _ := s.look(key)["holds"].([]any)
	return len(holds)
}

func (s *server) waiting(key string) int {
	n, _ := s.look(key)["waiting"].(int64)
	return int(n)
}

// number returns the one in the line of INFO that looks so.
func (s *server) number(section, format string) int {
	var n int
	for line := range strings.Lines(s.Info(bg, section).Val()) {
		_, _ = fmt.Sscanf(line, format, &n)
	}
	return n
}

func (s *server) stat(section, field string) int { return s.number(section, field+":%d") }

func (s *server) calls(command string) int {
	return s.number("commandstats", "cmdstat_"+command+":calls=%d")
}

// use returns a client and a Locker that are closed at the end, and sees to it that nothing is left then.
func (s *server) use(t *testing.T, change func(*redis.Options)) (*redis.Client, *fencelock.Locker) {
	t.Helper()
	s.cmd("LOCK.RECOVERY", "END")
	s.FlushAll(bg)
	routines, connections := runtime.NumGoroutine(), s.stat("clients", "connected_clients")
	options := &redis.Options{Addr: s.addr()}
	if change != nil {
		change(options)
	}
	client := redis.NewClient(options)
	locks := fencelock.New(client)
	t.Cleanup(func() {
		_ = locks.Close()
		_ = client.Close()
		until(t, "no goroutine is left", 10*time.Second, func() bool { return runtime.NumGoroutine() <= routines })
		until(t, "no connection is left", 10*time.Second, func() bool { return s.stat("clients", "connected_clients") <= connections })
	})
	return client, locks
}

func (s *server) idle(t *testing.T, keys ...string) {
	t.Helper()
	until(t, "no lock is held and nobody waits", 4*time.Second, func() bool {
		for _, key := range keys {
			if s.holders(key) > 0 || s.waiting(key) > 0 {
				return false
			}
		}
		return true
	})
}

// until is the only place that sleeps to wait for something.
func until(t *testing.T, what string, limit time.Duration, condition func() bool) {
	t.Helper()
	for end := time.Now().Add(limit); !condition(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			if what == "no goroutine is left" {
				stacks := make([]byte, 1<<16)
				t.Logf("%s", stacks[:runtime.Stack(stacks, true)])
			}
			t.Fatalf("not so after %v: %s", limit, what)
		}
	}
}

type proxy struct {
	process *exec.Cmd
	in      io.WriteCloser
	out     *bufio.Scanner
	addr    string
}

func startProxy(port int) *proxy {
	p := &proxy{process: exec.Command("python3", "../conformance/proxy.py", fmt.Sprint(port))}
	p.in, _ = p.process.StdinPipe()
	out, _ := p.process.StdoutPipe()
	p.process.Stderr = os.Stderr
	if err := p.process.Start(); err != nil {
		panic(err)
	}
	p.out = bufio.NewScanner(out)
	p.out.Scan()
	p.addr = "127.0.0.1:" + p.out.Text()
	return p
}

func (p *proxy) tell(line string) {
	fmt.Fprintln(p.in, line)
	if p.out.Scan(); p.out.Text() != "ok" {
		panic(line + ": " + p.out.Text())
	}
}

func (p *proxy) stop() {
	_ = p.in.Close()
	_ = p.process.Wait()
}

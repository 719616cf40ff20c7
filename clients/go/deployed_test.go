package fencelock_test

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"fencelock"

	"github.com/redis/go-redis/v9"
)

// deployed is what clients/conformance/deploy.py has started. The test's own looks go to the server that has the keys.
type deployed struct {
	in   io.WriteCloser
	out  *bufio.Scanner
	home *server
	told struct {
		Home, Port               int
		Sentinels                []int
		Name, CA, User, Password string
	}
}

func deploy(t *testing.T, kind string) *deployed {
	process := exec.Command("python3", "../conformance/deploy.py", kind)
	d := &deployed{}
	d.in, _ = process.StdinPipe()
	out, _ := process.StdoutPipe()
	process.Stderr = os.Stderr
	if err := process.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = d.in.Close(), process.Wait() })
	d.out = bufio.NewScanner(out)
	d.out.Scan()
	if strings.HasPrefix(d.out.Text(), "skipped") {
		t.Skip(d.out.Text())
	}
	if err := json.Unmarshal(d.out.Bytes(), &d.told); err != nil {
		t.Fatal(err)
	}
	d.home = at(d.told.Home)
	return d
}

func at(port int) *server {
	return &server{Client: redis.NewClient(&redis.Options{Addr: fmt.Sprint("127.0.0.1:", port)}), port: port}
}

func (d *deployed) failover() *server {
	fmt.Fprintln(d.in, "failover")
	d.out.Scan()
	var port int
	_, _ = fmt.Sscan(d.out.Text(), &port)
	d.home = at(port)
	return d.home
}

func (d *deployed) client(t *testing.T, kind string) redis.UniversalClient {
	addr := fmt.Sprint("localhost:", d.told.Port)
	switch kind {
	case "cluster":
		return redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{addr}})
	case "sentinel":
		options := &redis.FailoverOptions{MasterName: d.told.Name}
		for _, port := range d.told.Sentinels {
			options.SentinelAddrs = append(options.SentinelAddrs, fmt.Sprint("127.0.0.1:", port))
		}
		return redis.NewFailoverClient(options)
	}
	pem, err := os.ReadFile(d.told.CA)
	trusted := x509.NewCertPool()
	if err != nil || !trusted.AppendCertsFromPEM(pem) {
		t.Fatal("no certificate: ", err)
	}
	return redis.NewClient(&redis.Options{
		Addr: addr, Username: d.told.User, Password: d.told.Password, TLSConfig: &tls.Config{RootCAs: trusted},
	})
}

// TestDeployments plays the scenarios that say so on servers as people run them, without the proxy.
func TestDeployments(t *testing.T) {
	for _, kind := range []string{"tls", "cluster", "sentinel"} {
		t.Run(kind, func(t *testing.T) {
			if os.Getenv("BRIEF") != "" && kind != "cluster" {
				t.Skip("only in the long form")
			}
			d := deploy(t, kind)
			for _, s := range scenarios(t) {
				if !slices.Contains(s.On, kind) {
					continue
				}
				t.Run(s.Name, func(t *testing.T) {
					if reason := s.reason("failover"); reason != "" {
						t.Skip(reason)
					} else if slices.Contains(s.Needs, "watch") {
						t.Skip("who has a failover client is told by the renewals")
					}
					d.home.FlushAll(bg)
					client, other := d.client(t, kind), d.client(t, kind)
					p := newPlay(t, s, d.home, fencelock.New(client))
					p.second, p.deployed = fencelock.New(other), d
					t.Cleanup(func() { _, _, _, _ = p.locks.Close(), p.second.Close(), client.Close(), other.Close() })
					p.play(s)
				})
			}
		})
	}
}

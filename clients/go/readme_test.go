package fencelock_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const fragment = `package main

import (
	"context"
	"errors"
	"time"

	"fencelock"
)

func work(context.Context, int64) {}

func more(ctx context.Context, locks *fencelock.Locker) error {
	block
	return errors.Join(err, ctx.Err())
}

var _ = time.Now
`

// TestReadme runs the Go blocks of the README as a reader would paste them.
func TestReadme(t *testing.T) {
	shared.FlushAll(bg)
	text, _ := os.ReadFile("README.md")
	blocks := regexp.MustCompile("(?s)```go\n(.*?)```").FindAllSubmatch(text, -1)
	sums, _ := os.ReadFile("go.sum")
	mod, _ := os.ReadFile("go.mod")
	here, _ := filepath.Abs(".")
	if len(blocks) != 2 {
		t.Fatal(len(blocks), "blocks")
	}
	program := strings.Replace(string(blocks[0][1]), "localhost:6379", shared.addr(), 1)
	program = strings.Replace(program, "\terr := locks.Do(", `
	if err := more(context.Background(), locks); err != nil {
		panic(err)
	}
	err := locks.Do(`, 1)
	dir := t.TempDir()
	for name, content := range map[string]string{
		"main.go": program,
		"more.go": strings.Replace(fragment, "block", string(blocks[1][1]), 1),
		"go.sum":  string(sums),
		"go.mod":  strings.Replace(string(mod), "module fencelock", "module reader\n\nrequire fencelock v0.0.0\n\nreplace fencelock => "+here, 1),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	run := exec.Command("go", "run", ".")
	run.Dir = dir
	out, err := run.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "mine, under fence") {
		t.Fatal(err, string(out))
	}
	shared.idle(t, "invoice:42", "cron:nightly", "report", "workers", "from:1", "to:2")
}

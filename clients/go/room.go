package fencelock

import (
	"context"
	"slices"
	"sync"
	"time"
)

const (
	askFirst  = 250 * time.Millisecond // between two requests of whoever may be next and has no connection to wait on
	askOthers = 800 * time.Millisecond // the same for those behind; below the time in which a turn must be claimed
)

// room says who may wait on a connection: half of them are for it, so that releases and others get through. Whoever finds
// none asks now and then; a line is served from the front, so only the first of this process for each key must do so often.
type room struct {
	mu    sync.Mutex
	free  int
	row   []*seat            // those without a connection, in the order in which they came
	lines map[string][]*seat // all, by what they wait for
}

type seat struct {
	place string
	has   bool          // a connection
	call  chan struct{} // it has one now, or has become the first
}

func (r *room) init(free int) { r.free, r.lines = free, map[string][]*seat{} }

func (r *room) join(place string) *seat {
	s := &seat{place: place, call: make(chan struct{}, 1)}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lines[place] = append(r.lines[place], s)
	if s.has = r.free > 0; s.has {
		r.free--
	} else {
		r.row = append(r.row, s)
	}
	return s
}

// sit tells whether there is a connection to wait on. If there is none, it is time to ask.
func (r *room) sit(ctx context.Context, s *seat) bool {
	r.mu.Lock()
	has, pause := s.has, jitter(askOthers*3/4, askOthers)
	if r.lines[s.place][0] == s {
		pause = askFirst
	}
	r.mu.Unlock()
	if has {
		return true
	}
	rest(ctx, pause, s.call)
	r.mu.Lock()
	defer r.mu.Unlock()
	return s.has
}

func (r *room) part(s *seat) {
	r.mu.Lock()
	defer r.mu.Unlock()
	others := without(r.lines[s.place], s)
	if r.lines[s.place] = others; len(others) == 0 {
		delete(r.lines, s.place)
	} else {
		others[0].tell()
	}
	if !s.has {
		r.row = without(r.row, s)
	} else if len(r.row) == 0 {
		r.free++
	} else {
		r.row[0].has = true
		r.row[0].tell()
		r.row = r.row[1:]
	}
}

func (s *seat) tell() {
	select {
	case s.call <- struct{}{}:
	default:
	}
}

func without(seats []*seat, s *seat) []*seat {
	i := slices.Index(seats, s)
	return slices.Delete(seats, i, i+1)
}

// rest returns after this time, when it is called, or when ctx ends.
func rest(ctx context.Context, d time.Duration, call <-chan struct{}) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-call:
	case <-ctx.Done():
	}
}

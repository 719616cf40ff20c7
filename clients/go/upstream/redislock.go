// Package redislock is the interface of github.com/bsm/redislock, on fencelock: as much as its tests need.
package redislock

import (
	"context"
	"encoding/base64"
	"errors"
	"math/rand"
	"time"

	"fencelock"

	original "github.com/bsm/redislock"
	"github.com/redis/go-redis/v9"
)

type (
	Options       = original.Options
	RetryStrategy = original.RetryStrategy
)

var (
	ErrNotObtained     = original.ErrNotObtained
	ErrLockNotHeld     = original.ErrLockNotHeld
	NoRetry            = original.NoRetry
	LinearBackoff      = original.LinearBackoff
	LimitRetry         = original.LimitRetry
	ExponentialBackoff = original.ExponentialBackoff
)

type Client struct{ locks *fencelock.Locker }

func New(client redis.UniversalClient) *Client { return &Client{fencelock.New(client)} }

type Lock struct {
	lock            *fencelock.Lock
	token, metadata string
}

func Obtain(ctx context.Context, client redis.UniversalClient, key string, ttl time.Duration, o *Options) (*Lock, error) {
	return New(client).Obtain(ctx, key, ttl, o)
}

func (c *Client) Obtain(ctx context.Context, key string, ttl time.Duration, o *Options) (*Lock, error) {
	if o == nil {
		o = &Options{}
	}
	token, acquire := o.Token, c.locks.TryAcquire
	if token == "" {
		token = base64.RawURLEncoding.EncodeToString(binary(16))
	}
	if o.RetryStrategy != nil { // as long as it would have tried; who stands in line need not ask so often
		total := time.Duration(0)
		for d := o.RetryStrategy.NextBackoff(); d > 0 && total < ttl; d = o.RetryStrategy.NextBackoff() {
			total += d
		}
		waiting, cancel := context.WithTimeout(ctx, total)
		defer cancel()
		ctx, acquire = waiting, c.locks.Acquire
	}
	lock, err := acquire(ctx, key, fencelock.Owner(token), fencelock.Lease(ttl), fencelock.NoRenewal())
	if errors.Is(err, fencelock.ErrBusy) {
		return nil, ErrNotObtained
	} else if err != nil {
		return nil, err
	}
	return &Lock{lock, token, o.Metadata}, nil
}

func (l *Lock) Token() string    { return l.token }
func (l *Lock) Metadata() string { return l.metadata }

func (l *Lock) TTL(ctx context.Context) (time.Duration, error) { return l.lock.TTL(ctx) }

func (l *Lock) Refresh(ctx context.Context, ttl time.Duration, _ *Options) error {
	err := l.lock.Renew(ctx, ttl)
	if errors.Is(err, fencelock.ErrLost) {
		return ErrNotObtained
	}
	return err
}

func (l *Lock) Release(ctx context.Context) error {
	if l == nil {
		return ErrLockNotHeld
	}
	err := l.lock.Release(ctx)
	if errors.Is(err, fencelock.ErrLost) || errors.Is(err, fencelock.ErrReleased) {
		return ErrLockNotHeld
	}
	return err
}

func binary(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rand.Intn(256))
	}
	return b
}

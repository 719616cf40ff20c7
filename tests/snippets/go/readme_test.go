// The block of README.md, which does not renew.
package locks

import "context"

func hold(l *Locks, ctx context.Context, key string, work func(int64) error) error {
	return l.Hold(ctx, key, work)
}

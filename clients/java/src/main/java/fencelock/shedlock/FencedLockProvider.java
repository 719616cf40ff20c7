package fencelock.shedlock;

import fencelock.Hold;
import fencelock.LockLostException;
import fencelock.Locks;
import java.time.Duration;
import java.util.Optional;
import net.javacrumbs.shedlock.core.AbstractSimpleLock;
import net.javacrumbs.shedlock.core.ClockProvider;
import net.javacrumbs.shedlock.core.ExtensibleLockProvider;
import net.javacrumbs.shedlock.core.LockConfiguration;
import net.javacrumbs.shedlock.core.SimpleLock;

/**
 * For ShedLock. {@code lockAtMostFor} is the lease. What is left of {@code lockAtLeastFor} at the unlock is a cooldown, which
 * the server keeps by its own clock: schedulers whose clocks differ do not run a job twice.
 */
public final class FencedLockProvider implements ExtensibleLockProvider {
    private final Locks locks;
    private final String prefix;

    public FencedLockProvider(Locks locks) {
        this(locks, "shedlock:");
    }

    /** The locks are keys that begin with {@code prefix}. */
    public FencedLockProvider(Locks locks, String prefix) {
        this.locks = locks;
        this.prefix = prefix;
    }

    @Override
    public Optional<SimpleLock> lock(LockConfiguration wanted) {
        try {
            return locks.lock(prefix + wanted.getName()).withLease(lease(wanted)).tryAcquire(Duration.ZERO)
                    .map(hold -> new Held(wanted, hold));
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
            return Optional.empty();
        }
    }

    private static final class Held extends AbstractSimpleLock {
        private final Hold hold;

        private Held(LockConfiguration configuration, Hold hold) {
            super(configuration);
            this.hold = hold;
        }

        @Override
        protected void doUnlock() {
            try {
                hold.release(Duration.between(ClockProvider.now(), lockConfiguration.getLockAtLeastUntil()));
            } catch (LockLostException e) {
                // it lasted for lockAtMostFor, and somebody else may have it
            }
        }

        @Override
        protected Optional<SimpleLock> doExtend(LockConfiguration wanted) {
            try {
                hold.renew(lease(wanted));
                return Optional.of(new Held(wanted, hold));
            } catch (LockLostException e) {
                return Optional.empty();
            }
        }
    }

    private static Duration lease(LockConfiguration wanted) {
        return wanted.getLockAtMostFor().toMillis() > 0 ? wanted.getLockAtMostFor() : Duration.ofMillis(1);
    }
}

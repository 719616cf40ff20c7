package fencelock.shedlock;

import fencelock.LockException;
import fencelock.Locks;
import java.nio.charset.StandardCharsets;
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
        byte[] key = (prefix + wanted.getName()).getBytes(StandardCharsets.UTF_8);
        String owner = Locks.newOwner();
        Object fence = asked("LOCK.ACQUIRE", key, owner, "PX", ms(wanted.getLockAtMostFor()));
        return fence == null ? Optional.empty() : Optional.of(new Held(wanted, key, owner, (Long) fence));
    }

    private final class Held extends AbstractSimpleLock {
        private final byte[] key;
        private final String owner;
        private final Long fence;

        private Held(LockConfiguration configuration, byte[] key, String owner, Long fence) {
            super(configuration);
            this.key = key;
            this.owner = owner;
            this.fence = fence;
        }

        @Override
        protected void doUnlock() {
            Duration rest = Duration.between(ClockProvider.now(), lockConfiguration.getLockAtLeastUntil());
            if (rest.toMillis() > 0) {
                asked("LOCK.RELEASE", key, owner, "FENCE", fence, "AFTER", rest.toMillis());
            } else {
                asked("LOCK.RELEASE", key, owner, "FENCE", fence);
            }
        }

        @Override
        protected Optional<SimpleLock> doExtend(LockConfiguration wanted) {
            Object left = asked("LOCK.RENEW", key, owner, "PX", ms(wanted.getLockAtMostFor()), "FENCE", fence);
            return left == null || left.equals(0L) ? Optional.empty() : Optional.of(new Held(wanted, key, owner, fence));
        }
    }

    private Object asked(Object... words) {
        try {
            return locks.ask(words);
        } catch (LockException e) {
            if (e.code().equals("WRONGTYPE")) { // somebody who uses SET NX has the lock
                return null;
            }
            throw e;
        }
    }

    private static Long ms(Duration duration) {
        return Math.max(1, duration.toMillis());
    }
}

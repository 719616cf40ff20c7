package fencelock;

import java.time.Duration;
import java.util.concurrent.CompletableFuture;

/**
 * A lock that is held, until it is released or lost. When nobody refers to it any more, its renewal ends and it is given
 * back.
 */
public final class Hold implements AutoCloseable {
    private final Locks locks;
    final Grant grant;
    final CompletableFuture<String> lost = new CompletableFuture<>();

    Hold(Locks locks, Grant grant) {
        this.locks = locks;
        this.grant = grant;
    }

    /** A number that only grows. Send it along with every write, and let what you write to refuse an older one. */
    public long fence() {
        return grant.fence;
    }

    /** Asks nobody: false after the release, when the loss was told, and when the lease may be over. */
    public boolean isHeld() {
        return grant.reason == null && !grant.released && grant.until - System.nanoTime() > 0;
    }

    /** Asks the server whether it is held, and tells of a loss. Before a step that must not be done twice. */
    public boolean check() {
        if (!isHeld()) {
            return false;
        }
        for (Object[] check : grant.checks()) {
            String reason = Locks.reason(locks.askHeld(check));
            if ("recovering".equals(reason)) { // after a failover: a renewal brings it back
                locks.settle(grant, grant.renewal(grant.leaseMs));
            } else if (reason != null) {
                locks.keeper.lose(grant, reason);
                return false;
            }
        }
        return true;
    }

    /** Completes with the reason as soon as the lock is lost; never after a release. */
    public CompletableFuture<String> lost() {
        return lost.copy();
    }

    /** The reason of the loss in one word, or {@code null} while there was none. */
    public String lostReason() {
        return grant.reason;
    }

    /** Sets the lease, counted from now. Throws {@link LockLostException} if the lock is lost. */
    public void renew(Duration lease) {
        long sent = System.nanoTime();
        grant.refuseLost();
        long left;
        try {
            left = locks.settle(grant, grant.renewal(lease.toMillis()));
        } catch (LockLostException e) {
            locks.keeper.lose(grant, e.reason());
            throw e;
        }
        grant.leaseMs = lease.toMillis();
        grant.last(sent, left);
        locks.keeper.watch(grant.next());
    }

    /** Gives the lock back; the next in line has it in the same moment. Throws {@link LockLostException} if it was lost. */
    public void release() {
        release(Duration.ZERO);
    }

    /** The same, but for so long nobody has it, by the clock of the server. Not for several locks. */
    public void release(Duration rest) {
        Object[] words = grant.release();
        if (rest.toMillis() > 0) {
            words = Grant.append(words, "AFTER", rest.toMillis());
        }
        if (grant.released) {
            throw new IllegalMonitorStateException("You do not own lock at " + grant.name());
        }
        grant.released = true;
        locks.keeper.forget(grant);
        try {
            locks.settle(grant, words);
        } catch (LockException e) {
            if (e.passing()) {
                locks.keeper.owe(words, grant.until);
            }
            throw e;
        } catch (LockLostException e) {
            if (grant.keys.size() > 1) { // one of them was lost, and nothing was released yet
                locks.ask(grant.words("LOCK.RELEASE"));
            }
            throw e;
        }
        if (grant.reason != null) { // by our clock, and the server had it yet
            throw new LockLostException(grant.name(), grant.reason);
        }
    }

    /** Releases it if it was not released before. */
    @Override
    public void close() {
        if (!grant.released) {
            release();
        }
    }
}

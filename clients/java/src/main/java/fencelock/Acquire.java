package fencelock;

import java.util.List;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.TimeUnit;

/**
 * One try to have a lock, or one wait in line for it, under one owner from the first request to the last.
 *
 * <p>The first request asks for the lock or a place in line, and is answered at once. The next ones wait in the server, where
 * there is a connection that nobody shares; else they ask when the turn is announced, and now and then.
 */
final class Acquire {
    static final long FOREVER = Long.MAX_VALUE;
    private static final long TICKET_MS = 5000; // how long a place in line outlives the last request for it
    private static final long FIRST_MS = 250; // between two requests of whoever may be next and has no connection to wait on
    private static final long OTHERS_MS = 800; // the same for those behind; below the time in which a turn must be claimed
    private static final long BUSY_MS = 100; // how often to look where no line can form, or for a connection
    private static final long PATIENCE_MS = 10_000; // without one good reply, after which a wait ends with the last error

    private final Locks locks;
    private final List<byte[]> keys;
    private final Options options;
    private final String owner;
    private final long waitNanos;
    private final boolean interruptible;
    private final long begun = System.nanoTime();
    private long good = begun; // when the server last gave a reply that counts
    private Line.Place place;
    private boolean queued;
    private boolean again; // a request failed, and may have been obeyed
    private boolean asking;
    private boolean interrupted;

    Acquire(Locks locks, List<byte[]> keys, Options options, long waitNanos, boolean interruptible) {
        this.locks = locks;
        this.keys = keys;
        this.options = options;
        this.waitNanos = waitNanos;
        this.interruptible = interruptible;
        owner = options.owner() == null ? Locks.newOwner() : options.owner();
    }

    /** The hold, or {@code null}. */
    Hold run() throws InterruptedException {
        Hold hold = null;
        locks.line.begin();
        try {
            Hold granted = stand();
            if (granted != null && waitNanos > 0) {
                heedLate(granted);
            }
            return hold = granted;
        } finally {
            if (place != null) {
                locks.line.part(place);
            }
            interrupted |= Thread.interrupted();
            if (hold == null && (waitNanos > 0 || asking || again)) {
                giveUp();
            }
            locks.line.end();
            if (interrupted) {
                Thread.currentThread().interrupt();
            }
        }
    }

    /** What is left of the wait. A try asks twice if it must, however long that takes. */
    private long left() {
        return waitNanos == FOREVER || waitNanos <= 0 ? FOREVER : waitNanos - (System.nanoTime() - begun);
    }

    private Hold stand() throws InterruptedException {
        while (true) {
            LockException error = null;
            long pauseMs = 0;
            try {
                Hold hold = once();
                if (hold != null) {
                    return hold;
                }
                good = System.nanoTime();
            } catch (LockException e) {
                asking = e.code().isEmpty();
                pauseMs = judge(e);
                error = e.busy() ? null : e;
                queued = false;
            }
            if (left() <= pauseMs * 1_000_000 || waitNanos <= 0 && pauseMs == 0) {
                if (error != null) {
                    throw error;
                }
                return null;
            }
            heed();
            if (pauseMs > 0) {
                try {
                    TimeUnit.MILLISECONDS.sleep(pauseMs);
                } catch (InterruptedException e) {
                    heed(e);
                }
            }
            locks.line.check();
        }
    }

    private Hold once() throws InterruptedException {
        long blockMs = 0;
        boolean inside = false;
        String channel = waitNanos > 0 && locks.transport.waiters() == 0 ? locks.channel() : null;
        if (queued) {
            boolean often = channel == null && (keys.size() > 1 || locks.line.first(place));
            long ms = Math.min(often ? FIRST_MS : OTHERS_MS, Math.max(0, left() / 1_000_000));
            try {
                inside = locks.line.enter(place, ms);
            } catch (InterruptedException e) {
                heed(e);
            }
            if (inside) {
                blockMs = Math.max(0, Math.min(locks.transport.sliceMs(), left() / 1_000_000));
            }
        }
        long sent = System.nanoTime();
        asking = true;
        Object reply = locks.transport.send(blockMs, request(blockMs, channel));
        asking = false;
        if (reply == null) {
            queued = waitNanos > 0;
            if (queued && place == null) {
                place = locks.line.join(keys.stream().map(Locks::text).toList(), owner);
            }
            return null;
        }
        Grant grant = new Grant(keys, owner, (Long) reply, options);
        grant.last(sent, Math.min(grant.leaseMs, options.mostMs()));
        if (blockMs > 0) { // the turn may have come some time ago: claim it, and count from now
            sent = System.nanoTime();
            long leftMs = Locks.least(locks.transport.send(0, grant.renewal(options.leaseMs())));
            if (leftMs == 0) { // too late, the next in line has it; so stand in line again
                queued = false;
                return null;
            }
            grant.last(sent, leftMs);
        }
        return locks.keeper.add(grant);
    }

    private Object[] request(long blockMs, String channel) {
        Object[] words = Grant.append(Grant.words("LOCK.ACQUIRE", keys, owner, "PX", options.leaseMs()), options.mode());
        if (options.mostMs() < Long.MAX_VALUE) {
            words = Grant.append(words, "MAXHOLD", options.mostMs());
        }
        if (blockMs > 0) {
            words = Grant.append(words, "BLOCK", blockMs);
        }
        if (waitNanos > 0) {
            words = Grant.append(words, "QUEUE", TICKET_MS);
        }
        return channel == null ? words : Grant.append(words, "NOTIFY", channel);
    }

    /** After how long to ask again; 0 if the lock is simply busy. Throws what asking again cannot mend. */
    private long judge(LockException e) {
        if (e.busy()) {
            good = System.nanoTime();
            again |= e.code().equals("RECOVERING") && options.owner() == null; // the client itself has asked twice
            return waitNanos > 0 ? BUSY_MS : 0;
        }
        boolean late = waitNanos > 0 ? System.nanoTime() - good > PATIENCE_MS * 1_000_000 : again;
        if (!e.passing() || late) {
            throw e;
        }
        again = true;
        return ThreadLocalRandom.current().nextLong(20, 200);
    }

    /** Leaves neither a place in line nor a grant that came in the last moment. */
    private void giveUp() {
        Object[] words = Grant.words("LOCK.RELEASE", keys, owner, "CANCEL");
        try {
            locks.transport.send(0, words);
        } catch (LockException e) {
            asking |= e.code().isEmpty(); // else a string is there now, and so neither the lock nor the line
        }
        if (asking) { // on another connection a request may be on its way yet, so give up once more in a moment
            locks.keeper.owe(words, System.nanoTime() + options.leaseMs() * 1_000_000);
        }
    }

    /** What ends a wait can come in the moment of the grant. */
    private void heedLate(Hold granted) throws InterruptedException {
        try {
            locks.line.check();
            heed();
        } catch (LockException | InterruptedException e) {
            locks.keeper.forget(granted.grant);
            throw e;
        }
    }

    private void heed() throws InterruptedException {
        if (Thread.interrupted()) {
            heed(new InterruptedException());
        }
    }

    private void heed(InterruptedException e) throws InterruptedException {
        if (interruptible) {
            throw e;
        }
        interrupted = true;
    }
}

package fencelock;

import java.lang.ref.WeakReference;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.ThreadLocalRandom;
import java.util.function.Consumer;

/** One grant, as the keeper knows it. It outlives the {@link Hold} that the user has. */
final class Grant {
    final List<byte[]> keys;
    final String owner;
    final long fence;
    final boolean renewed;
    final boolean watched;
    volatile boolean look; // whether the server is to be asked whether it is still held
    final Consumer<String> onLost;
    volatile List<Object> mode; // as LOCK.ACQUIRE names it; a writer may become a reader
    volatile long leaseMs;
    volatile long until; // by System.nanoTime(), counted from before the request
    volatile long due;
    volatile String reason;
    volatile boolean released;
    volatile WeakReference<Thread> thread; // to which it belongs; none for one that was acquired
    WeakReference<Hold> hold = new WeakReference<>(null);

    Grant(List<byte[]> keys, String owner, long fence, Options options, long until) {
        this.keys = keys;
        this.owner = owner;
        this.fence = fence;
        this.mode = options.mode();
        this.leaseMs = options.leaseMs();
        this.renewed = options.renewed();
        this.watched = options.watched();
        this.look = watched;
        this.onLost = options.onLost();
        this.until = until;
        plan();
    }

    /** Nobody has the object any more, or the thread has ended. */
    boolean abandoned() {
        WeakReference<Thread> owner = thread;
        Thread alive = owner == null ? null : owner.get();
        return hold.get() == null || owner != null && (alive == null || !alive.isAlive());
    }

    /** What is over by our own clock must not be asked for again, as that could bring it back after a failover. */
    void refuseLost() {
        if (reason != null || until - System.nanoTime() <= 0) {
            throw new LockLostException(name(), reason != null ? reason : "lease-over");
        }
    }

    void plan() {
        due = renewed
                ? System.nanoTime() + (long) (leaseMs * 1e6 / 3 * ThreadLocalRandom.current().nextDouble(0.85, 1.0))
                : until;
    }

    String name() {
        return new String(keys.get(0), StandardCharsets.UTF_8);
    }

    /** Names the fence and the mode: by them the hold stands again on a server that has lost it in a failover. */
    Object[] renewal(long ms) {
        List<Object> words = new ArrayList<>();
        if (keys.size() == 1) {
            words.addAll(List.of("LOCK.RENEW", keys.get(0), owner, "PX", ms));
        } else {
            words.addAll(List.of("LOCK.MRENEW", owner, ms, (long) keys.size()));
            words.addAll(keys);
        }
        words.addAll(List.of("FENCE", fence));
        words.addAll(mode);
        return words.toArray();
    }

    List<Object[]> checks() {
        return keys.stream().map(key -> words("LOCK.CHECK", List.of(key), owner, false, "FENCE", fence, "WITHINFO")).toList();
    }

    Object[] release() {
        return keys.size() == 1
                ? words("LOCK.RELEASE", owner, false, "FENCE", fence, "ALL") // under whatever ids it was entered
                : words("LOCK.MRELEASE", owner, true, "FENCE", fence);
    }

    Object[] words(String command, String owner, boolean several, Object... more) {
        return words(command, keys, owner, several, more);
    }

    /** The key before the owner, or several keys after it. */
    static Object[] words(String command, List<byte[]> keys, String owner, boolean several, Object... more) {
        List<Object> words = new ArrayList<>(List.of(command));
        if (several) {
            words.addAll(List.of(owner, (long) keys.size()));
            words.addAll(keys);
        } else {
            words.addAll(List.of(keys.get(0), owner));
        }
        words.addAll(List.of(more));
        return words.toArray();
    }
}

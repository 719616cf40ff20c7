package fencelock;

import java.lang.ref.WeakReference;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.List;
import java.util.concurrent.ThreadLocalRandom;

/** One grant, as the keeper knows it. It outlives the {@link Hold} that the user has. */
final class Grant {
    final List<byte[]> keys;
    final String owner;
    final long fence;
    final Options options;
    volatile boolean look; // whether the server is to be asked whether it is still held
    volatile Object[] mode; // as LOCK.ACQUIRE names it; a writer may become a reader
    volatile long leaseMs;
    volatile long until; // by System.nanoTime(), counted from before the request
    volatile long due;
    volatile String reason;
    volatile boolean released;
    volatile WeakReference<Thread> thread; // to which it belongs; none for one that was acquired
    WeakReference<Hold> hold = new WeakReference<>(null);

    Grant(List<byte[]> keys, String owner, long fence, Options options) {
        this.keys = keys;
        this.owner = owner;
        this.fence = fence;
        this.options = options;
        mode = options.mode();
        leaseMs = options.leaseMs();
        look = options.watched();
    }

    /** Nobody has the object any more, or the thread has ended. */
    boolean abandoned() {
        WeakReference<Thread> owner = thread;
        Thread alive = owner == null ? null : owner.get();
        return hold.get() == null || owner != null && (alive == null || !alive.isAlive());
    }

    /** The same owner has it once more: what ends one of them ends the other, too. */
    boolean isTwin(Grant other) {
        return fence == other.fence && owner.equals(other.owner);
    }

    /** What is over by our own clock must not be asked for again, as that could bring it back after a failover. */
    void refuseLost() {
        if (reason != null || until - System.nanoTime() <= 0) {
            throw new LockLostException(name(), reason != null ? reason : "lease-over");
        }
    }

    /** So much is left by the reply to a request of that time. */
    void last(long sent, long ms) {
        until = sent + ms * 1_000_000;
        due = options.renewed() ? sent + (long) (leaseMs * 1e6 / 3 * ThreadLocalRandom.current().nextDouble(0.85, 1.0)) : until;
    }

    /** When the keeper has to do something for it. */
    long next() {
        return due - until < 0 ? due : until;
    }

    String name() {
        return new String(keys.get(0), StandardCharsets.UTF_8);
    }

    /** Names the fence and the mode: by them the hold stands again on a server that has lost it in a failover. */
    Object[] renewal(long ms) {
        Object[] words = keys.size() == 1
                ? new Object[] {"LOCK.RENEW", keys.get(0), owner, "PX", ms}
                : append(new Object[] {"LOCK.MRENEW", owner, ms, (long) keys.size()}, keys.toArray());
        return append(append(words, "FENCE", fence), mode);
    }

    List<Object[]> checks() {
        return keys.stream().map(key -> words("LOCK.CHECK", List.of(key), owner, "FENCE", fence, "WITHINFO")).toList();
    }

    Object[] release() {
        return keys.size() == 1
                ? words("LOCK.RELEASE", "FENCE", fence, "ALL") // under whatever ids it was entered
                : words("LOCK.RELEASE", "FENCE", fence);
    }

    Object[] words(String command, Object... more) {
        return words(command, keys, owner, more);
    }

    /** The key before the owner; or several keys after it, and an M in the command. */
    static Object[] words(String command, List<byte[]> keys, String owner, Object... more) {
        return keys.size() == 1
                ? append(new Object[] {command, keys.get(0), owner}, more)
                : append(append(new Object[] {command.replace(".", ".M"), owner, (long) keys.size()}, keys.toArray()), more);
    }

    static Object[] append(Object[] words, Object... more) {
        Object[] all = Arrays.copyOf(words, words.length + more.length);
        System.arraycopy(more, 0, all, words.length, more.length);
        return all;
    }
}

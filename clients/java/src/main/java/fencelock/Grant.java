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
    final Consumer<String> onLost;
    volatile long leaseMs;
    volatile long until; // by System.nanoTime(), counted from before the request
    volatile long due;
    volatile String reason;
    volatile boolean released;
    WeakReference<Hold> hold = new WeakReference<>(null);

    Grant(List<byte[]> keys, String owner, long fence, Options options, long until) {
        this.keys = keys;
        this.owner = owner;
        this.fence = fence;
        this.leaseMs = options.leaseMs();
        this.renewed = options.renewed();
        this.onLost = options.onLost();
        this.until = until;
        plan();
    }

    void plan() {
        due = renewed
                ? System.nanoTime() + (long) (leaseMs * 1e6 / 3 * ThreadLocalRandom.current().nextDouble(0.85, 1.0))
                : until;
    }

    String name() {
        return new String(keys.get(0), StandardCharsets.UTF_8);
    }

    Object[] renewal(long ms) {
        if (keys.size() == 1) {
            return new Object[] {"LOCK.RENEW", keys.get(0), owner, "PX", ms, "FENCE", fence};
        }
        List<Object> words = new ArrayList<>(List.of("LOCK.MRENEW", owner, ms, (long) keys.size()));
        words.addAll(keys);
        words.addAll(List.of("FENCE", fence));
        return words.toArray();
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

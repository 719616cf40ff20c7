package fencelock;

import java.util.function.Consumer;

/** What is asked for: the mode in the words of LOCK.ACQUIRE, and what becomes of a grant. */
record Options(Object[] mode, long leaseMs, long mostMs, boolean renewed, boolean watched, String owner, Consumer<String> onLost) {
    static final Options EXCLUSIVE = new Options(new Object[0], 30_000, Long.MAX_VALUE, true, false, null, null);

    boolean shared() {
        return mode.length > 0 && mode[0].equals("SHARED");
    }

    Options mode(Object... words) {
        return new Options(words, leaseMs, mostMs, renewed, watched, owner, onLost);
    }

    Options lease(long ms, boolean renewed) {
        if (ms < 1) {
            throw new IllegalArgumentException("a lease lasts for 1 ms or more");
        }
        return new Options(mode, ms, mostMs, renewed, watched, owner, onLost);
    }

    Options most(long ms) {
        return new Options(mode, leaseMs, ms, renewed, watched, owner, onLost);
    }

    Options watch() {
        return new Options(mode, leaseMs, mostMs, renewed, true, owner, onLost);
    }

    Options owner(String owner) {
        return new Options(mode, leaseMs, mostMs, renewed, watched, owner, onLost);
    }

    Options onLost(Consumer<String> onLost) {
        return new Options(mode, leaseMs, mostMs, renewed, watched, owner, onLost);
    }
}

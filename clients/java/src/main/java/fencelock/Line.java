package fencelock;

import java.util.HashMap;
import java.util.Map;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.concurrent.Semaphore;

/**
 * Those of this process who wait, in the order in which they came, and the few of them who wait in the server.
 *
 * <p>Who finds no connection to wait on asks now and then. A line is served from the front, so only the first for each key
 * must do so often. Where turns are announced, all sleep until they are called.
 */
final class Line {

    /** One who waits. */
    static final class Place {
        private final long rank;
        private final Semaphore bell = new Semaphore(0);
        private boolean inside;

        private Place(long rank) {
            this.rank = rank;
        }
    }

    private int free;
    private int waits; // that have not given up or come to their end
    private boolean closed;
    private long ranks;
    private final TreeMap<Long, Place> asleep = new TreeMap<>();
    private final Map<String, TreeSet<Long>> lines = new HashMap<>();
    private final Map<String, Place> owners = new HashMap<>();

    Line(int waiters) {
        free = waiters;
    }

    /** Somebody asks for a lock. Throws if it is too late for that. */
    synchronized void begin() {
        check();
        waits++;
    }

    synchronized void end() {
        waits--;
        notifyAll();
    }

    synchronized void check() {
        if (closed) {
            throw LockException.refused("CLOSED these locks are closed; make others from a client that is open");
        }
    }

    /** Ends all waits, and returns when the last of them has given up its place, or after so long. */
    synchronized void close(long ms) {
        closed = true;
        owners.values().forEach(place -> place.bell.release());
        long end = System.nanoTime() + ms * 1_000_000;
        boolean interrupted = false;
        for (long left; waits > 0 && (left = (end - System.nanoTime()) / 1_000_000) > 0;) {
            try {
                wait(left);
            } catch (InterruptedException e) {
                interrupted = true;
            }
        }
        if (interrupted) {
            Thread.currentThread().interrupt();
        }
    }

    synchronized Place join(String key, String owner) {
        Place place = new Place(ranks++);
        lines.computeIfAbsent(key, k -> new TreeSet<>()).add(place.rank);
        owners.put(owner, place);
        return place;
    }

    synchronized boolean first(String key, Place place) {
        return lines.get(key).first() == place.rank;
    }

    /** Leaves the line and the connection, and wakes who comes next. */
    synchronized void part(String key, String owner, Place place) {
        owners.remove(owner, place);
        TreeSet<Long> line = lines.get(key);
        line.remove(place.rank);
        if (line.isEmpty()) {
            lines.remove(key);
        } else if (asleep.containsKey(line.first())) {
            asleep.get(line.first()).bell.release();
        }
        if (place.inside && asleep.isEmpty()) {
            free++;
        } else if (place.inside) {
            Place next = asleep.pollFirstEntry().getValue();
            next.inside = true;
            next.bell.release();
        }
    }

    /** Waits until there is a connection to wait on, or somebody calls; tells whether there is one. */
    boolean enter(Place place, long ms) throws InterruptedException {
        synchronized (this) {
            if (!place.inside && free > 0) {
                free--;
                place.inside = true;
            }
            if (place.inside) {
                return true;
            }
            asleep.put(place.rank, place);
        }
        try {
            place.bell.tryAcquire(ms, java.util.concurrent.TimeUnit.MILLISECONDS);
            place.bell.drainPermits();
        } finally {
            synchronized (this) {
                asleep.remove(place.rank);
            }
        }
        synchronized (this) {
            return place.inside;
        }
    }

    /** Wakes an owner whose turn has come. */
    synchronized void call(String owner) {
        Place place = owners.get(owner);
        if (place != null) {
            place.bell.release();
        }
    }
}

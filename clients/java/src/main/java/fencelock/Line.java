package fencelock;

import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeSet;
import java.util.concurrent.Semaphore;
import java.util.concurrent.TimeUnit;

/**
 * Those of this process who wait, in the order in which they came, and the few of them who wait in the server.
 *
 * <p>Who finds no connection to wait on asks now and then. A line is served from the front, so only the first for each key
 * must do so often. Where turns are announced, all sleep until they are called.
 */
final class Line {

    /** One who waits. */
    static final class Place implements Comparable<Place> {
        private final long rank;
        private final List<String> keys;
        private final String owner;
        private final Semaphore bell = new Semaphore(0);
        private boolean inside;

        private Place(long rank, List<String> keys, String owner) {
            this.rank = rank;
            this.keys = keys;
            this.owner = owner;
        }

        @Override
        public int compareTo(Place other) {
            return Long.compare(rank, other.rank);
        }
    }

    private int free;
    private int waits; // that have not given up or come to their end
    private volatile boolean closed;
    private long ranks;
    private final TreeSet<Place> asleep = new TreeSet<>();
    private final Map<List<String>, TreeSet<Place>> lines = new HashMap<>();
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
        if (closed) {
            notifyAll();
        }
    }

    void check() {
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

    synchronized Place join(List<String> keys, String owner) {
        Place place = new Place(ranks++, keys, owner);
        lines.computeIfAbsent(keys, k -> new TreeSet<>()).add(place);
        owners.put(owner, place);
        return place;
    }

    synchronized boolean first(Place place) {
        return lines.get(place.keys).first() == place;
    }

    /** Leaves the line and the connection, and wakes who comes next. */
    synchronized void part(Place place) {
        owners.remove(place.owner, place);
        TreeSet<Place> line = lines.get(place.keys);
        line.remove(place);
        if (line.isEmpty()) {
            lines.remove(place.keys);
        } else if (asleep.contains(line.first())) {
            line.first().bell.release();
        }
        Place next = place.inside ? asleep.pollFirst() : null;
        if (next != null) {
            next.inside = true;
            next.bell.release();
        } else if (place.inside) {
            free++;
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
            asleep.add(place);
        }
        try {
            place.bell.tryAcquire(ms, TimeUnit.MILLISECONDS);
            place.bell.drainPermits();
        } finally {
            synchronized (this) {
                asleep.remove(place);
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

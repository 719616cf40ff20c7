package fencelock;

import java.net.InetAddress;
import java.net.UnknownHostException;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.security.SecureRandom;
import java.util.HashMap;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.locks.LockSupport;
import java.util.concurrent.locks.ReadWriteLock;

/**
 * The locks of one server, over one {@link Transport}. Make one for each client and share it.
 *
 * <p>Each lock that it gives is like a {@link java.util.concurrent.locks.ReentrantLock}: an object that the threads of a
 * program share. Two objects for one name exclude each other, in one thread too.
 */
public final class Locks implements AutoCloseable {
    private static final SecureRandom RANDOM = new SecureRandom();
    private static final String PROCESS = host() + ":" + ProcessHandle.current().pid() + ":";

    private static final long CLOSE_MS = 3000; // for a wait to give up, when it has heard of it

    final Transport transport;
    final Line line;
    final Keeper keeper = new Keeper(this);
    private String channel;
    private boolean listening;

    public Locks(Transport transport) {
        this.transport = transport;
        line = new Line(transport.waiters());
    }

    /** A lock for one thread at a time. */
    public FencedLock lock(String key) {
        return new FencedLock(this, keys(key), Options.EXCLUSIVE);
    }

    /** Many readers at a time, or one writer. A writer may read; a reader who wants to write leaves first. */
    public ReadWriteLock readWriteLock(String key) {
        FencedLock write = lock(key);
        return new ReadersAndWriter(write.with(Options.EXCLUSIVE.mode("SHARED")), write);
    }

    private record ReadersAndWriter(FencedLock readLock, FencedLock writeLock) implements ReadWriteLock {
    }

    /** A lock for {@code limit} threads at a time. All who use the name say the same limit. */
    public FencedLock semaphore(String key, int limit) {
        return semaphore(key, limit, 1);
    }

    /** A semaphore of {@code limit} permits, of which each thread takes {@code permits} together. */
    public FencedLock semaphore(String key, int limit, int permits) {
        Options options = Options.EXCLUSIVE.mode("LIMIT", (long) limit, "PERMITS", (long) permits);
        return new FencedLock(this, keys(key), options);
    }

    /** Several locks, all or none, under one fence; who waits for them holds none. In a cluster they share a slot. */
    public FencedLock multi(String... keys) {
        return new FencedLock(this, keys(keys), Options.EXCLUSIVE);
    }

    /** Ends all waits with {@code CLOSED}, gives back all that is held, and stops. The client stays open. */
    @Override
    public void close() {
        line.close(transport.sliceMs() + CLOSE_MS);
        keeper.close();
        transport.close();
    }

    private static List<byte[]> keys(String... keys) {
        if (keys.length == 0) {
            throw new IllegalArgumentException("name at least one lock");
        }
        byte[][] raw = new byte[keys.length][];
        for (int i = 0; i < keys.length; i++) {
            raw[i] = keys[i].getBytes(StandardCharsets.UTF_8);
        }
        return List.of(raw);
    }

    /** A name for one holder, which nobody else has: host, process, and a random number. */
    static String newOwner() {
        byte[] random = new byte[8];
        RANDOM.nextBytes(random);
        return PROCESS + HexFormat.of().formatHex(random);
    }

    private static String host() {
        try {
            String name = InetAddress.getLocalHost().getHostName();
            return name.substring(0, Math.min(name.length(), 64));
        } catch (UnknownHostException e) {
            return "unknown";
        }
    }

    /** Sends a request that may be sent twice, and returns its reply: after at most two more tries. */
    Object ask(Object... words) {
        for (int turn = 0;; turn++) {
            try {
                return transport.send(0, words);
            } catch (LockException e) {
                if (turn == 2 || !e.passing()) {
                    throw e;
                }
            }
            LockSupport.parkNanos((turn + 1) * ThreadLocalRandom.current().nextLong(20_000_000, 100_000_000));
        }
    }

    /** The same, of what only the holder may ask; a string of somebody else says that nothing is held. */
    Object askHeld(Object... words) {
        try {
            return ask(words);
        } catch (LockException e) {
            if (!e.code().equals("WRONGTYPE")) {
                throw e;
            }
            return 0L;
        }
    }

    /** The same, and a reply of 0 is a loss. */
    long settle(Grant grant, Object[] words) {
        long left = least(askHeld(words));
        if (left == 0) {
            throw new LockLostException(grant.name(), why(grant));
        }
        return left;
    }

    /** The reason why a hold has ended, in the server's words. */
    String why(Grant grant) {
        for (Object[] check : grant.checks()) {
            try {
                String reason = reason(transport.send(0, check));
                if (reason != null) {
                    return reason;
                }
            } catch (LockException e) {
                return e.code().equals("WRONGTYPE") ? "overwritten" : "unknown";
            }
        }
        return "unknown";
    }

    /** Why there is no hold, as the reply to a check says; {@code null} if there is one, or nothing is known. */
    static String reason(Object reply) {
        if (reply instanceof Long) { // of a key that holds something else
            return "overwritten";
        }
        if (reply instanceof LockException e) {
            return e.code().equals("WRONGTYPE") ? "overwritten" : null;
        }
        Map<String, Object> info = map(reply);
        return Long.valueOf(0).equals(info.get("result")) ? text(info.get("reason")) : null;
    }

    /** The channel on which turns are announced, or {@code null} if nobody can listen. */
    synchronized String channel() {
        if (!listening) {
            channel = transport.listen(this::heard);
            listening = true;
        }
        return channel;
    }

    /** The fence, the length of the owner's name, and the name. */
    private void heard(byte[] message) {
        String text = new String(message, StandardCharsets.ISO_8859_1);
        int start = text.indexOf(' ', text.indexOf(' ') + 1) + 1;
        int length = Integer.parseInt(text.substring(text.indexOf(' ') + 1, start - 1));
        line.call(StandardCharsets.UTF_8.decode(ByteBuffer.wrap(message, start, length)).toString());
    }

    static long least(Object reply) {
        return reply instanceof List<?> all
                ? all.stream().mapToLong(Locks::least).min().orElse(0)
                : reply == null ? 0 : (Long) reply;
    }

    static String text(Object value) {
        return value instanceof byte[] bytes ? new String(bytes, StandardCharsets.UTF_8) : String.valueOf(value);
    }

    /** A map, which is a list of names and values in RESP2. */
    static Map<String, Object> map(Object reply) {
        Map<String, Object> map = new HashMap<>();
        if (reply instanceof Map<?, ?> all) {
            all.forEach((name, value) -> map.put(text(name), value));
        } else {
            List<?> all = (List<?>) reply;
            for (int i = 0; i + 1 < all.size(); i += 2) {
                map.put(text(all.get(i)), all.get(i + 1));
            }
        }
        return map;
    }
}

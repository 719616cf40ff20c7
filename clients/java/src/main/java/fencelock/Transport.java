package fencelock;

import java.util.List;
import java.util.function.Consumer;

/**
 * The way to the server, over whatever client there is. Two methods carry all; the others are for those who can.
 *
 * <p>The words of a request are keys as {@code byte[]}, by which a cluster finds the node, and else {@code String} or
 * {@code Long}. A reply is {@code Long}, {@code byte[]}, {@code String}, {@code null}, a {@code List} or a {@code Map} of
 * these. What goes wrong is thrown as a {@link LockException}.
 */
public interface Transport {

    /**
     * Sends one request and returns its reply. Interrupts do not end it.
     *
     * @param blockMs how long the server may keep the reply; 0 unless {@link #waiters} allows it
     */
    Object send(long blockMs, Object... words);

    /**
     * Sends several requests, if it can in one go and over a connection on which nobody waits.
     *
     * @return for each a reply, or the {@link LockException} in its place
     */
    default List<Object> sendAll(List<Object[]> requests, long limitMs) {
        return requests.stream().map(words -> {
            try {
                return send(0, words);
            } catch (LockException e) {
                return e;
            }
        }).toList();
    }

    /** How many requests may wait in the server at a time: a part of a pool, and 0 where all share one connection. */
    int waiters();

    /** How long one request may wait in the server; below the time after which the client gives up. */
    default long sliceMs() {
        return 1000;
    }

    /**
     * Begins to listen, if it can.
     *
     * @return the channel on which {@code heard} is told of turns that have come, or {@code null}
     */
    default String listen(Consumer<byte[]> heard) {
        return null;
    }

    /**
     * Sends requests that read keys, if it can, and has the server tell of the changes of these from then on.
     *
     * @param requests a list that may be changed
     * @param changed is called with the keys, or with {@code null} if any may have changed
     * @return as {@link #sendAll}, with the reply to CLIENT TRACKING before them, or {@code null}
     */
    default List<Object> look(List<Object[]> requests, Consumer<List<byte[]>> changed) {
        return null;
    }

    /** Closes what it has opened itself, and not the client that it was given. */
    default void close() {
    }
}

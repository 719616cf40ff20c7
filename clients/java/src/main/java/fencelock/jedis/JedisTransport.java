package fencelock.jedis;

import fencelock.LockException;
import fencelock.Transport;
import java.time.Duration;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.NoSuchElementException;
import java.util.function.Consumer;
import java.util.stream.Collectors;
import redis.clients.jedis.ClusterCommandArguments;
import redis.clients.jedis.CommandArguments;
import redis.clients.jedis.Connection;
import redis.clients.jedis.Protocol;
import redis.clients.jedis.commands.ProtocolCommand;
import redis.clients.jedis.exceptions.JedisDataException;
import redis.clients.jedis.exceptions.JedisException;
import redis.clients.jedis.providers.ClusterConnectionProvider;
import redis.clients.jedis.providers.ConnectionProvider;
import redis.clients.jedis.util.Pool;

/**
 * Over Jedis. Half of a pool waits, at most; renewals go over one connection beside it, and so does a request that finds the
 * pool exhausted, a release above all.
 */
public final class JedisTransport implements Transport {
    private static final int REPLY_MS = 5000;
    private static final Duration BORROW = Duration.ofMillis(1);
    private static final int LOOK_MS = 1000; // as renewals wait meanwhile

    private final Pool<Connection> pool;
    private final ConnectionProvider provider;
    private final int waiters;
    private Connection spare;
    private Connection ear; // on which changes are told; its thread reads it
    private long earId;
    private volatile int timeoutMs; // of the client; 0 as long as it is unknown, or for none

    /** Over the pool of a {@code RedisClient}, {@code JedisPooled} and such: {@code new JedisTransport(jedis.getPool())}. */
    public JedisTransport(Pool<Connection> pool) {
        this.pool = pool;
        this.provider = null;
        this.waiters = pool.getMaxTotal() < 0 ? 500 : Math.max(1, pool.getMaxTotal() / 2);
    }

    /** Over whatever finds the connections: for a cluster, or for Sentinel. So many of them wait at a time, at most. */
    public JedisTransport(ConnectionProvider provider, int waiters) {
        this.pool = null;
        this.provider = provider;
        this.waiters = waiters;
    }

    @Override
    public int waiters() {
        return waiters;
    }

    @Override
    public long sliceMs() {
        return timeoutMs > 0 ? Math.min(1000, timeoutMs / 2) : 1000;
    }

    @Override
    public Object send(long blockMs, Object... words) {
        CommandArguments arguments = arguments(words);
        Connection connection = null;
        try {
            connection = provider != null ? provider.getConnection(arguments) : borrow();
            if (connection != null) {
                timeoutMs = connection.getSoTimeout();
                return talk(connection, arguments, blockMs + REPLY_MS);
            }
            if (blockMs > 0) {
                throw LockException.exhausted(); // to wait on the spare one would keep renewals and releases waiting
            }
            synchronized (this) {
                return talk(spare(), arguments, REPLY_MS);
            }
        } catch (Exception e) {
            throw failure(e);
        } finally {
            if (connection != null) {
                giveBack(connection);
            }
        }
    }

    @Override
    public List<Object> sendAll(List<Object[]> requests, long limitMs) {
        return provider != null ? Transport.super.sendAll(requests, limitMs) : sendTogether(requests, limitMs);
    }

    private synchronized List<Object> sendTogether(List<Object[]> requests, long limitMs) {
        try {
            Connection connection = spare();
            limit(connection, within(limitMs));
            requests.forEach(words -> connection.sendCommand(arguments(words)));
            return connection.getMany(requests.size()).stream()
                    .map(reply -> reply instanceof JedisDataException e ? failure(e) : plain(reply)).toList();
        } catch (Exception e) {
            return Collections.nCopies(requests.size(), failure(e));
        }
    }

    @Override
    public synchronized List<Object> look(List<Object[]> requests, Consumer<List<byte[]>> changed) {
        if (provider != null) {
            return null;
        }
        boolean isNew = ear == null;
        try {
            long id = isNew ? openEar(changed) : earId;
            requests.add(0, new Object[] {"CLIENT", "TRACKING", "ON", "REDIRECT", id});
        } catch (Exception e) {
            throw failure(e);
        }
        List<Object> replies = sendTogether(requests, LOOK_MS);
        if (!isNew && replies.get(0) instanceof LockException e && !e.code().isEmpty()) {
            ear.disconnect(); // the server does not know it any more; its thread now sees that, and has all looked at again
            ear = null;
        }
        return replies;
    }

    /** Opens a connection on which the server tells of what is tracked, and a thread that hears it; returns its id. */
    private long openEar(Consumer<List<byte[]>> changed) throws Exception {
        Connection connection = pool.getFactory().makeObject().getObject();
        try {
            connection.sendCommand(Protocol.Command.CLIENT, "ID");
            earId = connection.getIntegerReply();
            connection.sendCommand(Protocol.Command.SUBSCRIBE, "__redis__:invalidate");
            connection.getOne();
            connection.setTimeoutInfinite();
        } catch (Exception e) {
            connection.close();
            throw e;
        }
        ear = connection;
        Thread thread = new Thread(() -> {
            try {
                while (true) {
                    Object keys = ((List<?>) connection.getUnflushedObject()).get(2);
                    changed.accept(keys == null ? null : ((List<?>) keys).stream().map(byte[].class::cast).toList());
                }
            } catch (JedisException e) {
                synchronized (this) {
                    ear = ear == connection ? null : ear;
                    connection.close();
                }
                changed.accept(null);
            }
        }, "fencelock-ear");
        thread.setDaemon(true);
        thread.start();
        return earId;
    }

    @Override
    public synchronized void close() {
        if (spare != null) {
            spare.close();
        }
        if (ear != null) {
            ear.disconnect();
        }
    }

    /** A connection of the pool, or {@code null} if it is exhausted. */
    private Connection borrow() throws Exception {
        try {
            return pool.borrowObject(BORROW);
        } catch (NoSuchElementException e) {
            return null;
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
            return null;
        }
    }

    private void giveBack(Connection connection) {
        if (provider != null) {
            connection.close();
        } else if (connection.isBroken()) {
            pool.returnBrokenResource(connection);
            pool.clear(); // those that lie idle are likely to be broken, too
        } else {
            pool.returnResource(connection);
        }
    }

    /** A connection made as the pool makes its own, and not of it. */
    private Connection spare() throws Exception {
        if (spare == null || spare.isBroken() || !spare.isConnected()) {
            if (spare != null) {
                spare.close();
            }
            spare = pool.getFactory().makeObject().getObject();
            timeoutMs = spare.getSoTimeout();
        }
        return spare;
    }

    private int within(long limitMs) {
        return (int) Math.max(1, timeoutMs > 0 ? Math.min(timeoutMs, limitMs) : limitMs);
    }

    private static void limit(Connection connection, int ms) {
        if (connection.getSoTimeout() != ms) {
            connection.setSoTimeout(ms);
        }
    }

    private Object talk(Connection connection, CommandArguments arguments, long limitMs) {
        limit(connection, within(limitMs));
        try {
            connection.sendCommand(arguments);
            return plain(connection.getOne());
        } catch (JedisDataException e) {
            if (String.valueOf(e.getMessage()).startsWith("READONLY")) {
                connection.setBroken(); // the next one may reach another server
            }
            throw e;
        } finally {
            if (!connection.isBroken()) {
                limit(connection, timeoutMs);
            }
        }
    }

    /** What went wrong; what is a fault and not a failure is thrown as it is. */
    private LockException failure(Exception e) {
        LockException failure = e instanceof LockException known ? known : LockException.of(e, JedisDataException.class);
        if (provider instanceof ClusterConnectionProvider cluster && (failure.code().equals("MOVED") || failure.code().equals("ASK"))) {
            cluster.renewSlotCache();
        }
        if (failure.code().isEmpty() && e instanceof RuntimeException fault && !(e instanceof JedisException)
                && (pool == null || !pool.isClosed())) {
            throw fault;
        }
        return failure;
    }

    private CommandArguments arguments(Object... words) {
        byte[] name = ((String) words[0]).getBytes();
        ProtocolCommand command = () -> name;
        boolean slots = provider instanceof ClusterConnectionProvider; // which asks them for the slot
        CommandArguments arguments = slots ? new ClusterCommandArguments(command) : new CommandArguments(command);
        for (int i = 1; i < words.length; i++) {
            if (words[i] instanceof byte[] key) {
                arguments.key(key);
            } else {
                arguments.add(words[i].toString());
            }
        }
        return arguments;
    }

    /** Without Jedis's own types: a map is a list of pairs there. */
    private static Object plain(Object reply) {
        if (reply instanceof List<?> all && !all.isEmpty() && all.get(0) instanceof Map.Entry) {
            return all.stream().map(pair -> (Map.Entry<?, ?>) pair).filter(pair -> pair.getValue() != null)
                    .collect(Collectors.toMap(Map.Entry::getKey, pair -> plain(pair.getValue())));
        }
        return reply;
    }
}

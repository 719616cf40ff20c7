package fencelock.lettuce;

import fencelock.LockException;
import fencelock.Transport;
import io.lettuce.core.RedisChannelHandler;
import io.lettuce.core.RedisClient;
import io.lettuce.core.RedisCommandExecutionException;
import io.lettuce.core.RedisConnectionStateListener;
import io.lettuce.core.RedisException;
import io.lettuce.core.RedisURI;
import io.lettuce.core.api.StatefulConnection;
import io.lettuce.core.api.StatefulRedisConnection;
import io.lettuce.core.cluster.RedisClusterClient;
import io.lettuce.core.codec.ByteArrayCodec;
import io.lettuce.core.masterreplica.MasterReplica;
import io.lettuce.core.output.NestedMultiOutput;
import io.lettuce.core.protocol.AsyncCommand;
import io.lettuce.core.protocol.Command;
import io.lettuce.core.protocol.CommandArgs;
import io.lettuce.core.protocol.ProtocolKeyword;
import io.lettuce.core.pubsub.RedisPubSubAdapter;
import io.lettuce.core.pubsub.StatefulRedisPubSubConnection;
import java.net.SocketAddress;
import java.nio.ByteBuffer;
import java.util.Collections;
import java.util.List;
import java.util.Objects;
import java.util.UUID;
import java.util.concurrent.CancellationException;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.function.Consumer;
import java.util.function.Supplier;
import java.util.stream.Stream;

/**
 * Over Lettuce: one connection for all requests, on which nobody ever waits, and one that hears whose turn has come. Both are
 * opened when they are needed first.
 */
public final class LettuceTransport implements Transport {
    private static final long REPLY_MS = 5000;
    private static final long LOOK_MS = 1000; // as renewals wait meanwhile

    private final Supplier<StatefulConnection<byte[], byte[]>> connect;
    private final Supplier<StatefulRedisPubSubConnection<byte[], byte[]>> subscribe;
    private final Supplier<StatefulRedisConnection<byte[], byte[]>> tracked; // of one server, not of a cluster
    private StatefulConnection<byte[], byte[]> connection;
    private StatefulRedisConnection<byte[], byte[]> ear;
    private StatefulRedisPubSubConnection<byte[], byte[]> listener;
    private boolean closed;

    /** Over a client for one server. */
    public LettuceTransport(RedisClient client) {
        this.connect = () -> client.connect(ByteArrayCodec.INSTANCE);
        this.tracked = () -> client.connect(ByteArrayCodec.INSTANCE);
        this.subscribe = () -> client.connectPubSub(ByteArrayCodec.INSTANCE);
    }

    /**
     * Over the primary that the sentinels of this URI name. The connections of the client itself would stay with an old one,
     * which goes on for some seconds after a failover as if nothing were.
     */
    public LettuceTransport(RedisClient client, RedisURI sentinels) {
        this.connect = () -> MasterReplica.connect(client, ByteArrayCodec.INSTANCE, sentinels);
        this.tracked = () -> client.connect(ByteArrayCodec.INSTANCE, sentinels);
        this.subscribe = () -> client.connectPubSub(ByteArrayCodec.INSTANCE, sentinels);
    }

    /** Over a client for a cluster. */
    public LettuceTransport(RedisClusterClient client) {
        this.connect = () -> client.connect(ByteArrayCodec.INSTANCE);
        this.tracked = null;
        this.subscribe = () -> client.connectPubSub(ByteArrayCodec.INSTANCE);
    }

    @Override
    public int waiters() {
        return 0;
    }

    @Override
    public Object send(long blockMs, Object... words) {
        Object reply = sendAll(List.<Object[]>of(words), REPLY_MS).get(0);
        if (reply instanceof LockException e) {
            throw e;
        }
        return reply;
    }

    @Override
    public List<Object> sendAll(List<Object[]> requests, long limitMs) {
        return sendAll(this::connection, requests, limitMs);
    }

    private List<Object> sendAll(Supplier<StatefulConnection<byte[], byte[]>> way, List<Object[]> requests, long limitMs) {
        StatefulConnection<byte[], byte[]> connection;
        List<AsyncCommand<byte[], byte[], List<Object>>> sent = requests.stream().map(LettuceTransport::command).toList();
        try {
            connection = way.get();
            connection.dispatch(sent); // all in one go; one by one, each would be written by itself
        } catch (RedisException e) {
            return Collections.nCopies(sent.size(), failure(e));
        }
        long timeout = connection.getTimeout().toMillis();
        long end = System.nanoTime() + (timeout > 0 ? Math.min(timeout, limitMs) : limitMs) * 1_000_000;
        return sent.stream().map(command -> reply(connection, command, end)).toList();
    }

    @Override
    public String listen(Consumer<byte[]> heard) {
        String channel = "fencelock:" + UUID.randomUUID();
        try {
            synchronized (this) {
                listener = subscribe.get();
            }
            listener.addListener(new RedisPubSubAdapter<>() {
                @Override
                public void message(byte[] channel, byte[] message) {
                    heard.accept(message);
                }
            });
            listener.sync().subscribe(channel.getBytes());
            return channel;
        } catch (RedisException e) {
            return null; // so it asks more often
        }
    }

    @Override
    public List<Object> look(List<Object[]> requests, Consumer<List<byte[]>> changed) {
        if (tracked == null) {
            return null;
        }
        requests.add(0, new Object[] {"CLIENT", "TRACKING", "ON"});
        return sendAll(() -> ear(changed), requests, LOOK_MS);
    }

    private synchronized StatefulConnection<byte[], byte[]> ear(Consumer<List<byte[]>> changed) {
        if (ear == null && !closed) {
            ear = tracked.get();
            ear.addListener(push -> {
                if (push.getType().equals("invalidate")) {
                    List<?> keys = (List<?>) push.getContent(LettuceTransport::bytes).get(1);
                    changed.accept(keys == null ? null : keys.stream().map(byte[].class::cast).toList());
                }
            });
            ear.addListener(new RedisConnectionStateListener() {
                @Override
                public void onRedisConnected(RedisChannelHandler<?, ?> connection, SocketAddress address) {
                    changed.accept(null); // it was broken meanwhile
                }
            });
        }
        return ear;
    }

    private static byte[] bytes(ByteBuffer buffer) {
        byte[] bytes = new byte[buffer.remaining()];
        buffer.duplicate().get(bytes);
        return bytes;
    }

    @Override
    public synchronized void close() {
        closed = true;
        Stream.of(ear, connection, listener).filter(Objects::nonNull).forEach(StatefulConnection::close);
    }

    private synchronized StatefulConnection<byte[], byte[]> connection() {
        if (closed) {
            throw new RedisException("closed");
        }
        if (connection == null) {
            connection = connect.get();
        }
        return connection;
    }

    /** One that does not answer may be half-open, which no client notices: the next request has a new one. */
    private synchronized void drop(StatefulConnection<byte[], byte[]> silent) {
        if (connection == silent || ear == silent) {
            connection = connection == silent ? null : connection;
            ear = ear == silent ? null : ear;
            silent.closeAsync();
        }
    }

    /** The reply, or what went wrong; an interrupt is kept for later. */
    private Object reply(StatefulConnection<byte[], byte[]> connection, AsyncCommand<byte[], byte[], List<Object>> command, long end) {
        boolean interrupted = false;
        try {
            while (true) {
                try {
                    List<Object> reply = command.get(Math.max(0, end - System.nanoTime()), TimeUnit.NANOSECONDS);
                    // What is not a list comes as a list of one; lists of one are nothing that these commands reply.
                    return reply == null || reply.isEmpty() ? null : reply.size() == 1 ? reply.get(0) : reply;
                } catch (InterruptedException e) {
                    interrupted = true;
                } catch (TimeoutException e) {
                    command.cancel(); // or it would be sent again after a reconnect
                    drop(connection);
                    return LockException.unreachable(e);
                } catch (ExecutionException e) {
                    return failure(e.getCause());
                } catch (CancellationException e) {
                    return LockException.unreachable(e);
                }
            }
        } finally {
            if (interrupted) {
                Thread.currentThread().interrupt();
            }
        }
    }

    private static LockException failure(Throwable e) {
        return LockException.of(e, RedisCommandExecutionException.class);
    }

    private record Name(String name) implements ProtocolKeyword {
        @Override
        public byte[] getBytes() {
            return name.getBytes();
        }

        @Override
        public String toString() {
            return name;
        }
    }

    private static AsyncCommand<byte[], byte[], List<Object>> command(Object... words) {
        CommandArgs<byte[], byte[]> args = new CommandArgs<>(ByteArrayCodec.INSTANCE);
        for (int i = 1; i < words.length; i++) {
            if (words[i] instanceof byte[] key) {
                args.addKey(key);
            } else {
                args.add(words[i].toString());
            }
        }
        Name name = new Name((String) words[0]);
        return new AsyncCommand<>(new Command<>(name, new NestedMultiOutput<>(ByteArrayCodec.INSTANCE), args));
    }
}

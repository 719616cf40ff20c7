package fencelock;

import fencelock.jedis.JedisTransport;
import fencelock.lettuce.LettuceTransport;
import io.lettuce.core.RedisURI;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import redis.clients.jedis.Connection;
import redis.clients.jedis.ConnectionPool;
import redis.clients.jedis.ConnectionPoolConfig;
import redis.clients.jedis.DefaultJedisClientConfig;
import redis.clients.jedis.HostAndPort;
import redis.clients.jedis.Protocol;

/** A client of each kind, and the locks over it. */
abstract class Client implements AutoCloseable {
    private static final Set<String> WARM = new HashSet<>();

    final Locks locks;

    Client(Transport transport) {
        locks = new Locks(transport);
    }

    static Client of(String name, int port, int connections, double timeout) {
        return name.equals("jedis") ? new Jedis(port, connections, timeout) : new Lettuce(port, timeout);
    }

    /** Loads the classes of a client, which takes seconds on a busy machine. */
    static void warm(String name, int port) throws InterruptedException {
        if (WARM.add(name)) {
            try (Client first = of(name, port, 2, 5)) {
                first.locks.lock("warm").acquire().release();
            }
        }
    }

    @Override
    public void close() {
        locks.close();
    }

    /** Takes all connections of the pool. */
    void exhaust() {
    }

    void giveBack() {
    }

    static final class Jedis extends Client {
        final ConnectionPool pool;
        private final List<Connection> taken = new ArrayList<>();

        Jedis(int port, int connections, double timeout) {
            this(pool(port, connections, timeout));
        }

        Jedis(ConnectionPool pool) {
            super(new JedisTransport(pool));
            this.pool = pool;
        }

        private static ConnectionPool pool(int port, int connections, double timeout) {
            ConnectionPoolConfig config = new ConnectionPoolConfig();
            config.setMaxTotal(connections);
            return new ConnectionPool(new HostAndPort("127.0.0.1", port),
                    DefaultJedisClientConfig.builder().timeoutMillis((int) (timeout * 1000)).build(), config);
        }

        @Override
        void exhaust() {
            while (taken.size() < pool.getMaxTotal()) {
                taken.add(pool.getResource());
            }
        }

        @Override
        void giveBack() {
            taken.forEach(Connection::close);
        }

        /** Takes a connection, until somebody pushes something to this key. */
        Object waitFor(String key) {
            try (Connection connection = pool.getResource()) {
                connection.setTimeoutInfinite();
                connection.sendCommand(Protocol.Command.BLPOP, key, "0");
                return connection.getOne();
            }
        }

        @Override
        public void close() {
            super.close();
            pool.close();
        }
    }

    static final class Lettuce extends Client {
        private final io.lettuce.core.RedisClient client;

        Lettuce(int port, double timeout) {
            this(io.lettuce.core.RedisClient.create(RedisURI.builder().withHost("127.0.0.1").withPort(port)
                    .withTimeout(Duration.ofMillis((long) (timeout * 1000))).build()));
        }

        Lettuce(io.lettuce.core.RedisClient client) {
            super(new LettuceTransport(client));
            this.client = client;
        }

        @Override
        public void close() {
            super.close();
            client.shutdown(Duration.ZERO, Duration.ofSeconds(2));
        }
    }
}

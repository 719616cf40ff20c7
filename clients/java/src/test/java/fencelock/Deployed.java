package fencelock;

import fencelock.jedis.JedisTransport;
import fencelock.lettuce.LettuceTransport;
import io.lettuce.core.ClientOptions;
import io.lettuce.core.RedisClient;
import io.lettuce.core.RedisURI;
import io.lettuce.core.cluster.RedisClusterClient;
import java.io.File;
import java.io.FileInputStream;
import java.io.InputStream;
import java.security.KeyStore;
import java.security.cert.CertificateFactory;
import java.time.Duration;
import java.util.HashSet;
import java.util.Set;
import javax.net.ssl.SSLContext;
import javax.net.ssl.TrustManagerFactory;
import redis.clients.jedis.ConnectionPool;
import redis.clients.jedis.DefaultJedisClientConfig;
import redis.clients.jedis.HostAndPort;
import redis.clients.jedis.providers.ClusterConnectionProvider;
import redis.clients.jedis.providers.SentineledConnectionProvider;

/** How each client gets to the locks of the servers of clients/conformance/deploy.py. */
final class Deployed {
    private Deployed() {
    }

    static Client connect(String client, Driver.Request place) {
        if (place.kind.equals("alone")) {
            return Client.of(client, place.ports.get(0), place.connections, place.timeout);
        }
        return client.equals("jedis") ? jedis(place) : lettuce(place);
    }

    /** What is closed beside the locks. */
    private record Over(AutoCloseable rest) {
        Client with(Transport transport) {
            return new Client(transport) {
                @Override
                public void close() {
                    super.close();
                    try {
                        rest.close();
                    } catch (Exception e) {
                        throw new AssertionError(e);
                    }
                }
            };
        }
    }

    private static Client jedis(Driver.Request place) {
        DefaultJedisClientConfig usual = DefaultJedisClientConfig.builder().timeoutMillis((int) (place.timeout * 1000)).build();
        if (place.kind.equals("cluster")) {
            var provider = new ClusterConnectionProvider(Set.of(new HostAndPort("127.0.0.1", place.ports.get(0))), usual);
            return new Over(provider).with(new JedisTransport(provider, 4));
        }
        if (place.kind.equals("sentinel")) {
            Set<HostAndPort> sentinels = new HashSet<>();
            place.ports.forEach(port -> sentinels.add(new HostAndPort("127.0.0.1", port)));
            var provider = new SentineledConnectionProvider(place.name, usual, sentinels, usual);
            return new Over(provider).with(new JedisTransport(provider, 4));
        }
        return new Client.Jedis(new ConnectionPool(new HostAndPort("localhost", place.ports.get(0)),
                DefaultJedisClientConfig.builder().timeoutMillis(usual.getSocketTimeoutMillis()).ssl(true).sslSocketFactory(trust(place.ca).getSocketFactory())
                .user(place.user).password(place.password).build()));
    }

    private static Client lettuce(Driver.Request place) {
        RedisURI.Builder uri = RedisURI.builder().withTimeout(Duration.ofMillis((long) (place.timeout * 1000)));
        if (place.kind.equals("cluster")) {
            RedisClusterClient cluster = RedisClusterClient.create(uri.withHost("127.0.0.1").withPort(place.ports.get(0)).build());
            return new Over(() -> cluster.shutdown(Duration.ZERO, Duration.ofSeconds(2))).with(new LettuceTransport(cluster));
        }
        RedisClient lettuce = RedisClient.create();
        AutoCloseable end = () -> lettuce.shutdown(Duration.ZERO, Duration.ofSeconds(2));
        if (place.kind.equals("sentinel")) {
            place.ports.forEach(port -> uri.withSentinel("127.0.0.1", port));
            return new Over(end).with(new LettuceTransport(lettuce, uri.withSentinelMasterId(place.name).build()));
        }
        RedisClient secure = RedisClient.create(uri.withHost("localhost").withPort(place.ports.get(0)).withSsl(true)
                .withAuthentication(place.user, place.password.toCharArray()).build());
        secure.setOptions(ClientOptions.builder().sslOptions(io.lettuce.core.SslOptions.builder()
                .trustManager(new File(place.ca)).build()).build());
        lettuce.shutdown();
        return new Client.Lettuce(secure);
    }

    private static SSLContext trust(String certificate) {
        try (InputStream file = new FileInputStream(certificate)) {
            KeyStore store = KeyStore.getInstance(KeyStore.getDefaultType());
            store.load(null, null);
            store.setCertificateEntry("server", CertificateFactory.getInstance("X.509").generateCertificate(file));
            TrustManagerFactory trusted = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
            trusted.init(store);
            SSLContext context = SSLContext.getInstance("TLS");
            context.init(null, trusted.getTrustManagers(), null);
            return context;
        } catch (Exception e) {
            throw new AssertionError(e);
        }
    }
}

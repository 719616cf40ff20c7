package fencelock;

import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import com.google.gson.JsonPrimitive;
import fencelock.jedis.JedisTransport;
import fencelock.lettuce.LettuceTransport;
import io.lettuce.core.ClientOptions;
import io.lettuce.core.RedisClient;
import io.lettuce.core.RedisURI;
import io.lettuce.core.cluster.RedisClusterClient;
import java.io.BufferedReader;
import java.io.File;
import java.io.FileInputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.security.KeyStore;
import java.security.cert.CertificateFactory;
import java.time.Duration;
import java.util.HashSet;
import java.util.Set;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import java.util.stream.StreamSupport;
import javax.net.ssl.SSLContext;
import javax.net.ssl.TrustManagerFactory;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Assumptions;
import org.junit.jupiter.api.DynamicTest;
import org.junit.jupiter.api.TestFactory;
import redis.clients.jedis.ConnectionPool;
import redis.clients.jedis.DefaultJedisClientConfig;
import redis.clients.jedis.HostAndPort;
import redis.clients.jedis.providers.ClusterConnectionProvider;
import redis.clients.jedis.providers.SentineledConnectionProvider;

/** Plays the scenarios that say so on servers of clients/conformance/deploy.py, without the proxy. */
class DeploymentsTest {

    private static final class Deployed implements AutoCloseable {
        private final Process process;
        private final BufferedReader said;
        private final JsonObject told;
        private Server home;

        Deployed(String kind) throws IOException {
            process = new ProcessBuilder("python3", Server.CLIENTS.resolve("conformance/deploy.py").toString(), kind)
                    .redirectError(ProcessBuilder.Redirect.INHERIT).start();
            said = new BufferedReader(new InputStreamReader(process.getInputStream()));
            String line = said.readLine();
            Assumptions.assumeTrue(line.startsWith("{"), line);
            told = JsonParser.parseString(line).getAsJsonObject();
            home = new Server(told.get("home").getAsInt());
        }

        Server failover() throws IOException {
            process.getOutputStream().write("failover\n".getBytes());
            process.getOutputStream().flush();
            home = new Server(Integer.parseInt(said.readLine()));
            return home;
        }

        @Override
        public void close() throws Exception {
            process.getOutputStream().close();
            process.waitFor();
        }
    }

    private final Set<String> warm = new HashSet<>();
    private Deployed deployed;

    @AfterEach
    void end() throws Exception {
        if (deployed != null) {
            deployed.close();
        }
    }

    @TestFactory
    Stream<DynamicTest> tls() throws Exception {
        return scenarios("tls");
    }

    @TestFactory
    Stream<DynamicTest> cluster() throws Exception {
        return scenarios("cluster");
    }

    @TestFactory
    Stream<DynamicTest> sentinel() throws Exception {
        return scenarios("sentinel");
    }

    private Stream<DynamicTest> scenarios(String kind) throws Exception {
        String brief = System.getenv("BRIEF");
        Assumptions.assumeTrue(kind.equals("cluster") || brief == null || brief.isEmpty(), "only in the long form");
        deployed = new Deployed(kind);
        return Stream.of("jedis", "lettuce").flatMap(client -> ConformanceTest.named(client + ", " + kind,
                scenario -> ConformanceTest.list(scenario, "on").contains(new JsonPrimitive(kind)), scenario -> {
                    ConformanceTest.assume(client, scenario, "failover", client.equals("lettuce") ? "watch" : "");
                    if (warm.add(client + kind)) { // its classes are loaded, which takes seconds on a busy machine
                        try (Client first = connect(client, kind)) {
                            first.locks.lock("k").acquire().release();
                        }
                    }
                    deployed.home.cmd("FLUSHALL");
                    ConformanceTest.play(scenario, deployed.home, client.equals("jedis"), null, deployed::failover,
                            () -> connect(client, kind));
                }));
    }

    private Client connect(String client, String kind) {
        JsonObject told = deployed.told;
        int port = kind.equals("sentinel") ? 0 : told.get("port").getAsInt(); // in a cluster of a node that does not have the key
        return client.equals("jedis") ? jedis(kind, told, port) : lettuce(kind, told, port);
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

    private static Client jedis(String kind, JsonObject told, int port) {
        DefaultJedisClientConfig usual = DefaultJedisClientConfig.builder().build();
        if (kind.equals("cluster")) {
            var provider = new ClusterConnectionProvider(Set.of(new HostAndPort("127.0.0.1", port)), usual);
            return new Over(provider).with(new JedisTransport(provider, 4));
        }
        if (kind.equals("sentinel")) {
            Set<HostAndPort> sentinels = new HashSet<>();
            sentinels(told).forEach(sentinel -> sentinels.add(new HostAndPort("127.0.0.1", sentinel)));
            var provider = new SentineledConnectionProvider(told.get("name").getAsString(), usual, sentinels, usual);
            return new Over(provider).with(new JedisTransport(provider, 4));
        }
        return new Client.Jedis(new ConnectionPool(new HostAndPort("localhost", port), DefaultJedisClientConfig.builder().ssl(true)
                .sslSocketFactory(trust(told).getSocketFactory())
                .user(told.get("user").getAsString()).password(told.get("password").getAsString()).build()));
    }

    private static Client lettuce(String kind, JsonObject told, int port) {
        RedisURI.Builder uri = RedisURI.builder();
        if (kind.equals("cluster")) {
            RedisClusterClient cluster = RedisClusterClient.create(RedisURI.create("127.0.0.1", port));
            return new Over(() -> cluster.shutdown(Duration.ZERO, Duration.ofSeconds(2))).with(new LettuceTransport(cluster));
        }
        RedisClient lettuce = RedisClient.create();
        AutoCloseable end = () -> lettuce.shutdown(Duration.ZERO, Duration.ofSeconds(2));
        if (kind.equals("sentinel")) {
            sentinels(told).forEach(sentinel -> uri.withSentinel("127.0.0.1", sentinel));
            return new Over(end).with(new LettuceTransport(lettuce, uri.withSentinelMasterId(told.get("name").getAsString()).build()));
        }
        RedisClient secure = RedisClient.create(uri.withHost("localhost").withPort(port).withSsl(true)
                .withAuthentication(told.get("user").getAsString(), told.get("password").getAsString().toCharArray()).build());
        secure.setOptions(ClientOptions.builder().sslOptions(io.lettuce.core.SslOptions.builder()
                .trustManager(new File(told.get("ca").getAsString())).build()).build());
        lettuce.shutdown();
        return new Client.Lettuce(secure);
    }

    private static IntStream sentinels(JsonObject told) {
        return StreamSupport.stream(told.getAsJsonArray("sentinels").spliterator(), false).mapToInt(JsonElement::getAsInt);
    }

    private static SSLContext trust(JsonObject told) {
        try (InputStream file = new FileInputStream(told.get("ca").getAsString())) {
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

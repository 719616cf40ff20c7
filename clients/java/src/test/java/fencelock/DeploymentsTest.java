package fencelock;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import fencelock.jedis.JedisTransport;
import fencelock.lettuce.LettuceTransport;
import io.lettuce.core.RedisClient;
import io.lettuce.core.RedisURI;
import io.lettuce.core.cluster.RedisClusterClient;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.time.Duration;
import java.util.HashSet;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.Assumptions;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;
import redis.clients.jedis.DefaultJedisClientConfig;
import redis.clients.jedis.HostAndPort;
import redis.clients.jedis.providers.ClusterConnectionProvider;
import redis.clients.jedis.providers.SentineledConnectionProvider;

/** A cluster, and a primary that sentinels name: servers of clients/conformance/deploy.py. */
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

        void failover() throws IOException {
            process.getOutputStream().write("failover\n".getBytes());
            process.getOutputStream().flush();
            home = new Server(Integer.parseInt(said.readLine()));
        }

        @Override
        public void close() throws Exception {
            process.getOutputStream().close();
            process.waitFor();
        }
    }

    @ParameterizedTest
    @ValueSource(strings = {"jedis", "lettuce"})
    void locksOfACluster(String client) throws Exception {
        try (Deployed deployed = new Deployed("cluster")) {
            int port = deployed.told.get("port").getAsInt(); // of a node that has another slot than that of the key
            if (client.equals("jedis")) {
                try (var provider = new ClusterConnectionProvider(Set.of(new HostAndPort("127.0.0.1", port)),
                        DefaultJedisClientConfig.builder().build())) {
                    inLine(deployed, new JedisTransport(provider, 4), () -> { });
                }
            } else {
                RedisClusterClient cluster = RedisClusterClient.create(RedisURI.create("127.0.0.1", port));
                inLine(deployed, new LettuceTransport(cluster), () -> { });
                cluster.shutdown(Duration.ZERO, Duration.ofSeconds(2));
            }
        }
    }

    @ParameterizedTest
    @ValueSource(strings = {"jedis", "lettuce"})
    void locksOfThePrimaryThatSentinelsName(String client) throws Exception {
        String brief = System.getenv("BRIEF");
        Assumptions.assumeTrue(brief == null || brief.isEmpty(), "only in the long form");
        try (Deployed deployed = new Deployed("sentinel")) {
            String name = deployed.told.get("name").getAsString();
            Set<HostAndPort> sentinels = new HashSet<>();
            for (JsonElement port : deployed.told.getAsJsonArray("sentinels")) {
                sentinels.add(new HostAndPort("127.0.0.1", port.getAsInt()));
            }
            if (client.equals("jedis")) {
                DefaultJedisClientConfig usual = DefaultJedisClientConfig.builder().build();
                try (var provider = new SentineledConnectionProvider(name, usual, sentinels, usual)) {
                    inLine(deployed, new JedisTransport(provider, 4), deployed::failover);
                }
            } else {
                RedisURI.Builder uri = RedisURI.builder().withSentinelMasterId(name);
                sentinels.forEach(sentinel -> uri.withSentinel(sentinel.getHost(), sentinel.getPort()));
                RedisClient lettuce = RedisClient.create();
                inLine(deployed, new LettuceTransport(lettuce, uri.build()), deployed::failover);
                lettuce.shutdown(Duration.ZERO, Duration.ofSeconds(2));
            }
        }
    }

    private interface Change {
        void happens() throws Exception;
    }

    /** One holds and is renewed, another waits, and both know where the lock is after the change. */
    private static void inLine(Deployed deployed, Transport transport, Change change) throws Exception {
        try (Locks locks = new Locks(transport)) {
            FencedLock lock = locks.lock("k").withRenewedLease(Duration.ofSeconds(20));
            Hold hold = lock.acquire();
            CompletableFuture<Hold> next = new CompletableFuture<>();
            Thread waits = new Thread(() -> {
                try {
                    next.complete(lock.acquire());
                } catch (Exception e) {
                    next.completeExceptionally(e);
                }
            });
            waits.start();
            Server.until("it is in line", 10, () -> deployed.home.waiting("k") == 1);
            change.happens();
            long renewals = renewals(deployed);
            Server.until("it is in line there", 40, () -> deployed.home.waiting("k") == 1);
            Server.until("the lock is renewed there", 40, () -> renewals(deployed) > renewals);
            assertTrue(hold.check());
            assertNull(hold.lostReason());
            hold.release();
            Hold after = next.get(20, TimeUnit.SECONDS);
            assertTrue(after.fence() > hold.fence());
            assertEquals(1, deployed.home.holders("k"));
            after.release();
            Server.until("nothing is left", 5, () -> deployed.home.holders("k") == 0 && deployed.home.waiting("k") == 0);
        }
    }

    private static long renewals(Deployed deployed) {
        return deployed.home.cmd("INFO", "commandstats").toString().lines().filter(line -> line.startsWith("cmdstat_lock.renew:"))
                .mapToLong(line -> Long.parseLong(line.replaceAll("^.*:calls=(\\d+),.*$", "$1"))).sum();
    }
}

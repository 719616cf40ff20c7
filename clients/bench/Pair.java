import fencelock.FencedLock;
import fencelock.Locks;
import fencelock.jedis.JedisTransport;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.function.IntConsumer;
import redis.clients.jedis.RedisClient;
import redis.clients.jedis.commands.ProtocolCommand;

/** The program of clients/bench in Java, on Jedis. See bench.py for what it obeys. */
class Pair {
    private static final String OWNER = "bench:12345:0123456789abcdef";
    private static final int WARM = 100_000; // pairs, after which the compiler of the JVM is done and no longer part of the figures

    public static void main(String[] args) throws Exception {
        RedisClient jedis = RedisClient.create("redis://127.0.0.1:" + args[0]);
        Locks locks = new Locks(new JedisTransport(jedis.getPool()));
        ProtocolCommand acquire = command("LOCK.ACQUIRE"), release = command("LOCK.RELEASE"), ping = command("PING");
        IntConsumer raw = n -> {
            for (int i = 0; i < n; i++) {
                Object fence = jedis.sendCommand(acquire, "raw", OWNER, "PX", "30000");
                jedis.sendCommand(release, "raw", OWNER, "FENCE", fence.toString());
            }
        };
        IntConsumer lib = n -> {
            for (int i = 0; i < n; i++) {
                FencedLock lock = locks.lock("pair");
                lock.lock();
                lock.unlock();
            }
        };
        for (int i = 0; i < WARM; i += 1000) {
            raw.accept(1000);
            lib.accept(1000);
        }
        List<FencedLock> held = new ArrayList<>();
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in));
        for (String line; (line = lines.readLine()) != null; System.out.println("ok")) {
            String[] words = line.split(" ");
            int n = words[0].equals("turn") ? 1 : Integer.parseInt(words[1]);
            switch (words[0]) {
                case "raw" -> raw.accept(n);
                case "lib" -> lib.accept(n);
                case "hold" -> {
                    Duration lease = Duration.ofMillis(Integer.parseInt(words[2]));
                    for (int i = 0; i < n; i++) {
                        held.add(locks.lock("held:" + i).withRenewedLease(lease));
                        held.get(i).lock();
                    }
                }
                case "drop" -> {
                    held.forEach(FencedLock::unlock);
                    held.clear();
                }
                case "turn" -> {
                    FencedLock lock = locks.lock(words[1]);
                    lock.lock();
                    System.out.println("monotonic " + System.nanoTime());
                    lock.unlock();
                }
                case "rtt" -> {
                    for (int i = 0; i < n; i++) {
                        long begun = System.nanoTime();
                        jedis.sendCommand(ping);
                        System.out.println(System.nanoTime() - begun);
                    }
                }
                default -> throw new IllegalArgumentException(line);
            }
        }
        System.exit(0);
    }

    private static ProtocolCommand command(String name) {
        byte[] raw = name.getBytes(StandardCharsets.UTF_8);
        return () -> raw;
    }
}

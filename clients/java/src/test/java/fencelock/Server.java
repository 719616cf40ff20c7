package fencelock;

import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.net.ServerSocket;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import java.util.function.BooleanSupplier;
import redis.clients.jedis.Connection;
import redis.clients.jedis.HostAndPort;
import redis.clients.jedis.exceptions.JedisException;

/** A server with the module for all tests, a hostile proxy before it, and waiting for what must become true. */
final class Server {
    static final Path CLIENTS = Path.of("..").toAbsolutePath().normalize();
    private static Server one;

    final int port;
    private final Connection connection;
    private Proxy proxy;

    /** The one server, begun with the first test and killed with the program. Empty, and as by default. */
    static synchronized Server empty() throws IOException {
        if (one == null) {
            one = start();
        }
        one.cmd("REPLICAOF", "NO", "ONE"); // what a test that failed may have left
        one.cmd("LOCK.RECOVERY", "END");
        one.cmd("CONFIG", "SET", "lock.recovery-window-ms", "-1");
        one.cmd("ACL", "SETUSER", "default", "+@all", "nopass");
        one.cmd("CONFIG", "SET", "lock.claim-ms", "1000", "lock.max-lease-ms", "604800000", "lock.max-waiters-per-key", "20000",
                "busy-reply-threshold", "5000", "replica-serve-stale-data", "yes");
        one.cmd("FLUSHALL");
        return one;
    }

    private Server(int port) {
        this.port = port;
        connection = new Connection(new HostAndPort("127.0.0.1", port));
    }

    static Server start(String... more) throws IOException {
        int port;
        try (ServerSocket probe = new ServerSocket(0)) {
            port = probe.getLocalPort();
        }
        Path dir = Files.createTempDirectory("fencelock-java-");
        List<String> command = new ArrayList<>(List.of(System.getenv("SERVER_BIN"), "--port", "" + port, "--bind", "127.0.0.1",
                "--dir", dir.toString(), "--save", "", "--lock.recovery-window-ms", "-1", "--loadmodule", System.getenv("MODULE_PATH")));
        command.addAll(List.of(more));
        Process process = new ProcessBuilder(command)
                .redirectErrorStream(true).redirectOutput(dir.resolve("log").toFile()).start();
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            process.destroyForcibly();
            try (var files = Files.walk(dir)) {
                files.sorted(Comparator.reverseOrder()).forEach(file -> file.toFile().delete());
            } catch (IOException e) {
                // it lies in the folder for temporary files
            }
        }));
        Server server = new Server(port);
        until("the server answers", 20, () -> {
            try {
                return server.connection.ping();
            } catch (JedisException e) {
                server.connection.disconnect();
                return false;
            }
        });
        return server;
    }

    /** The one proxy before it. */
    synchronized Proxy proxy() throws IOException {
        if (proxy == null) {
            proxy = new Proxy(this);
        }
        return proxy;
    }

    /** A reply with texts in place of bytes, and a map in place of a list of names and values. */
    synchronized Object cmd(String... words) {
        connection.sendCommand(() -> words[0].getBytes(StandardCharsets.UTF_8),
                java.util.Arrays.copyOfRange(words, 1, words.length));
        return text(connection.getOne());
    }

    private static Object text(Object reply) {
        return reply instanceof byte[] bytes ? new String(bytes, StandardCharsets.UTF_8)
                : reply instanceof List<?> all ? all.stream().map(one -> one == null ? "" : text(one)).toList()
                : reply;
    }

    Map<String, Object> info(String key) {
        return Locks.map(cmd("LOCK.INFO", key));
    }

    long waiting(String key) {
        return (Long) info(key).get("waiting");
    }

    int holders(String key) {
        return ((List<?>) info(key).get("holds")).size();
    }

    /** Under how many ids the first holder is in. */
    Object entries(String key) {
        return Locks.map(((List<?>) info(key).get("holds")).get(0)).get("entries");
    }

    long number(String section, String field) {
        for (String line : cmd("INFO", section).toString().split("\r\n")) {
            if (line.startsWith(field + ":")) {
                return Long.parseLong(line.substring(field.length() + 1));
            }
        }
        throw new AssertionError("no " + field);
    }

    /** The only place that sleeps to wait for something. */
    static void until(String what, double seconds, BooleanSupplier condition) {
        long end = System.nanoTime() + (long) (seconds * 1e9);
        while (!condition.getAsBoolean()) {
            if (System.nanoTime() > end) {
                throw new AssertionError("not so after " + seconds + " s: " + what);
            }
            pause(0.005);
        }
    }

    /** Time passes: only where the time itself is the point. */
    static void pause(double seconds) {
        try {
            TimeUnit.NANOSECONDS.sleep((long) (seconds * 1e9));
        } catch (InterruptedException e) {
            throw new AssertionError(e);
        }
    }

    /** The hostile proxy of the conformance kit. */
    static final class Proxy {
        private final Process process;
        private final BufferedReader replies;
        final int port;

        Proxy(Server server) throws IOException {
            process = new ProcessBuilder("python3", CLIENTS.resolve("conformance/proxy.py").toString(), "" + server.port)
                    .redirectError(ProcessBuilder.Redirect.DISCARD).start();
            Runtime.getRuntime().addShutdownHook(new Thread(process::destroy));
            replies = new BufferedReader(new InputStreamReader(process.getInputStream(), StandardCharsets.UTF_8));
            port = Integer.parseInt(replies.readLine());
        }

        void tell(String line) throws IOException {
            process.getOutputStream().write((line + "\n").getBytes(StandardCharsets.UTF_8));
            process.getOutputStream().flush();
            if (!"ok".equals(replies.readLine())) {
                throw new AssertionError("the proxy does not know: " + line);
            }
        }
    }
}

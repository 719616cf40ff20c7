package fencelock;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import com.google.gson.JsonPrimitive;
import java.lang.ref.WeakReference;
import java.nio.file.Files;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collections;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.function.Predicate;
import java.util.function.Supplier;
import java.util.stream.Stream;
import java.util.stream.StreamSupport;
import org.junit.jupiter.api.Assumptions;
import org.junit.jupiter.api.DynamicTest;
import org.junit.jupiter.api.TestFactory;

/** Plays clients/conformance/scenarios.json on Jedis and on Lettuce, with the holds that belong to no thread. */
class ConformanceTest {

    interface Body {
        void play(JsonObject scenario) throws Exception;
    }

    @TestFactory
    Stream<DynamicTest> scenarios() throws Exception {
        return Stream.of("jedis", "lettuce").flatMap(client -> named(client, scenario -> true, scenario -> play(client, scenario)));
    }

    /** A test for each scenario of which this is true. */
    static Stream<DynamicTest> named(String who, Predicate<JsonObject> wanted, Body body) {
        String only = System.getProperty("scenario", "");
        try {
            JsonArray all = JsonParser.parseString(Files.readString(Server.CLIENTS.resolve("conformance/scenarios.json"))).getAsJsonArray();
            return StreamSupport.stream(all.spliterator(), false).map(JsonElement::getAsJsonObject).filter(wanted)
                    .filter(scenario -> (who + ": " + text(scenario, "name")).contains(only))
                    .map(scenario -> DynamicTest.dynamicTest(who + ": " + text(scenario, "name"), () -> body.play(scenario)));
        } catch (java.io.IOException e) {
            throw new AssertionError(e);
        }
    }

    /** Skips a scenario that needs more than the usual and this. */
    static void assume(String client, JsonObject scenario, String... more) {
        Set<String> can = new HashSet<>(List.of("cancel", "drop", "owner", "key", "extend", "two-programs"));
        can.addAll(List.of(more));
        String reason = text(scenario, "not-yet");
        if (scenario.has("except") && scenario.getAsJsonObject("except").has("java")) {
            reason = text(scenario.getAsJsonObject("except"), "java");
        }
        for (JsonElement need : list(scenario, "needs")) {
            reason = can.contains(need.getAsString()) ? reason : "there is no " + need.getAsString() + " with " + client;
        }
        String brief = System.getenv("BRIEF");
        if (scenario.has("thorough") && brief != null && !brief.isEmpty()) {
            reason = "only in the long form";
        }
        if (reason != null) {
            System.out.println("skipped: " + client + ": " + text(scenario, "name") + ": " + reason);
        }
        Assumptions.assumeTrue(reason == null, reason);
    }

    private static void play(String client, JsonObject scenario) throws Exception {
        assume(client, scenario, "unblock", "successor", "watch", client.equals("jedis") ? "pool" : "");
        Server server = Server.empty();
        Client.warm(client, server.port);
        long connections = server.number("clients", "connected_clients");
        Server.Proxy proxy = server.proxy();
        JsonObject options = scenario.has("client") ? scenario.getAsJsonObject("client") : new JsonObject();
        int port = options.has("direct") ? server.port : proxy.port;
        play(scenario, server, client.equals("jedis"), proxy, null,
                () -> Client.of(client, port, (int) number(options, "connections", 50), number(options, "timeout", 5)));
        Server.until("no thread is left", 10, () -> Thread.getAllStackTraces().keySet().stream()
                .noneMatch(thread -> thread.getName().startsWith("fencelock")));
        Server.until("no connection is left", 10, () -> server.number("clients", "connected_clients") <= connections);
    }

    /** Plays a scenario, and looks that nothing is left. Without a proxy, nothing befalls the requests. */
    static void play(JsonObject scenario, Server server, boolean blocks, Server.Proxy proxy, Failover failover, Supplier<Client> connect)
            throws Exception {
        Play play = new Play(scenario, server, blocks, proxy, failover, connect);
        try {
            for (JsonElement step : list(scenario, "steps")) {
                play.step(step.getAsJsonObject());
            }
            Server.until("no lock is held and nobody waits", 4, () -> play.keys.stream()
                    .allMatch(key -> play.server.holders(key) == 0 && play.server.waiting(key) == 0));
        } finally {
            play.close();
        }
    }

    /** What makes another server the primary, and returns it. */
    interface Failover {
        Server happens() throws Exception;
    }

    private static final class Play {
        private Server server; // where the keys are
        private final Server next; // where they will be, if there is a successor
        private final boolean blocks;
        private final Server.Proxy proxy;
        private final Failover failover;
        private final Client client;
        private final Client second; // of another program
        private final ExecutorService pool = Executors.newCachedThreadPool();
        private final List<String> keys;
        private final Map<String, Future<Optional<Hold>>> calls = new HashMap<>();
        private final Map<String, Hold> holds = new HashMap<>();
        private final Map<String, Boolean> exclusive = new HashMap<>();
        private final Map<String, Hold> believers = new ConcurrentHashMap<>();
        private final List<Integer> order = Collections.synchronizedList(new ArrayList<>());
        private int crowd;

        Play(JsonObject scenario, Server server, boolean blocks, Server.Proxy proxy, Failover failover, Supplier<Client> connect)
                throws Exception {
            this.server = server;
            this.blocks = blocks;
            this.proxy = proxy;
            this.failover = failover;
            next = list(scenario, "needs").contains(new JsonPrimitive("successor")) ? Server.start() : null;
            if (next != null) {
                next.cmd("CONFIG", "SET", "lock.recovery-window-ms", "10000");
                next.cmd("LOCK.ACQUIRE", "before", "other");
            }
            client = connect.get();
            second = list(scenario, "needs").contains(new JsonPrimitive("two-programs")) ? connect.get() : null;
            keys = scenario.has("keys") ? StreamSupport.stream(list(scenario, "keys").spliterator(), false)
                    .map(JsonElement::getAsString).toList() : List.of("k");
        }

        void close() throws Exception {
            if (proxy != null) {
                proxy.tell("heal");
            }
            pool.shutdownNow();
            client.close();
            if (second != null) {
                second.close();
            }
            if (next != null) {
                next.stop();
            }
        }

        private FencedLock lock(JsonObject step) {
            String kind = step.has("kind") ? text(step, "kind") : "exclusive";
            String key = step.has("key") ? text(step, "key") : keys.get(0);
            Locks locks = (number(step, "program", 1) == 2 ? second : client).locks;
            FencedLock lock = switch (kind) {
                case "multi" -> locks.multi(keys.toArray(String[]::new));
                case "semaphore" -> locks.semaphore(key, (int) number(step, "limit", 0));
                case "shared" -> (FencedLock) locks.readWriteLock(key).readLock();
                default -> locks.lock(key);
            };
            lock = step.has("watch") ? lock.watched() : lock;
            lock = step.has("owner") ? lock.withOwner(text(step, "owner")) : lock;
            Duration lease = Duration.ofMillis((long) (number(step, "timeout", 10) * 1000));
            return step.has("renew") ? lock.withRenewedLease(lease) : lock.withLease(lease);
        }

        void step(JsonObject step) throws Exception {
            String who = step.has("who") && step.get("who").isJsonPrimitive() ? text(step, "who") : null;
            String expect = text(step, "expect");
            Hold hold = text(step, "do").equals("drop") ? null : holds.get(who);
            double within = number(step, "within", 5);
            switch (text(step, "do")) {
                case "acquire" -> {
                    FencedLock lock = lock(step);
                    exclusive.put(who, !step.has("kind") || text(step, "kind").equals("multi"));
                    Duration wait = Duration.ofMillis((long) (number(step, "wait", 0) * 1000));
                    calls.put(who, pool.submit(() -> step.has("wait") ? lock.tryAcquire(wait) : Optional.of(lock.acquire())));
                    if (!step.has("later")) {
                        join(who, expect, within);
                    }
                }
                case "join" -> join(who, expect, within);
                case "cancel" -> calls.get(who).cancel(true);
                case "release" -> {
                    believers.remove(who);
                    assertEquals(expect, ended(hold::release));
                }
                case "owned" -> assertEquals(step.get("expect").getAsBoolean(), hold.check());
                case "extend" -> {
                    Duration lease = Duration.ofMillis((long) (number(step, "seconds", 0) * 1000));
                    assertEquals(expect, ended(() -> hold.renew(lease)));
                }
                case "unblock" -> {
                    for (String line : server.cmd("CLIENT", "LIST").toString().split("\n")) {
                        if (line.matches(".* flags=\\S*b.*")) {
                            server.cmd("CLIENT", "UNBLOCK", line.replaceAll("^id=(\\d+) .*", "$1"), text(step, "with"));
                        }
                    }
                }
                case "successor" -> {
                    server = next;
                    server.cmd("REPLICAOF", "127.0.0.1", "1");
                    server.cmd("REPLICAOF", "NO", "ONE");
                    proxy.tell("server " + server.port);
                }
                case "failover" -> server = failover.happens();
                case "lost" -> {
                    assertEquals(text(step, "reason"), hold.lost().get((long) (within * 1000), TimeUnit.MILLISECONDS));
                    assertEquals(text(step, "reason"), hold.lostReason());
                }
                case "not-lost" -> {
                    Server.pause(number(step, "for", 0));
                    assertTrue(hold.isHeld() && hold.lostReason() == null);
                }
                case "drop" -> {
                    WeakReference<Hold> seen = new WeakReference<>(holds.get(who));
                    List.of(holds, calls, believers).forEach(map -> map.remove(who));
                    Server.until("it is collected", 10, () -> {
                        System.gc();
                        return seen.get() == null;
                    });
                }
                case "rising" -> {
                    List<Long> fences = StreamSupport.stream(list(step, "who").spliterator(), false)
                            .map(name -> holds.get(name.getAsString()).fence()).toList();
                    assertEquals(fences.stream().distinct().sorted().toList(), fences);
                }
                case "crowd" -> {
                    for (crowd = 0; crowd < (int) number(step, "n", 0); crowd++) {
                        int number = crowd;
                        FencedLock lock = lock(new JsonObject());
                        pool.submit(() -> {
                            try (Hold one = lock.acquire()) {
                                order.add(number);
                            }
                            return null;
                        });
                        Server.until("it is in line", 5, () -> server.waiting(keys.get(0)) == number + 1);
                    }
                }
                case "crowd-in-order" -> {
                    Server.until("all had their turn", within, () -> order.size() == crowd);
                    assertEquals(order.stream().sorted().toList(), order);
                }
                case "exhaust" -> client.exhaust();
                case "give-back" -> client.giveBack();
                case "server" -> {
                    Object reply = server.cmd(StreamSupport.stream(list(step, "args").spliterator(), false)
                            .map(JsonElement::getAsString).toArray(String[]::new));
                    if (step.has("reply") && step.get("reply").isJsonNull()) {
                        assertNull(reply);
                    } else if (step.has("reply")) {
                        assertEquals(text(step, "reply"), reply.toString());
                    }
                }
                case "until" -> Server.until(step.toString(), within, () -> is(step));
                case "fault" -> {
                    if (proxy != null) {
                        proxy.tell(text(step, "line"));
                    }
                }
                case "sleep" -> Server.pause(number(step, "seconds", 0));
                default -> throw new AssertionError("unknown step " + step);
            }
        }

        /** Where nobody waits in the server, whoever is in line counts as blocked. */
        private boolean is(JsonObject step) {
            String key = step.has("key") ? text(step, "key") : keys.get(0);
            return (!step.has("waiting") || server.waiting(key) == number(step, "waiting", 0))
                    && (!step.has("mode") || server.info(key).get("mode").equals(text(step, "mode")))
                    && (!step.has("holders") || server.holders(key) == number(step, "holders", 0))
                    && (!step.has("blocked") || number(step, "blocked", 0)
                            == (blocks ? server.number("clients", "blocked_clients") : server.waiting(key)));
        }

        private void join(String who, String expect, double within) throws Exception {
            String result;
            try {
                Optional<Hold> hold = calls.get(who).get((long) (within * 1000), TimeUnit.MILLISECONDS);
                result = hold.isPresent() ? "held" : "busy";
                hold.ifPresent(got -> {
                    holds.put(who, got);
                    List<Hold> others = believers.values().stream()
                            .filter(one -> one.lostReason() == null && one.grant.name().equals(got.grant.name())).toList();
                    assertTrue(!exclusive.get(who) || others.isEmpty(), () -> who + " and others believe");
                    believers.put(who, got);
                });
            } catch (ExecutionException e) {
                result = e.getCause() instanceof LockException ? "error" : e.getCause().toString();
            }
            assertEquals(expect, result, who);
        }

        private static String ended(Runnable request) {
            try {
                request.run();
                return "ok";
            } catch (LockLostException e) {
                return "not-owned";
            } catch (IllegalMonitorStateException | LockException e) {
                return "error";
            }
        }
    }

    static String text(JsonObject from, String name) {
        return from.has(name) ? from.get(name).getAsString() : null;
    }

    private static double number(JsonObject from, String name, double otherwise) {
        return from.has(name) ? from.get(name).getAsDouble() : otherwise;
    }

    static JsonArray list(JsonObject from, String name) {
        return from.has(name) ? from.getAsJsonArray(name) : new JsonArray();
    }
}

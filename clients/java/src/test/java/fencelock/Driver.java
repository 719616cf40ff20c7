package fencelock;

import com.google.gson.Gson;
import com.google.gson.annotations.SerializedName;
import java.lang.ref.WeakReference;
import java.time.Duration;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Scanner;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.stream.IntStream;

/** The driver of clients/conformance. Its ways: jedis, lettuce. It plays with the holds that belong to no thread. */
final class Driver {
    static final class Request {
        @SerializedName("do")
        String what;
        String who, kind, owner, name, ca, user, password;
        List<Integer> ports;
        List<String> keys;
        int program, connections, limit;
        double timeout, seconds;
        Double wait, most;
        boolean renew, watch;
    }

    private static String way;
    private final Gson gson = new Gson();
    private final ExecutorService pool = Executors.newCachedThreadPool();
    private final Map<Integer, Client> clients = new ConcurrentHashMap<>();
    private final Map<String, Future<?>> calls = new ConcurrentHashMap<>();
    private final Map<String, Hold> holds = new ConcurrentHashMap<>();

    private synchronized void say(String what, String who, Map<String, ?> event) {
        Map<String, Object> all = new HashMap<>(event);
        all.put("do", what);
        all.put("who", who);
        System.out.println(gson.toJson(all));
    }

    private static Duration seconds(double n) {
        return Duration.ofMillis((long) (n * 1000));
    }

    private FencedLock lock(Request r) {
        Locks locks = clients.get(r.program).locks;
        FencedLock lock = switch (r.kind) {
            case "multi" -> locks.multi(r.keys.toArray(String[]::new));
            case "semaphore" -> locks.semaphore(r.keys.get(0), r.limit);
            case "shared" -> (FencedLock) locks.readWriteLock(r.keys.get(0)).readLock();
            default -> locks.lock(r.keys.get(0));
        };
        lock = r.watch ? lock.watched() : lock;
        lock = r.most == null ? lock : lock.withMaxHold(seconds(r.most));
        lock = r.owner == null ? lock : lock.withOwner(r.owner);
        return r.renew ? lock.withRenewedLease(seconds(r.timeout)) : lock.withLease(seconds(r.timeout));
    }

    private Map<String, ?> acquire(Request r) throws InterruptedException {
        Optional<Hold> hold = r.wait == null ? Optional.of(lock(r).acquire()) : lock(r).tryAcquire(seconds(r.wait));
        if (hold.isEmpty()) {
            return Map.of("outcome", "busy");
        }
        holds.put(r.who, hold.get());
        hold.get().lost().thenAccept(reason -> say("lost", r.who, Map.of("reason", reason)));
        return Map.of("outcome", "held", "fence", hold.get().fence());
    }

    private void drop(String who) {
        WeakReference<Hold> seen = new WeakReference<>(holds.remove(who));
        Server.until("it is collected", 10, () -> {
            System.gc();
            return seen.get() == null;
        });
    }

    /** Each connection waits for something that the player pushes. */
    private Map<String, ?> exhaust() {
        Client.Jedis jedis = (Client.Jedis) clients.get(1);
        int size = jedis.pool.getMaxTotal();
        IntStream.range(0, size).forEach(n -> pool.submit(() -> jedis.waitFor("nothing")));
        return Map.of("taken", size);
    }

    private static Map<String, ?> ok(Runnable done) {
        done.run();
        return Map.of("outcome", "ok");
    }

    private Map<String, ?> obey(Request r) throws InterruptedException {
        return switch (r.what) {
            case "open" -> ok(() -> clients.put(r.program, Deployed.connect(way, r)));
            case "acquire" -> acquire(r);
            case "cancel" -> ok(() -> calls.get(r.who).cancel(true));
            case "release" -> ok(() -> holds.get(r.who).release());
            case "extend" -> ok(() -> holds.get(r.who).renew(seconds(r.seconds)));
            case "owned" -> Map.of("owned", holds.get(r.who).check());
            case "drop" -> ok(() -> drop(r.who));
            case "exhaust" -> exhaust();
            case "close" -> ok(() -> clients.get(1).locks.close());
            case "end" -> ok(() -> {
                clients.values().forEach(Client::close);
                List.of(clients, calls, holds).forEach(Map::clear);
            });
            case "left" -> Map.of("left", Thread.getAllStackTraces().keySet().stream().map(Thread::getName)
                    .filter(name -> name.startsWith("fencelock")).toList());
            default -> throw new AssertionError("unknown request " + r.what);
        };
    }

    private Map<String, ?> answer(Request r) {
        try {
            return obey(r);
        } catch (LockLostException e) {
            return Map.of("outcome", "not-owned");
        } catch (IllegalMonitorStateException | LockException e) {
            return Map.of("outcome", "error", "error", e.toString());
        } catch (InterruptedException e) {
            return Map.of("outcome", "cancelled");
        } catch (RuntimeException | AssertionError e) {
            e.printStackTrace();
            throw e;
        }
    }

    private void run() {
        boolean jedis = way.equals("jedis");
        say("hello", null, Map.of("waits", jedis ? "blocked" : "tickets", "claims", jedis ? "LOCK.RENEW" : "LOCK.ACQUIRE", "cannot", Map.of(
                "fork", "a Java program does not fork",
                jedis ? "watch on sentinel" : "pool", jedis ? "the renewals tell" : "there is none: all share one connection")));
        for (Scanner lines = new Scanner(System.in); lines.hasNextLine();) {
            Request r = gson.fromJson(lines.nextLine(), Request.class);
            Future<?> call = pool.submit(() -> say(r.what, r.who, answer(r)));
            if (r.what.equals("acquire")) {
                calls.put(r.who, call);
            }
        }
        System.exit(0);
    }

    public static void main(String[] args) {
        way = args[0];
        new Driver().run();
    }
}

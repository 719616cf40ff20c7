package fencelock;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import fencelock.jedis.JedisTransport;
import io.lettuce.core.RedisCommandTimeoutException;
import io.lettuce.core.codec.StringCodec;
import io.lettuce.core.output.IntegerOutput;
import io.lettuce.core.protocol.CommandArgs;
import io.lettuce.core.protocol.ProtocolKeyword;
import java.net.Socket;
import java.net.SocketTimeoutException;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.Test;
import redis.clients.jedis.RedisClient;
import redis.clients.jedis.exceptions.JedisConnectionException;

/**
 * Clients as they are by default: Jedis gives up after 2 s and closes the connection, Lettuce after 60 s and keeps it. What
 * the library makes of them beside patient clients, and what a plain BLOCK 0 does there: the rows of docs/waiting.md.
 */
class DefaultsTest {
    private static final boolean BRIEF = System.getenv("BRIEF") != null;

    @Test
    void orderIsKeptAndNobodyIsLost() throws Exception {
        Server server = Server.empty();
        List<String> order = Collections.synchronizedList(new ArrayList<>());
        List<Thread> all = new ArrayList<>();
        server.cmd("LOCK.ACQUIRE", "k", "holder", "PX", "600000");
        RedisClient jedis = RedisClient.create("127.0.0.1", server.port);
        io.lettuce.core.RedisClient lettuce = io.lettuce.core.RedisClient.create("redis://127.0.0.1:" + server.port);
        try (Locks one = new Locks(new JedisTransport(jedis.getPool())); Client two = new Client.Lettuce(lettuce)) {
            long begun = System.nanoTime();
            for (String name : List.of("patient 1", "jedis 1", "lettuce 1", "patient 2", "lettuce 2", "jedis 2", "patient 3")) {
                int before = all.size();
                Locks locks = name.startsWith("jedis") ? one : two.locks;
                Thread thread = new Thread(() -> {
                    if (name.startsWith("patient")) {
                        patient(server.port, name, order);
                    } else {
                        FencedLock lock = locks.lock("k");
                        lock.lock();
                        order.add(name);
                        lock.unlock();
                    }
                });
                thread.start();
                all.add(thread);
                Server.until(name + " is in line", 10, () -> server.waiting("k") == before + 1);
            }
            double held = BRIEF ? 7 : 65; // beyond the time-out of Jedis, and in full that of Lettuce
            Server.pause(held - (System.nanoTime() - begun) / 1e9);
            assertEquals(7, server.waiting("k"));
            server.cmd("LOCK.RELEASE", "k", "holder");
            for (Thread thread : all) {
                thread.join(10_000);
            }
        }
        jedis.close();
        assertEquals(List.of("patient 1", "jedis 1", "lettuce 1", "patient 2", "lettuce 2", "jedis 2", "patient 3"), order);
        assertEquals(0, server.holders("k"));
    }

    /** A client without a time-out, that waits with BLOCK 0. */
    private static void patient(int port, String name, List<String> order) {
        try (Socket socket = new Socket("127.0.0.1", port)) {
            String owner = name.replace(' ', '-');
            socket.getOutputStream().write(("LOCK.ACQUIRE k " + owner + " BLOCK 0\r\n").getBytes(StandardCharsets.UTF_8));
            byte[] reply = new byte[64];
            String text = new String(reply, 0, socket.getInputStream().read(reply), StandardCharsets.UTF_8);
            order.add(text.startsWith(":") ? name : text);
            socket.getOutputStream().write(("LOCK.RELEASE k " + owner + "\r\n").getBytes(StandardCharsets.UTF_8));
            assertTrue(socket.getInputStream().read(reply) > 0);
        } catch (java.io.IOException e) {
            order.add(e.toString());
        }
    }

    @Test
    void jedisGivesUpAfterTwoSecondsAndClosesTheConnection() throws Exception {
        Server server = Server.empty();
        server.cmd("LOCK.ACQUIRE", "k", "holder", "PX", "600000");
        try (RedisClient jedis = RedisClient.create("127.0.0.1", server.port)) {
            long begun = System.nanoTime();
            JedisConnectionException e = assertThrows(JedisConnectionException.class, () -> jedis.sendCommand(
                    () -> "LOCK.ACQUIRE".getBytes(StandardCharsets.UTF_8), "k", "plain", "BLOCK", "0"));
            double seconds = (System.nanoTime() - begun) / 1e9;
            assertTrue(e.getCause() instanceof SocketTimeoutException, () -> "" + e.getCause());
            assertTrue(seconds > 1.9 && seconds < 20, () -> "after " + seconds + " s");
            Server.until("its wait has left the line", 10, () -> server.waiting("k") == 0);
        }
    }

    /** The time-out is 60 s by default, and here as well in full; in the short form it is set to 1 s. */
    @Test
    void lettuceGivesUpAndKeepsTheConnectionWhichNobodyElseCanUse() throws Exception {
        Server server = Server.empty();
        server.cmd("LOCK.ACQUIRE", "k", "holder", "PX", "600000");
        io.lettuce.core.RedisClient client = io.lettuce.core.RedisClient.create("redis://127.0.0.1:" + server.port);
        var connection = client.connect();
        assertEquals(Duration.ofSeconds(60), connection.getTimeout());
        if (BRIEF) {
            connection.setTimeout(Duration.ofSeconds(1));
        }
        ProtocolKeyword acquire = new ProtocolKeyword() {
            @Override
            public byte[] getBytes() {
                return "LOCK.ACQUIRE".getBytes(StandardCharsets.UTF_8);
            }
        };
        long begun = System.nanoTime();
        assertThrows(RedisCommandTimeoutException.class, () -> connection.sync().dispatch(acquire,
                new IntegerOutput<>(StringCodec.UTF8), new CommandArgs<>(StringCodec.UTF8).addKey("k").add("plain").add("BLOCK").add(0)));
        double seconds = (System.nanoTime() - begun) / 1e9;
        assertTrue(seconds > (BRIEF ? 0.9 : 59), () -> "after " + seconds + " s");
        assertTrue(connection.isOpen());
        assertEquals(1, server.waiting("k"), "the wait goes on");
        var ping = connection.async().ping();
        assertTrue(!ping.await(1, TimeUnit.SECONDS), "what comes behind waits too");
        server.cmd("LOCK.RELEASE", "k", "holder");
        Server.until("the lock is granted to nobody", 10, () -> server.holders("k") == 1);
        assertTrue(ping.await(10, TimeUnit.SECONDS));
        connection.close();
        client.shutdown(Duration.ZERO, Duration.ofSeconds(2));
    }
}

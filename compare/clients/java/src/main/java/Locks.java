import io.netty.channel.EventLoopGroup;
import io.netty.channel.nio.NioEventLoopGroup;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.TimeUnit;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.CuratorFrameworkFactory;
import org.apache.curator.framework.recipes.locks.InterProcessMutex;
import org.apache.curator.retry.RetryOneTime;
import org.redisson.Redisson;
import org.redisson.api.RLock;
import org.redisson.config.Config;

/**
 * Clients of locks from Java: one, driven line by line, or a crowd of threads; see src/peers/child.rs for the words.
 * Each has a connection of its own, as programs on different machines have; the threads that serve the connections are
 * shared, for hundreds of clients would have thousands of them.
 */
public class Locks {
    interface Client {
        void acquire() throws Exception;

        boolean release() throws Exception;
    }

    private static final EventLoopGroup LOOPS = new NioEventLoopGroup(4);
    private static final ExecutorService TASKS = Executors.newFixedThreadPool(16);

    static Client client(String peer, int lease, String name, int port) throws Exception {
        if (peer.equals("curator")) {
            return curator(lease, name, port);
        }
        Config config = new Config();
        config.setEventLoopGroup(LOOPS).setExecutor(TASKS);
        config.setTransportMode(org.redisson.config.TransportMode.NIO);
        config.useSingleServer().setAddress("redis://127.0.0.1:" + port)
            .setConnectionMinimumIdleSize(1).setSubscriptionConnectionMinimumIdleSize(1);
        var redisson = Redisson.create(config);
        RLock lock = peer.equals("redissonfair") ? redisson.getFairLock(name) : redisson.getLock(name);
        return new Client() {
            public void acquire() {
                lock.lock(lease, TimeUnit.MILLISECONDS);
            }

            public boolean release() {
                try {
                    lock.unlock();
                    return true;
                } catch (IllegalMonitorStateException notHeld) {
                    return false;
                }
            }
        };
    }

    static Client curator(int lease, String name, int port) throws Exception {
        CuratorFramework framework =
            CuratorFrameworkFactory.newClient("127.0.0.1:" + port, lease, lease, new RetryOneTime(100));
        framework.start();
        framework.blockUntilConnected();
        InterProcessMutex lock = new InterProcessMutex(framework, "/" + name);
        return new Client() {
            public void acquire() throws Exception {
                lock.acquire();
            }

            public boolean release() throws Exception {
                lock.release();
                return true;
            }
        };
    }

    public static void main(String[] words) throws Exception {
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in));
        if (words[0].equals("crowd")) {
            Crowd.run(words, lines);
        } else {
            one(client(words[1], Integer.parseInt(words[2]), words[4], Integer.parseInt(words[6])), lines);
        }
        System.exit(0);
    }

    static void one(Client client, BufferedReader lines) throws Exception {
        System.out.println("ready");
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            try {
                if (line.equals("acquire")) {
                    client.acquire();
                    System.out.println("held -");
                } else {
                    System.out.println("released " + (client.release() ? 1 : 0));
                }
            } catch (Exception error) {
                System.out.println("error " + String.valueOf(error).replace('\n', ' '));
            }
        }
    }
}

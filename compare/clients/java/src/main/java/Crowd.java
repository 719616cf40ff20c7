import java.io.BufferedReader;
import java.util.ArrayList;
import java.util.List;

/** A crowd of clients of one lock, each in a thread; see src/peers/child.rs for the words. */
class Crowd {
    private static final long DRAIN_NANOS = 5_000_000_000L;

    private final List<Worker> workers = new ArrayList<>();
    private volatile boolean ends;

    static void run(String[] words, BufferedReader lines) throws Exception {
        int lease = Integer.parseInt(words[2]);
        int port = Integer.parseInt(words[8]);
        List<Locks.Client> clients = new ArrayList<>();
        for (int index = 0; index < Integer.parseInt(words[4]); index++) {
            String name = words[6].equals("one") ? words[7] : words[7] + "n" + index;
            clients.add(Locks.client(words[1], lease, name, port));
        }
        System.out.println("ready");
        boolean goesOn = true;
        while (goesOn && "go".equals(lines.readLine())) {
            goesOn = new Crowd().round(clients, Long.parseLong(words[5]), lines);
        }
    }

    /** False: some wait for ever, and nobody can work again. */
    private boolean round(List<Locks.Client> clients, long holdMillis, BufferedReader lines) throws Exception {
        System.out.println("now " + System.nanoTime());
        for (int index = 0; index < clients.size(); index++) {
            workers.add(new Worker(index, clients.get(index), holdMillis));
        }
        workers.forEach(Thread::start);
        lines.readLine();
        ends = true;
        long deadline = System.nanoTime() + DRAIN_NANOS;
        for (Worker worker : workers) {
            worker.join(Math.max(1, (deadline - System.nanoTime()) / 1_000_000));
        }
        StringBuilder out = new StringBuilder();
        for (Worker worker : workers) {
            worker.tell(out);
        }
        System.out.println(out.append("end"));
        return workers.stream().noneMatch(Thread::isAlive);
    }

    private final class Worker extends Thread {
        private final int index;
        private final Locks.Client client;
        private final long hold;
        private final StringBuffer events = new StringBuffer();
        private volatile long waiting;
        private volatile Exception failure;

        Worker(int index, Locks.Client client, long hold) {
            this.index = index;
            this.client = client;
            this.hold = hold;
            setDaemon(true);
        }

        @Override
        public void run() {
            try {
                while (!ends) {
                    long asked = System.nanoTime();
                    waiting = asked;
                    client.acquire();
                    long granted = System.nanoTime();
                    waiting = 0;
                    rest();
                    long releasing = System.nanoTime();
                    client.release();
                    events.append(index + " " + asked + " " + granted + " " + releasing + " " + System.nanoTime() + "\n");
                    rest();
                }
            } catch (Exception error) {
                failure = error;
            }
        }

        private void rest() throws InterruptedException {
            if (hold > 0) {
                Thread.sleep(hold);
            }
        }

        void tell(StringBuilder out) {
            if (failure != null) {
                out.append("error ").append(String.valueOf(failure).replace('\n', ' ')).append("\n");
            }
            out.append(events);
            if (waiting > 0) {
                out.append("waiting ").append(waiting).append("\n");
            }
        }
    }
}

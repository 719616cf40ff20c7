package fencelock;

/** The lock could not be had, or asked for. */
public class LockException extends RuntimeException {
    private static final long serialVersionUID = 1;

    /** The first word of the server's error, such as {@code DEADLOCK}; empty if there was no reply at all. */
    private final String code;

    private LockException(String code, String message, Throwable cause) {
        super(message, cause);
        this.code = code;
    }

    /** The server said no. */
    public static LockException refused(String message) {
        return new LockException(message.split(" ", 2)[0], message, null);
    }

    /** No reply came; the request may have been obeyed. */
    public static LockException unreachable(Throwable cause) {
        return new LockException("", "no reply from the server: " + cause, cause);
    }

    /** What went wrong: the server's own words, if a cause of this class carries them. */
    public static LockException of(Throwable error, Class<? extends Throwable> refusal) {
        for (Throwable cause = error; cause != null; cause = cause.getCause()) {
            if (refusal.isInstance(cause)) {
                return refused(String.valueOf(cause.getMessage()));
            }
        }
        return unreachable(error);
    }

    /** Nothing was sent: there is no connection to wait on now, but others get through. */
    public static LockException exhausted() {
        return refused("EXHAUSTED all connections are in use");
    }

    /**
     * The first word of the server's error. {@code DEADLOCK}: this wait would never end, so release all that is held and
     * begin again. Empty if there was no reply.
     */
    public String code() {
        return code;
    }

    /**
     * Whether it is as if somebody had the lock: whoever uses SET NX has it, nobody knows yet after a failover who has it, or
     * there is nowhere to wait for it.
     */
    boolean busy() {
        return code.equals("WRONGTYPE") || code.equals("RECOVERING") || code.equals("EXHAUSTED");
    }

    /** Whether the same owner may simply ask again, and then has its place or its lock as before. */
    boolean passing() {
        return switch (code) {
            case "", "UNBLOCKED", "READONLY", "TRYAGAIN", "MOVED", "ASK", "LOADING", "BUSY", "MASTERDOWN",
                    "CLUSTERDOWN" -> true;
            default -> false;
        };
    }
}

package fencelock;

/** The lock was held, and is not any more. */
public class LockLostException extends IllegalMonitorStateException {
    private static final long serialVersionUID = 1;

    /** Why, in the server's words. */
    private final String reason;

    LockLostException(String key, String reason) {
        super("The lock '" + key + "' is no longer held: " + reason);
        this.reason = reason;
    }

    /** Why, in one word: {@code expired}, {@code broken}, {@code overwritten} and such, or {@code unknown}. */
    public String reason() {
        return reason;
    }
}

//! What is published about keys, as a subscriber hears it.

use super::{Connection, Server, Value};

/// A subscriber to what is published about keys.
pub(crate) struct Events(Connection);

impl Events {
    /// Listens to every class of events, by the channels of the keys.
    pub(crate) fn listen(server: &Server) -> Events {
        Events::listen_to(server, "KA")
    }

    /// Listens to the events of these classes.
    pub(crate) fn listen_to(server: &Server, classes: &str) -> Events {
        assert_eq!(server.cmd(&["CONFIG", "SET", "notify-keyspace-events", classes]), "OK");
        let mut conn = server.connect();
        conn.cmd(&["PSUBSCRIBE", "__key*__:*"]);
        Events(conn)
    }

    /// The next event: its channel, of which only the key is named in the first database, and its text.
    pub(crate) fn next(&mut self) -> String {
        let message = self.0.read();
        Events::text_of(&message).unwrap_or_else(|| panic!("no message: {message:?}"))
    }

    /// Everything published so far and not heard before.
    pub(crate) fn heard(&mut self) -> Vec<String> {
        self.0.send(&["PING"]);
        std::iter::from_fn(|| Events::text_of(&self.0.read())).collect()
    }

    /// What a message says; nothing for the reply to a PING.
    fn text_of(message: &Value) -> Option<String> {
        let [_, _, channel, text] = message.items() else { return None };
        let channel = channel.text();
        Some(format!("{} {}", channel.strip_prefix("__keyspace@0__:").unwrap_or(&channel), text.text()))
    }
}

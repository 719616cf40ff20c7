//! A bare RESP2/RESP3 connection, for tests that care about exact bytes, about what travels in one packet, or about a
//! reply that must not come yet. It retries nothing and hides nothing: an error reply is a value like any other.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::wait::DEADLINE;

/// One reply. The two nulls of RESP2 are kept apart, because the wire contract names which of them is sent.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `$-1` of RESP2 or `_` of RESP3.
    Nil,
    /// `*-1` of RESP2.
    NilArray,
    Int(i64),
    Bulk(Vec<u8>),
    Simple(String),
    Error(String),
    Array(Vec<Value>),
    Map(Vec<(Value, Value)>),
    Set(Vec<Value>),
    Push(Vec<Value>),
    Double(f64),
    Bool(bool),
}

impl Value {
    pub fn bulk(text: impl AsRef<[u8]>) -> Value {
        Value::Bulk(text.as_ref().to_vec())
    }

    /// The number; panics on anything else.
    pub fn int(&self) -> i64 {
        match self {
            Value::Int(n) => *n,
            other => panic!("not an integer: {other:?}"),
        }
    }

    /// The text of a bulk or simple string, escaped where it is not UTF-8; panics on anything else.
    pub fn text(&self) -> String {
        match self {
            Value::Bulk(bytes) => readable(bytes),
            Value::Simple(text) => text.clone(),
            other => panic!("not a string: {other:?}"),
        }
    }

    /// The whole error text, its code word first; panics on anything else.
    pub fn error(&self) -> &str {
        match self {
            Value::Error(text) => text,
            other => panic!("not an error: {other:?}"),
        }
    }

    /// The elements of an array, set or push; panics on anything else.
    pub fn items(&self) -> &[Value] {
        match self {
            Value::Array(items) | Value::Set(items) | Value::Push(items) => items,
            other => panic!("not an array: {other:?}"),
        }
    }

    /// The field `name` of a map, or of the flat array that stands for one in RESP2.
    pub fn get(&self, name: &str) -> Option<&Value> {
        let is_name = |key: &Value| matches!(key, Value::Bulk(_) | Value::Simple(_)) && key.text() == name;
        match self {
            Value::Map(pairs) => pairs.iter().find(|(key, _)| is_name(key)).map(|(_, value)| value),
            Value::Array(items) => items.chunks_exact(2).find(|pair| is_name(&pair[0])).map(|pair| &pair[1]),
            _ => None,
        }
    }

    /// The field `name`, which must be there.
    pub fn field(&self, name: &str) -> &Value {
        self.get(name).unwrap_or_else(|| panic!("no field {name} in {self:?}"))
    }
}

/// `assert_eq!(reply, 1)`
impl PartialEq<i64> for Value {
    fn eq(&self, other: &i64) -> bool {
        matches!(self, Value::Int(n) if n == other)
    }
}

/// `assert_eq!(reply, "OK")`: a bulk string, a simple string or an error with exactly this text.
impl PartialEq<&str> for Value {
    fn eq(&self, other: &&str) -> bool {
        match self {
            Value::Bulk(bytes) => bytes == other.as_bytes(),
            Value::Simple(text) | Value::Error(text) => text == other,
            _ => false,
        }
    }
}

/// Bytes as text for messages and comparisons: unchanged when UTF-8, escaped otherwise.
pub fn readable(bytes: &[u8]) -> String {
    std::str::from_utf8(bytes).map_or_else(|_| bytes.escape_ascii().to_string(), str::to_owned)
}

/// A command as the array of bulk strings that clients, replicas and the AOF all use.
pub fn encode<A: AsRef<[u8]>>(args: &[A]) -> Vec<u8> {
    let mut out = format!("*{}\r\n", args.len()).into_bytes();
    for arg in args.iter().map(AsRef::as_ref) {
        out.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
        out.extend_from_slice(arg);
        out.extend_from_slice(b"\r\n");
    }
    out
}

/// Reads one value. `Err` means that the connection ended or the read deadline passed.
pub fn decode(input: &mut impl BufRead) -> std::io::Result<Value> {
    let line = read_line(input)?;
    let (kind, rest) = line.split_at(1.min(line.len()));
    let count = || rest.parse::<i64>().map_err(|_| malformed(&line));
    Ok(match kind {
        "+" => Value::Simple(rest.to_owned()),
        "-" => Value::Error(rest.to_owned()),
        ":" => Value::Int(count()?),
        "_" => Value::Nil,
        "#" => Value::Bool(rest == "t"),
        "," => Value::Double(rest.parse().map_err(|_| malformed(&line))?),
        "(" => Value::bulk(rest),
        "$" if rest == "-1" => Value::Nil,
        "*" if rest == "-1" => Value::NilArray,
        "$" => Value::Bulk(read_bulk(input, count()?)?),
        // A verbatim string: a three-letter format and a colon come before the text.
        "=" => Value::bulk(&read_bulk(input, count()?)?[4..]),
        "*" => Value::Array(read_items(input, count()?)?),
        "~" => Value::Set(read_items(input, count()?)?),
        ">" => Value::Push(read_items(input, count()?)?),
        "%" => {
            let flat = read_items(input, count()? * 2)?;
            Value::Map(flat.chunks_exact(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect())
        }
        _ => return Err(malformed(&line)),
    })
}

fn read_line(input: &mut impl BufRead) -> std::io::Result<String> {
    let mut line = Vec::new();
    input.read_until(b'\n', &mut line)?;
    match line.strip_suffix(b"\r\n") {
        Some(text) => Ok(readable(text)),
        None if line.is_empty() => Err(ErrorKind::UnexpectedEof.into()),
        None => Err(malformed(&readable(&line))),
    }
}

fn read_bulk(input: &mut impl BufRead, len: i64) -> std::io::Result<Vec<u8>> {
    let mut bytes = vec![0; len as usize + 2];
    input.read_exact(&mut bytes)?;
    bytes.truncate(len as usize);
    Ok(bytes)
}

fn read_items(input: &mut impl BufRead, n: i64) -> std::io::Result<Vec<Value>> {
    (0..n).map(|_| decode(input)).collect()
}

fn malformed(line: &str) -> std::io::Error {
    std::io::Error::new(ErrorKind::InvalidData, format!("not RESP: {line:?}"))
}

/// One client connection.
pub struct Connection {
    input: BufReader<TcpStream>,
}

impl Connection {
    /// Connects to a loopback port; every later read has the common deadline.
    pub fn open(port: u16) -> std::io::Result<Connection> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        let mut conn = Connection { input: BufReader::new(stream) };
        conn.set_deadline(DEADLINE);
        Ok(conn)
    }

    /// How long a read may take from here on.
    pub fn set_deadline(&mut self, deadline: Duration) {
        self.input.get_mut().set_read_timeout(Some(deadline)).expect("set the read deadline");
    }

    /// Sends a command and reads its reply.
    pub fn cmd<A: AsRef<[u8]>>(&mut self, args: &[A]) -> Value {
        self.send(args);
        let name = args.iter().map(|arg| readable(arg.as_ref())).collect::<Vec<_>>().join(" ");
        self.try_read().unwrap_or_else(|error| panic!("no reply to `{name}`: {error}"))
    }

    /// Sends a command without reading, as a client does that is going to block.
    pub fn send<A: AsRef<[u8]>>(&mut self, args: &[A]) {
        self.send_bytes(&encode(args));
    }

    /// The same to a server that may be gone.
    pub fn try_send<A: AsRef<[u8]>>(&mut self, args: &[A]) -> std::io::Result<()> {
        self.input.get_mut().write_all(&encode(args))
    }

    /// Sends several commands in one write, so that the server reads them in one turn of its loop.
    pub fn send_together(&mut self, commands: &[&[&str]]) {
        self.send_bytes(&commands.iter().flat_map(|command| encode(command)).collect::<Vec<_>>());
    }

    /// Sends bytes as they are.
    pub fn send_bytes(&mut self, bytes: &[u8]) {
        self.input.get_mut().write_all(bytes).expect("the server has closed the connection");
    }

    /// Reads the next reply; panics when none comes in time.
    pub fn read(&mut self) -> Value {
        self.try_read().unwrap_or_else(|error| panic!("no reply: {error}"))
    }

    /// Reads the next reply, or tells why there is none.
    pub fn try_read(&mut self) -> std::io::Result<Value> {
        decode(&mut self.input)
    }

    /// Reads exactly the given bytes.
    pub fn expect_bytes(&mut self, expected: &[u8]) {
        let mut got = vec![0; expected.len()];
        self.input.read_exact(&mut got).expect("the reply is shorter than expected");
        assert_eq!(readable(&got), readable(expected));
    }

    /// Panics when anything has arrived that was not read yet. Only as good as the order of events: first do a round
    /// trip on another connection that comes after whatever might have caused a reply here.
    pub fn expect_nothing_pending(&mut self) {
        assert!(self.input.buffer().is_empty(), "unread: {}", readable(self.input.buffer()));
        let stream = self.input.get_ref();
        stream.set_nonblocking(true).unwrap();
        let mut byte = [0];
        let seen = stream.peek(&mut byte);
        stream.set_nonblocking(false).unwrap();
        match seen {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Ok(0) => panic!("the server has closed the connection"),
            Ok(_) => panic!("a reply came that must not come yet: {:?}", self.read()),
            Err(error) => panic!("{error}"),
        }
    }

    /// Waits until the server closes the connection; panics when a reply comes instead.
    pub fn expect_closed(&mut self) {
        match self.try_read() {
            Ok(value) => panic!("a reply in place of the end of the connection: {value:?}"),
            Err(error) if error.kind() == ErrorKind::WouldBlock => panic!("the connection is still open"),
            Err(_) => {}
        }
    }

    /// Switches to RESP3.
    pub fn hello3(mut self) -> Connection {
        let greeting = self.cmd(&["HELLO", "3"]);
        assert!(matches!(greeting, Value::Map(_)), "HELLO 3: {greeting:?}");
        self
    }

    /// Selects a database.
    pub fn select(mut self, db: u32) -> Connection {
        assert_eq!(self.cmd(&["SELECT", &db.to_string()]), "OK");
        self
    }

    /// The server's id of this client.
    pub fn id(&mut self) -> i64 {
        self.cmd(&["CLIENT", "ID"]).int()
    }

    /// The reader beneath, for protocols that are not RESP from end to end.
    pub fn raw(&mut self) -> &mut BufReader<TcpStream> {
        &mut self.input
    }
}

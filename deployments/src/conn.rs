//! One connection: a request, its reply, and for how long to wait for it. After anything but a reply it is of no more use.

use std::io::{ErrorKind, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use redis::{Parser, Value};

/// How long to wait for a connection, and for a reply that comes at once from a server that is well.
pub(crate) const PATIENCE: Duration = Duration::from_millis(500);

/// What came back.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Reply {
    Int(i64),
    Nil,
    Text(String),
    List(Vec<Reply>),
    /// The code of an error, and the rest of its line.
    Refused(String, String),
    /// The connection broke, or time was up: what became of the request is not known.
    Unknown,
}

impl Reply {
    pub(crate) fn int(&self) -> Option<i64> {
        match self {
            Reply::Int(n) => Some(*n),
            _ => None,
        }
    }

    pub(crate) fn text(&self) -> &str {
        match self {
            Reply::Text(text) => text,
            _ => "",
        }
    }

    fn from(value: Value) -> Reply {
        match value {
            Value::Int(n) => Reply::Int(n),
            Value::Nil => Reply::Nil,
            Value::BulkString(bytes) => Reply::Text(String::from_utf8_lossy(&bytes).into_owned()),
            Value::SimpleString(text) => Reply::Text(text),
            Value::Okay => Reply::Text("OK".to_owned()),
            Value::Array(items) => Reply::List(items.into_iter().map(Reply::from).collect()),
            Value::ServerError(error) => {
                Reply::Refused(error.code().to_owned(), error.details().unwrap_or_default().to_owned())
            }
            _ => Reply::Unknown,
        }
    }
}

pub(crate) struct Conn {
    stream: TcpStream,
    parser: Parser,
}

impl Conn {
    pub(crate) fn open(address: SocketAddr) -> std::io::Result<Conn> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_nodelay(true)?;
        Ok(Conn { stream, parser: Parser::new() })
    }

    /// Whether the other side has closed it, as far as can be known without asking.
    pub(crate) fn is_gone(&self) -> bool {
        let _ = self.stream.set_nonblocking(true);
        let seen = self.stream.peek(&mut [0]);
        let _ = self.stream.set_nonblocking(false);
        !matches!(seen, Err(error) if error.kind() == ErrorKind::WouldBlock)
    }

    /// Sends a request and waits so long for the reply.
    pub(crate) fn ask(&mut self, words: &[&str], wait: Duration) -> Reply {
        match self.try_ask(words, wait) {
            Ok(reply) => reply,
            Err(_) => Reply::Unknown,
        }
    }

    fn try_ask(&mut self, words: &[&str], wait: Duration) -> redis::RedisResult<Reply> {
        let mut command = redis::Cmd::new();
        command.arg(words);
        self.stream.write_all(&command.get_packed_command())?;
        self.stream.set_read_timeout(Some(wait))?;
        match self.parser.parse_value(&mut self.stream) {
            Ok(value) => Ok(Reply::from(value)),
            Err(error) if error.is_io_error() => Err(error),
            // The parser of some versions gives errors as errors.
            Err(error) => match error.code() {
                Some(code) => {
                    Ok(Reply::Refused(code.to_owned(), error.detail().unwrap_or_default().to_owned()))
                }
                None => Err(std::io::Error::from(ErrorKind::InvalidData).into()),
            },
        }
    }
}

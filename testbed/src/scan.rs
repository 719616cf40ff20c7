//! Replies as they lie in a buffer, for a driver of load: only scanned, where [`resp`](crate::resp) makes values of them.
//! Nothing here allocates, because at 2 million replies a second the driver shares the bill.

use std::io::{Error, ErrorKind, Result};

/// One top-level reply. Nested replies are checked for completeness and skipped.
#[derive(Debug, PartialEq, Eq)]
pub enum Reply<'a> {
    Status(&'a [u8]),
    Error(&'a [u8]),
    Int(i64),
    Bulk(&'a [u8]),
    Array(usize),
    /// The published text, out of the array of three that a subscriber of one channel gets.
    Message(&'a [u8]),
    Nil,
    Push,
}

impl Reply<'_> {
    /// Whether the reply means "done": not nil, not 0, not an error.
    pub fn is_yes(&self) -> bool {
        !matches!(self, Reply::Nil | Reply::Int(0) | Reply::Error(_))
    }
}

/// The first reply in `bytes` and its length, or nothing while it is incomplete.
#[inline]
pub fn scan(bytes: &[u8]) -> Result<Option<(Reply<'_>, usize)>> {
    let Some(end) = bytes.iter().position(|&b| b == b'\n') else {
        return Ok(None);
    };
    if end < 2 {
        return Err(malformed("a line without content"));
    }
    let line = &bytes[1..end - 1];
    let after = end + 1;
    let reply = match bytes[0] {
        b'+' => Reply::Status(line),
        b'-' => Reply::Error(line),
        b':' => Reply::Int(number(line)?),
        b'_' => Reply::Nil,
        b'$' => match number(line)? {
            -1 => Reply::Nil,
            len => {
                let until = after + len as usize;
                if bytes.len() < until + 2 {
                    return Ok(None);
                }
                return Ok(Some((Reply::Bulk(&bytes[after..until]), until + 2)));
            }
        },
        kind @ (b'*' | b'>') => match number(line)? {
            -1 => Reply::Nil,
            count => {
                let Some(len) = skip(bytes, after, count as usize)? else {
                    return Ok(None);
                };
                let reply = match message(&bytes[after..len])? {
                    _ if kind == b'>' => Reply::Push,
                    Some(payload) => Reply::Message(payload),
                    None => Reply::Array(count as usize),
                };
                return Ok(Some((reply, len)));
            }
        },
        _ => return Err(malformed("an unknown type")),
    };
    Ok(Some((reply, after)))
}

/// The third of these replies, if the first says that they are a message.
fn message(replies: &[u8]) -> Result<Option<&[u8]>> {
    const MESSAGE: &[u8] = b"$7\r\nmessage\r\n";
    if !replies.starts_with(MESSAGE) {
        return Ok(None);
    }
    let Some(third) = skip(replies, MESSAGE.len(), 1)? else { return Ok(None) };
    Ok(match scan(&replies[third..])? {
        Some((Reply::Bulk(payload), _)) => Some(payload),
        _ => None,
    })
}

/// Where `count` replies that start at `from` end.
fn skip(bytes: &[u8], mut from: usize, count: usize) -> Result<Option<usize>> {
    for _ in 0..count {
        match scan(&bytes[from..])? {
            Some((_, len)) => from += len,
            None => return Ok(None),
        }
    }
    Ok(Some(from))
}

#[cold]
fn malformed(what: &'static str) -> Error {
    Error::new(ErrorKind::InvalidData, what)
}

fn number(digits: &[u8]) -> Result<i64> {
    let (negative, digits) = match digits.split_first() {
        Some((b'-', rest)) => (true, rest),
        _ => (false, digits),
    };
    let mut value = 0i64;
    for &digit in digits {
        if !digit.is_ascii_digit() {
            return Err(malformed("not a number"));
        }
        value = value.wrapping_mul(10).wrapping_add(i64::from(digit - b'0'));
    }
    Ok(if negative { -value } else { value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_replies_are_scanned_with_their_length() {
        let cases: [(&[u8], Reply<'_>, usize); 9] = [
            (b"+OK\r\n:1\r\n", Reply::Status(b"OK"), 5),
            (b"-ERR no\r\n", Reply::Error(b"ERR no"), 9),
            (b":1763835000123456\r\n", Reply::Int(1_763_835_000_123_456), 19),
            (b"$-1\r\n", Reply::Nil, 5),
            (b"$4\r\na\r\nb\r\n+X", Reply::Bulk(b"a\r\nb"), 10),
            (b"*2\r\n$1\r\nk\r\n*1\r\n:7\r\n", Reply::Array(2), 19),
            (b">1\r\n+x\r\n", Reply::Push, 8),
            (b"*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$3\r\none\r\n", Reply::Message(b"one"), 33),
            (b"*3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n", Reply::Array(3), 30),
        ];
        for (bytes, reply, len) in cases {
            assert_eq!(scan(bytes).unwrap(), Some((reply, len)));
        }
    }

    #[test]
    fn a_reply_cut_anywhere_is_incomplete() {
        let whole = b"*2\r\n$5\r\nhello\r\n$-1\r\n";
        for cut in 0..whole.len() {
            assert_eq!(scan(&whole[..cut]).unwrap(), None, "cut at {cut}");
        }
        assert_eq!(scan(whole).unwrap(), Some((Reply::Array(2), whole.len())));
    }

    #[test]
    fn only_a_refusal_is_not_a_yes() {
        assert!(Reply::Int(1).is_yes() && Reply::Status(b"OK").is_yes() && Reply::Array(2).is_yes());
        assert!(!Reply::Int(0).is_yes() && !Reply::Nil.is_yes() && !Reply::Error(b"ERR").is_yes());
    }
}

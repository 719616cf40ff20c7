//! The name of a lock or an owner as a word of the command line: any bytes, but some.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::ops::Deref;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use clap::builder::{OsStringValueParser, TryMapValueParser, TypedValueParser, ValueParserFactory};
use redis::{RedisWrite, ToRedisArgs, ToSingleRedisArg};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Name(Vec<u8>);

impl Name {
    fn read(word: OsString) -> Result<Self, &'static str> {
        if word.is_empty() {
            Err("a name must not be empty")
        } else {
            Ok(Self(word.into_vec()))
        }
    }

    pub(crate) fn as_word(&self) -> &OsStr {
        OsStr::from_bytes(&self.0)
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        crate::reply::name(&self.0)
    }
}

impl ValueParserFactory for Name {
    type Parser = TryMapValueParser<OsStringValueParser, fn(OsString) -> Result<Self, &'static str>>;

    fn value_parser() -> Self::Parser {
        OsStringValueParser::new().try_map(Self::read)
    }
}

impl From<String> for Name {
    fn from(text: String) -> Self {
        Self(text.into_bytes())
    }
}

impl Deref for Name {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

/// For people.
impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&crate::print::shown(&self.0))
    }
}

impl ToRedisArgs for Name {
    fn write_redis_args<W: ?Sized + RedisWrite>(&self, out: &mut W) {
        out.write_arg(&self.0);
    }
}

impl ToSingleRedisArg for Name {}

//! What a reply tells beside its result, where it was asked WITHINFO.

use redis::{FromRedisValue, RedisResult, Value};

/// Names and values by turns.
pub(crate) struct Info(Vec<Value>);

impl Info {
    pub(crate) fn of(reply: Value) -> Self {
        Self(match reply {
            Value::Array(fields) => fields,
            Value::Map(pairs) => pairs.into_iter().flat_map(|(name, value)| [name, value]).collect(),
            result => vec![Value::SimpleString("result".to_owned()), result],
        })
    }

    /// Returns `None` if there is no such field, nil in it, or something else.
    pub(crate) fn get<T: FromRedisValue>(&self, name: &str) -> Option<T> {
        let is_it = |field: &Value| match field {
            Value::BulkString(bytes) => bytes == name.as_bytes(),
            Value::SimpleString(text) => text == name,
            _ => false,
        };
        let pair = self.0.chunks_exact(2).find(|pair| is_it(&pair[0]))?;
        T::from_redis_value(Some(pair[1].clone()).filter(|value| *value != Value::Nil)?).ok()
    }
}

/// Why there is no hold; nothing if there is one, or if it is not said.
pub(crate) fn reason(reply: RedisResult<Value>) -> RedisResult<Option<String>> {
    match reply.map(Info::of) {
        Ok(info) => Ok(if info.get("result") == Some(0) { info.get("reason") } else { None }),
        // There is other data under the name.
        Err(error) if error.code() == Some("WRONGTYPE") => Ok(Some("overwritten".to_owned())),
        Err(error) => Err(error),
    }
}

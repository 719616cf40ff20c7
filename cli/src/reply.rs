//! Replies of the server that are maps: in RESP2 arrays of names and values.

use redis::Value;

use crate::exit::{Exit, Failure, Outcome};
use crate::print::{safe, shown};

/// The fields of a map.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fields(Vec<(String, Value)>);

impl Fields {
    pub(crate) fn of(value: Value) -> Outcome<Self> {
        match value {
            Value::Map(pairs) => {
                Ok(Self(pairs.into_iter().map(|(name, value)| (text(&name), value)).collect()))
            }
            Value::Array(items) => {
                let mut items = items.into_iter();
                let mut fields = Vec::new();
                while let (Some(name), Some(value)) = (items.next(), items.next()) {
                    fields.push((text(&name), value));
                }
                Ok(Self(fields))
            }
            other => {
                Err(Failure::new(Exit::NO_SERVER, format!("the server replied {other:?} and not a map")))
            }
        }
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Value> {
        self.0.iter().find(|(field, _)| field == name).map(|(_, value)| value)
    }

    /// Names and simple values, and arrays of these; what is more has to be asked for by name.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::Value::Object(self.0.iter().map(|(name, value)| (name.clone(), json(value))).collect())
    }

    /// Returns no bytes if there is no such field.
    pub(crate) fn bytes(&self, name: &str) -> Vec<u8> {
        self.get(name).map(bytes).unwrap_or_default()
    }

    /// The names in a field that is an array of names.
    pub(crate) fn list(&self, name: &str) -> Vec<Vec<u8>> {
        match self.get(name) {
            Some(Value::Array(items)) => items.iter().map(bytes).collect(),
            _ => Vec::new(),
        }
    }

    /// The fields of a field that is a map.
    pub(crate) fn map(&self, name: &str) -> Self {
        self.get(name).and_then(|value| Self::of(value.clone()).ok()).unwrap_or_default()
    }

    /// All fields, as text.
    pub(crate) fn texts(self) -> std::collections::HashMap<String, String> {
        self.0.into_iter().map(|(name, value)| (name, text(&value))).collect()
    }

    /// All that are numbers.
    pub(crate) fn numbers(&self) -> impl Iterator<Item = (&str, i64)> {
        self.0.iter().filter_map(|(name, value)| match value {
            Value::Int(number) => Some((name.as_str(), *number)),
            _ => None,
        })
    }

    /// Numbers by numbers.
    pub(crate) fn by_number(&self) -> Vec<(i64, i64)> {
        self.numbers().filter_map(|(name, count)| Some((name.parse().ok()?, count))).collect()
    }

    /// Returns `None` if there is no such field, or nil in it.
    pub(crate) fn text(&self, name: &str) -> Option<String> {
        self.get(name).filter(|value| **value != Value::Nil).map(text)
    }

    /// The same of a user, for people.
    pub(crate) fn shown(&self, name: &str) -> Option<String> {
        self.get(name).filter(|value| **value != Value::Nil).map(|value| shown(&bytes(value)))
    }

    pub(crate) fn number(&self, name: &str) -> Option<i64> {
        match self.get(name) {
            Some(Value::Int(number)) => Some(*number),
            _ => None,
        }
    }

    /// The maps in a field that is an array of maps.
    pub(crate) fn maps(&self, name: &str) -> Vec<Self> {
        match self.get(name) {
            Some(Value::Array(items)) => {
                items.iter().filter_map(|item| Self::of(item.clone()).ok()).collect()
            }
            _ => Vec::new(),
        }
    }
}

/// Any reply as text. Bytes that are no UTF-8 are replaced: for people only.
pub(crate) fn text(value: &Value) -> String {
    match value {
        Value::BulkString(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Value::SimpleString(text) | Value::VerbatimString { text, .. } => text.clone(),
        Value::Int(number) => number.to_string(),
        Value::Okay => "OK".to_owned(),
        Value::Nil => String::new(),
        other => format!("{other:?}"),
    }
}

/// Any reply as bytes, as the user gave them.
pub(crate) fn bytes(value: &Value) -> Vec<u8> {
    match value {
        Value::BulkString(bytes) => bytes.clone(),
        other => text(other).into_bytes(),
    }
}

/// A name in JSON: itself, and where it is no UTF-8 with `\xNN` for what is none.
pub(crate) fn name(bytes: &[u8]) -> serde_json::Value {
    String::from_utf8(bytes.to_vec()).unwrap_or_else(|_| safe(bytes)).into()
}

fn json(value: &Value) -> serde_json::Value {
    match value {
        Value::Int(number) => (*number).into(),
        Value::Nil => serde_json::Value::Null,
        Value::Array(items) => items.iter().map(json).collect(),
        other => name(&bytes(other)),
    }
}

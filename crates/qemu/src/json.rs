//! JSON objects with keys in a chosen order, which is all that QEMU's options need.

use std::borrow::Cow;
use std::fmt;

/// A value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Json {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// An integer.
    Number(i128),
    /// A text.
    Text(String),
    /// A list.
    List(Vec<Json>),
    /// An object.
    Object(Object),
}

/// An object whose keys keep the order in which they were set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Object(Vec<(Cow<'static, str>, Json)>);

impl Object {
    /// An object whose first key says what it describes, such as `driver` of a device.
    pub(crate) fn new(key: impl Into<Cow<'static, str>>, value: impl Into<Json>) -> Self {
        Self(Vec::new()).set(key, value)
    }

    /// Adds a key.
    pub(crate) fn set(mut self, key: impl Into<Cow<'static, str>>, value: impl Into<Json>) -> Self {
        self.0.push((key.into(), value.into()));
        self
    }

    /// The value of a key.
    pub(crate) fn get(&self, key: &str) -> Option<&Json> {
        self.0.iter().find(|(own, _)| own == key).map(|(_, value)| value)
    }

    /// The object without a key.
    pub(crate) fn without(mut self, key: &str) -> Self {
        self.0.retain(|(own, _)| own != key);
        self
    }

    /// Sets a key, in place of the value that it has.
    pub(crate) fn replace(self, key: &str, value: Json) -> Self {
        self.without(key).set(key.to_owned(), value)
    }

    /// Whether no key is set.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds a key if there is a value.
    pub(crate) fn some(self, key: &'static str, value: Option<impl Into<Json>>) -> Self {
        match value {
            Some(value) => self.set(key, value),
            None => self,
        }
    }
}

impl From<bool> for Json {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

macro_rules! from_integer {
    ($($integer:ty),+) => {
        $(impl From<$integer> for Json {
            fn from(value: $integer) -> Self {
                Self::Number(value.into())
            }
        })+
    };
}

from_integer!(u8, u16, u32, u64, i32, i64);

impl From<&str> for Json {
    fn from(value: &str) -> Self {
        Self::Text(value.to_owned())
    }
}

impl From<String> for Json {
    fn from(value: String) -> Self {
        Self::Text(value)
    }
}

impl From<&String> for Json {
    fn from(value: &String) -> Self {
        Self::Text(value.clone())
    }
}

impl From<Object> for Json {
    fn from(value: Object) -> Self {
        Self::Object(value)
    }
}

impl<T: Into<Json>> From<Vec<T>> for Json {
    fn from(values: Vec<T>) -> Self {
        Self::List(values.into_iter().map(Into::into).collect())
    }
}

impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Bool(value) => write!(f, "{value}"),
            Self::Number(value) => write!(f, "{value}"),
            Self::Text(value) => write_text(f, value),
            Self::List(values) => {
                f.write_str("[")?;
                for (i, value) in values.iter().enumerate() {
                    write!(f, "{}{value}", if i == 0 { "" } else { "," })?;
                }
                f.write_str("]")
            }
            Self::Object(object) => write!(f, "{object}"),
        }
    }
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (i, (key, value)) in self.0.iter().enumerate() {
            f.write_str(if i == 0 { "" } else { "," })?;
            write_text(f, key)?;
            write!(f, ":{value}")?;
        }
        f.write_str("}")
    }
}

/// A text in quotes, with RFC 8259's escapes (section 7).
fn write_text(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    f.write_str("\"")?;
    let mut rest = text;
    while let Some(at) = rest.find(|c: char| matches!(c, '"' | '\\' | '\0'..='\u{1f}')) {
        let (plain, special) = rest.split_at(at);
        f.write_str(plain)?;
        // All three kinds are one byte long.
        let (special, after) = special.split_at(1);
        match special {
            "\"" | "\\" => write!(f, "\\{special}")?,
            _ => write!(f, "\\u{:04x}", special.as_bytes()[0])?,
        }
        rest = after;
    }
    f.write_str(rest)?;
    f.write_str("\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_keep_their_order_and_texts_are_escaped() {
        let object = Object::new("z", "a\"\\\n")
            .set("a", vec![1_u32, 2])
            .some("none", None::<bool>)
            .set("o", Object::new("b", true).set("n", Json::Null));
        assert_eq!(object.to_string(), r#"{"z":"a\"\\\u000a","a":[1,2],"o":{"b":true,"n":null}}"#);
    }
}

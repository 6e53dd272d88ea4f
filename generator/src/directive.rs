//! One line of a unit file, `KEY=VALUE`.

use std::fmt;

use crate::value::UnitValue;

/// A setting with its value. The key is the program's own text, the value is escaped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Directive {
    key: &'static str,
    value: UnitValue,
}

impl Directive {
    pub(crate) fn new(key: &'static str, value: UnitValue) -> Self {
        Self { key, value }
    }

    pub(crate) fn number(key: &'static str, value: u64) -> Self {
        Self { key, value: UnitValue::number(value) }
    }
}

impl fmt::Display for Directive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.key, self.value)
    }
}

//! QEMU's arguments in the making.
//!
//! QEMU splits an option's value at commas and takes two commas for one. [`Options`] is the only place that
//! doubles them; nobody else joins with a comma.

use std::fmt::Display;

use crate::json::Object;

/// The value of an option made of `key=value` pairs.
#[derive(Debug, Clone)]
pub(crate) struct Options(String);

impl Options {
    /// Options whose first part is a value without a key, such as a machine's type.
    pub(crate) fn new(first: impl Display) -> Self {
        Self(escaped(first))
    }

    /// Options that begin with a pair.
    pub(crate) fn pair(key: &str, value: impl Display) -> Self {
        Self(format!("{key}={}", escaped(value)))
    }

    /// Adds a pair.
    pub(crate) fn set(mut self, key: &str, value: impl Display) -> Self {
        self.0.push_str(&format!(",{key}={}", escaped(value)));
        self
    }

    /// Adds a pair if there is a value.
    pub(crate) fn some(self, key: &str, value: Option<impl Display>) -> Self {
        match value {
            Some(value) => self.set(key, value),
            None => self,
        }
    }

    /// Adds a pair whose value is `on` or `off`.
    pub(crate) fn on_off(self, key: &str, value: bool) -> Self {
        self.set(key, if value { "on" } else { "off" })
    }

    /// Adds a pair whose value is `on` or `off`, if there is a value.
    pub(crate) fn some_on_off(self, key: &str, value: Option<bool>) -> Self {
        match value {
            Some(value) => self.on_off(key, value),
            None => self,
        }
    }
}

/// The value of an option whose pairs are added one by one, none of them first.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pairs(Option<Options>);

impl Pairs {
    /// Adds a pair.
    pub(crate) fn set(&mut self, key: &str, value: impl Display) {
        self.0 = Some(match self.0.take() {
            Some(options) => options.set(key, value),
            None => Options::pair(key, value),
        });
    }

    /// Adds a pair if there is a value.
    pub(crate) fn some(&mut self, key: &str, value: Option<impl Display>) {
        if let Some(value) = value {
            self.set(key, value);
        }
    }

    /// Adds a pair whose value is `on` or `off`.
    pub(crate) fn on_off(&mut self, key: &str, value: bool) {
        self.set(key, if value { "on" } else { "off" });
    }

    /// Adds a pair whose value is `on` or `off`, if there is a value.
    pub(crate) fn some_on_off(&mut self, key: &str, value: Option<bool>) {
        if let Some(value) = value {
            self.on_off(key, value);
        }
    }
}

/// The arguments.
#[derive(Debug, Clone, Default)]
pub(crate) struct Argv(Vec<String>);

impl Argv {
    /// Adds an option without a value.
    pub(crate) fn flag(&mut self, name: &str) {
        self.0.push(name.to_owned());
    }

    /// Adds an option whose value QEMU does not split.
    pub(crate) fn plain(&mut self, name: &str, value: impl Display) {
        self.flag(name);
        self.0.push(value.to_string());
    }

    /// Adds an option made of pairs.
    pub(crate) fn options(&mut self, name: &str, options: Options) {
        self.flag(name);
        self.0.push(options.0);
    }

    /// Adds an option made of pairs, if there are any.
    pub(crate) fn pairs(&mut self, name: &str, pairs: Pairs) {
        if let Some(options) = pairs.0 {
            self.options(name, options);
        }
    }

    /// Adds an option that QEMU reads as JSON.
    pub(crate) fn json(&mut self, name: &str, object: &Object) {
        self.plain(name, object);
    }

    /// The arguments.
    pub(crate) fn into_arguments(self) -> Vec<String> {
        self.0
    }
}

fn escaped(value: impl Display) -> String {
    value.to_string().replace(',', ",,")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commas_of_values_are_doubled() {
        let mut argv = Argv::default();
        argv.options("-drive", Options::new("a,b").set("file", "x,y").on_off("ro", true));
        argv.plain("-append", "a,b");
        assert_eq!(argv.into_arguments(), ["-drive", "a,,b,file=x,,y,ro=on", "-append", "a,b"]);
    }
}

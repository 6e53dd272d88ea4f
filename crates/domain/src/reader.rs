//! Reading typed values out of the tree, keeping account of what was read.
//!
//! A [`Reader`] stands on one element. Each question marks the attribute or child it asks for; what nobody
//! asked for by the time the reader is dropped is reported as ignored, by its path. So an element can be
//! implemented, refused ([`Reader::refuse`]) or reported, and never dropped in silence.

use std::borrow::Cow;
use std::cell::{Cell, OnceCell, RefCell};
use std::fmt::Display;
use std::str::FromStr;

use crate::fault::{Fault, Faults, Place, Position};
use crate::tree::{Attribute, Element, child_numbers};

/// A word of the domain format that has a fixed list of spellings; made by [`keywords!`](crate::keywords).
pub trait Keyword: Sized + Copy + 'static {
    /// Every word with its spelling, in the order of the documentation.
    const ALL: &'static [(Self, &'static str)];

    /// The word with this spelling.
    #[must_use]
    fn from_word(text: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, word)| *word == text).map(|(value, _)| *value)
    }

    /// The message about `word`, which is none of the words.
    #[must_use]
    fn expected_one_of(word: &str) -> String {
        let words: Vec<&str> = Self::ALL.iter().map(|(_, word)| *word).collect();
        format!("'{word}' is not known; use one of {}", words.join(", "))
    }
}

/// Declares an enum whose values are spelled as fixed words of the domain format.
///
/// ```
/// domain::keywords! {
///     /// How a disk is seen by the guest.
///     pub enum Device {
///         /// A hard disk.
///         Disk = "disk",
///         /// A CD-ROM drive.
///         Cdrom = "cdrom",
///     }
/// }
/// assert_eq!(Device::Cdrom.as_str(), "cdrom");
/// ```
#[macro_export]
macro_rules! keywords {
    ($(#[$meta:meta])* $visibility:vis enum $name:ident {
        $($(#[$variant_meta:meta])* $variant:ident = $word:literal),+ $(,)?
    }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        $visibility enum $name { $($(#[$variant_meta])* $variant),+ }

        impl $name {
            /// The spelling in the XML.
            #[must_use]
            $visibility fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl $crate::Keyword for $name {
            const ALL: &'static [(Self, &'static str)] = &[$((Self::$variant, $word)),+];
        }
    };
}

/// One element being read. See the module's documentation.
#[derive(Debug)]
pub struct Reader<'d> {
    element: &'d Element<'d>,
    parent: Option<&'d str>,
    /// `/domain/devices/` for a disk: the path up to the element's own name.
    place: Place,
    faults: &'d Faults,
    /// Whether the document is that of a running guest, whose aliases and numbers count.
    running: bool,
    attributes_read: RefCell<Vec<bool>>,
    children_read: RefCell<Vec<bool>>,
    /// Made when the first child's path is asked for, since most elements have no child.
    child_numbers: OnceCell<Vec<Option<usize>>>,
    text_read: Cell<bool>,
}

impl<'d> Reader<'d> {
    /// A reader of the document's root.
    #[must_use]
    pub fn root(element: &'d Element<'d>, faults: &'d Faults) -> Self {
        Self::new(element, format!("/{}", element.qualified), None, faults)
    }

    /// A reader of the root of a running guest's document: what its start assigned counts.
    pub(crate) fn root_of_running(element: &'d Element<'d>, faults: &'d Faults) -> Self {
        let mut reader = Self::root(element, faults);
        reader.running = true;
        reader
    }

    /// A reader of an element that stands right below the document's root.
    pub(crate) fn below_root(
        element: &'d Element<'d>,
        root: &'d Element<'d>,
        faults: &'d Faults,
    ) -> Self {
        let path = format!("/{}/{}", root.qualified, element.qualified);
        Self::new(element, path, Some(root.name), faults)
    }

    fn new(
        element: &'d Element<'d>,
        path: String,
        parent: Option<&'d str>,
        faults: &'d Faults,
    ) -> Self {
        Self {
            element,
            parent,
            place: Place { position: element.position, path },
            faults,
            running: false,
            attributes_read: RefCell::new(vec![false; element.attributes.len()]),
            children_read: RefCell::new(vec![false; element.elements().count()]),
            child_numbers: OnceCell::new(),
            text_read: Cell::new(false),
        }
    }

    /// The element's name without prefix.
    #[must_use]
    pub fn name(&self) -> &'d str {
        self.element.name
    }

    /// The name of the element around this one.
    #[must_use]
    pub fn parent(&self) -> Option<&'d str> {
        self.parent
    }

    /// Where the element stands.
    #[must_use]
    pub fn place(&self) -> Place {
        self.place.clone()
    }

    /// Whether the document is that of a running guest.
    pub(crate) fn of_running(&self) -> bool {
        self.running
    }

    /// The faults that this document has collected.
    #[must_use]
    pub fn faults(&self) -> &'d Faults {
        self.faults
    }

    /// The tree below, for what is kept as it is (`<metadata>`); counts as read whole.
    #[must_use]
    pub fn raw(&self) -> &'d Element<'d> {
        self.attributes_read.borrow_mut().fill(true);
        self.children_read.borrow_mut().fill(true);
        self.text_read.set(true);
        self.element
    }

    /// The namespaces that the element declares for prefixes.
    pub(crate) fn declarations(&self) -> impl Iterator<Item = &'d Attribute<'d>> {
        self.element.attributes.iter().filter(|attribute| attribute.name.starts_with("xmlns:"))
    }

    /// Refuses the document because of this element.
    pub fn refuse(&self, what: impl Into<String>) {
        self.faults.push(Fault::refused(self.place.position, &self.place.path, what));
    }

    /// Refuses the document because of the value of an attribute.
    pub fn refuse_attribute(&self, name: &str, what: impl Display) {
        let position =
            self.find(name).map_or(self.place.position, |(_, attribute)| attribute.position);
        self.faults.push(Fault::refused(
            position,
            &self.place.path,
            format!("attribute '{name}': {what}"),
        ));
    }

    /// Reports the whole element as left out of the guest, with the reason.
    pub fn ignore(&self, why: impl Into<String>) {
        let _ = self.raw(); // Marks everything below as accounted for; the tree itself is not needed.
        self.faults.push(Fault::ignored(self.place.position, &self.place.path, why));
    }

    /// Reports the whole element as carried out by the guest's unit, by these settings of it.
    pub fn leave_to_unit(&self, settings: &str) {
        let _ = self.raw(); // Marks everything below as accounted for; the tree itself is not needed.
        self.faults.push(self.place.left_to_unit(settings));
    }

    /// Refuses the document because this element, known to libvirt, is not implemented yet.
    pub fn refuse_unsupported(&self) {
        let _ = self.raw(); // Marks everything below as accounted for; the tree itself is not needed.
        self.refuse(format!("<{}> is not supported yet by glassbox; remove it", self.name()));
    }

    /// Refuses the document for each child that stands in `names`: known to libvirt, not implemented yet.
    pub fn refuse_children(&self, names: &[&str]) {
        for child in self.select(|e| e.namespace.is_none() && names.contains(&e.name)) {
            child.refuse_unsupported();
        }
    }

    /// Refuses the document for each attribute that stands in `names`: known to libvirt, not implemented yet.
    pub fn refuse_attributes(&self, names: &[&str]) {
        for name in names {
            if self.attribute(name).is_some() {
                self.refuse_attribute(name, "not supported yet by glassbox; remove it");
            }
        }
    }

    /// The value of an attribute.
    #[must_use]
    pub fn attribute(&self, name: &str) -> Option<&'d str> {
        let (index, attribute) = self.find(name)?;
        self.attributes_read.borrow_mut()[index] = true;
        Some(attribute.value.as_ref())
    }

    /// The value of an attribute as owned text.
    #[must_use]
    pub fn string(&self, name: &str) -> Option<String> {
        self.attribute(name).map(str::to_owned)
    }

    /// The value of an attribute that must be there; `example` is what the message suggests.
    #[must_use]
    pub fn required(&self, name: &str, example: &str) -> Option<&'d str> {
        let value = self.attribute(name);
        if value.is_none() {
            self.refuse(format!(
                "attribute '{name}' is missing; give one such as {name}='{example}'"
            ));
        }
        value
    }

    /// The value of an attribute read as `T`; a value that is no `T` is a fault and reads as `None`.
    #[must_use]
    pub fn value<T>(&self, name: &str) -> Option<T>
    where
        T: FromStr,
        T::Err: Display,
    {
        match self.attribute(name)?.parse() {
            Ok(value) => Some(value),
            Err(error) => {
                self.refuse_attribute(name, error);
                None
            }
        }
    }

    /// The value of an attribute read as an integer, decimal or with `0x`, in the range of `T`.
    #[must_use]
    pub fn number<T: TryFrom<u64>>(&self, name: &str) -> Option<T> {
        let text = self.attribute(name)?;
        let number = parse_number(text).and_then(|number| T::try_from(number).ok());
        if number.is_none() {
            self.refuse_attribute(name, format!("'{text}' is no number in range"));
        }
        number
    }

    /// The same as [`Self::number`], for attributes that libvirt writes in hexadecimal.
    #[must_use]
    pub fn hex<T: TryFrom<u64>>(&self, name: &str) -> Option<T> {
        self.number(name)
    }

    /// The value of an attribute that is one of the words of `K`; another word is a fault and reads as `None`.
    #[must_use]
    pub fn keyword<K: Keyword>(&self, name: &str) -> Option<K> {
        let word = self.attribute(name)?;
        let value = K::from_word(word);
        if value.is_none() {
            self.refuse_attribute(name, K::expected_one_of(word));
        }
        value
    }

    /// The value of an attribute that is `yes` or `no`.
    #[must_use]
    pub fn yes_no(&self, name: &str) -> Option<bool> {
        self.keyword::<YesNo>(name).map(|word| word == YesNo::Yes)
    }

    /// The value of an attribute that is `on` or `off`.
    #[must_use]
    pub fn on_off(&self, name: &str) -> Option<bool> {
        self.keyword::<OnOff>(name).map(|word| word == OnOff::On)
    }

    /// The element's text.
    #[must_use]
    pub fn text(&self) -> Cow<'d, str> {
        self.text_read.set(true);
        self.element.text()
    }

    /// The element's text read as one of the words of `K`.
    #[must_use]
    pub fn text_keyword<K: Keyword>(&self) -> Option<K> {
        let word = self.text();
        let value = K::from_word(&word);
        if value.is_none() {
            self.refuse(K::expected_one_of(&word));
        }
        value
    }

    /// The element's text read as `T`.
    #[must_use]
    pub fn text_value<T>(&self) -> Option<T>
    where
        T: FromStr,
        T::Err: Display,
    {
        match self.text().parse() {
            Ok(value) => Some(value),
            Err(error) => {
                self.refuse(error.to_string());
                None
            }
        }
    }

    /// The element's text read as an integer, decimal or with `0x`, in the range of `T`.
    #[must_use]
    pub fn text_number<T: TryFrom<u64>>(&self) -> Option<T> {
        let text = self.text();
        let number = parse_number(&text).and_then(|number| T::try_from(number).ok());
        if number.is_none() {
            self.refuse(format!("'{text}' is no number in range"));
        }
        number
    }

    /// The only child of this name in libvirt's own (no) namespace; a second one is reported as ignored.
    #[must_use]
    pub fn child(&self, name: &str) -> Option<Reader<'d>> {
        let mut children = self.children(name).into_iter();
        let first = children.next();
        for again in children {
            again.ignore(format!(
                "<{name}> stands here a second time; the first one counts, remove this one"
            ));
        }
        first
    }

    /// The children of this name in libvirt's own (no) namespace.
    #[must_use]
    pub fn children(&self, name: &str) -> Vec<Reader<'d>> {
        self.select(|element| element.name == name && element.namespace.is_none())
    }

    /// The children of this name in the namespace `uri`.
    #[must_use]
    pub fn children_in(&self, uri: &str, name: &str) -> Vec<Reader<'d>> {
        self.select(|element| element.name == name && element.namespace.as_deref() == Some(uri))
    }

    /// The children in libvirt's own (no) namespace that were not read yet, whatever their names.
    #[must_use]
    pub fn unread_children(&self) -> Vec<Reader<'d>> {
        let read = self.children_read.borrow().clone();
        let mut index = 0;
        self.select(|element| {
            index += 1;
            !read[index - 1] && element.namespace.is_none()
        })
    }

    fn select(&self, mut wanted: impl FnMut(&Element<'d>) -> bool) -> Vec<Reader<'d>> {
        let mut readers = Vec::new();
        for (index, element) in self.element.elements().enumerate() {
            if wanted(element) {
                self.children_read.borrow_mut()[index] = true;
                let path = self.child_path(index, element);
                let mut reader = Reader::new(element, path, Some(self.element.name), self.faults);
                reader.running = self.running;
                readers.push(reader);
            }
        }
        readers
    }

    /// The path of the child with this index, numbered among its namesakes when it has some.
    fn child_path(&self, index: usize, child: &Element<'_>) -> String {
        let numbers = self.child_numbers.get_or_init(|| child_numbers(self.element));
        match numbers[index] {
            Some(number) => format!("{}/{}[{number}]", self.place.path, child.qualified),
            None => format!("{}/{}", self.place.path, child.qualified),
        }
    }

    fn find(&self, name: &str) -> Option<(usize, &'d Attribute<'d>)> {
        self.element.attributes.iter().enumerate().find(|(_, attribute)| attribute.name == name)
    }

    fn report(&self, position: Position, path: &str, what: String) {
        self.faults.push(Fault::ignored(position, path, what));
    }
}

impl Drop for Reader<'_> {
    fn drop(&mut self) {
        for (attribute, read) in
            self.element.attributes.iter().zip(self.attributes_read.borrow().iter())
        {
            let declaration = attribute.name == "xmlns" || attribute.name.starts_with("xmlns:");
            if !read && !declaration {
                let what = format!(
                    "attribute '{}' is not known here and is ignored; remove it",
                    attribute.name
                );
                self.report(attribute.position, &self.place.path, what);
            }
        }
        let children_read = self.children_read.borrow();
        for (index, child) in self.element.elements().enumerate() {
            if !children_read[index] {
                let what = "the element is not known here and is ignored; remove it".to_owned();
                self.report(child.position, &self.child_path(index, child), what);
            }
        }
        if !self.text_read.get() && !self.element.text().is_empty() {
            self.report(
                self.place.position,
                &self.place.path,
                "text here has no meaning and is ignored; remove it".to_owned(),
            );
        }
    }
}

crate::keywords! {
    /// `yes` or `no`.
    pub enum YesNo {
        /// `yes`
        Yes = "yes",
        /// `no`
        No = "no",
    }
}

crate::keywords! {
    /// `on` or `off`.
    pub enum OnOff {
        /// `on`
        On = "on",
        /// `off`
        Off = "off",
    }
}

/// An unsigned integer as `virStrToLong_ull` with base 0 reads it: decimal, `0x` hexadecimal; no sign.
pub(crate) fn parse_number(text: &str) -> Option<u64> {
    let text = text.trim();
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) if digits.bytes().all(|b| b.is_ascii_hexdigit()) => {
            u64::from_str_radix(digits, 16).ok()
        }
        Some(_) => None,
        None if text.bytes().all(|b| b.is_ascii_digit()) => text.parse().ok(),
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(text: &str, read: impl FnOnce(&Reader<'_>)) -> Vec<String> {
        let element = crate::tree::parse(text).unwrap();
        let faults = Faults::new();
        read(&Reader::root(&element, &faults));
        faults.into_sorted().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_nobody_asked_for_is_reported_by_its_path() {
        let got = messages("<a x='1' y='2'>\n<b z='3'/><b/><c/>t</a>", |reader| {
            assert_eq!(reader.attribute("x"), Some("1"));
            assert_eq!(reader.children("b").len(), 2);
        });
        assert_eq!(
            got,
            [
                "1:1: /a: text here has no meaning and is ignored; remove it",
                "1:10: /a: attribute 'y' is not known here and is ignored; remove it",
                "2:4: /a/b[1]: attribute 'z' is not known here and is ignored; remove it",
                "2:15: /a/c: the element is not known here and is ignored; remove it",
            ]
        );
    }

    #[test]
    fn all_faults_are_collected() {
        let got = messages("<a n='x' w='maybe'><b/><b/></a>", |reader| {
            assert_eq!(reader.number::<u8>("n"), None);
            assert_eq!(reader.yes_no("w"), None);
            assert_eq!(reader.required("dev", "vda"), None);
            assert!(reader.child("b").is_some());
        });
        assert_eq!(
            got,
            [
                "1:1: /a: attribute 'dev' is missing; give one such as dev='vda'",
                "1:4: /a: attribute 'n': 'x' is no number in range",
                "1:10: /a: attribute 'w': 'maybe' is not known; use one of yes, no",
                "1:24: /a/b[2]: <b> stands here a second time; the first one counts, remove this one",
            ]
        );
    }

    #[test]
    fn numbers_are_decimal_or_hexadecimal() {
        for (text, number) in [
            ("10", Some(10)),
            ("0x1f", Some(31)),
            ("-1", None),
            ("1 2", None),
            ("0x", None),
            ("+1", None),
        ] {
            assert_eq!(parse_number(text), number, "{text}");
        }
    }
}

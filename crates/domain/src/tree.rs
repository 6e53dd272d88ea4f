//! XML text to a tree that knows where each part stands.
//!
//! [`parse`] takes a whole document and refuses what libvirt domains never need and attackers do: document
//! types, entities of one's own, nesting without end, text after the root. It knows no element's meaning;
//! [`crate::Reader`] walks the tree and keeps account of what was read.

use std::borrow::Cow;
use std::collections::BTreeMap;

use quick_xml::NsReader;
use quick_xml::XmlVersion;
use quick_xml::events::attributes::{AttrError, Attribute as RawAttribute};
use quick_xml::events::{BytesRef, BytesStart, Event};
use quick_xml::name::ResolveResult;

use crate::fault::{Fault, Position};

/// Deepest nesting of elements, that of libxml2 without `XML_PARSE_HUGE`, which libvirt parses with.
const DEEPEST: usize = 256;

/// A piece of an element's content.
#[derive(Debug, Clone)]
pub enum Node<'x> {
    /// A child element.
    Element(Element<'x>),
    /// Character data with references resolved; never a comment.
    Text(Cow<'x, str>),
}

/// An attribute as it stands in the document.
#[derive(Debug, Clone)]
pub struct Attribute<'x> {
    /// The name with its prefix, such as `dev` or `xmlns:qemu`.
    pub name: &'x str,
    /// The value, references resolved and white space normalized.
    pub value: Cow<'x, str>,
    /// Where the name starts.
    pub position: Position,
}

/// An element as it stands in the document.
#[derive(Debug, Clone)]
pub struct Element<'x> {
    /// The name without its prefix.
    pub name: &'x str,
    /// The name with its prefix, such as `qemu:commandline`.
    pub qualified: &'x str,
    /// The URI of the namespace that the name is bound to, none for libvirt's own elements.
    pub namespace: Option<Box<str>>,
    /// The attributes in document order, declarations of namespaces among them.
    pub attributes: Vec<Attribute<'x>>,
    /// The content in document order.
    pub children: Vec<Node<'x>>,
    /// Where the element's `<` stands.
    pub position: Position,
}

impl<'x> Element<'x> {
    /// The child elements in document order.
    pub fn elements(&self) -> impl Iterator<Item = &Element<'x>> {
        self.children.iter().filter_map(|node| match node {
            Node::Element(element) => Some(element),
            Node::Text(_) => None,
        })
    }

    /// The first child element of this name that is libvirt's own.
    pub(crate) fn child_mut(&mut self, name: &str) -> Option<&mut Element<'x>> {
        self.children.iter_mut().find_map(|node| match node {
            Node::Element(element) if element.qualified == name && element.namespace.is_none() => {
                Some(element)
            }
            Node::Element(_) | Node::Text(_) => None,
        })
    }

    /// Gives the child element `name` this text and nothing else, and adds the child where there is none.
    pub fn set_text(&mut self, name: &'static str, text: String) {
        let text = vec![Node::Text(Cow::Owned(text))];
        let position = self.position;
        match self.child_mut(name) {
            Some(element) => element.children = text,
            None => self.children.push(Node::Element(Element {
                name,
                qualified: name,
                namespace: None,
                attributes: Vec::new(),
                children: text,
                position,
            })),
        }
    }

    /// The character data directly below the element, pieces joined, white space at both ends removed.
    #[must_use]
    pub fn text(&self) -> Cow<'_, str> {
        let mut pieces = self.children.iter().filter_map(|node| match node {
            Node::Text(text) => Some(text.as_ref()),
            Node::Element(_) => None,
        });
        let first = pieces.next().unwrap_or_default();
        match pieces.next() {
            None => Cow::Borrowed(first.trim()),
            Some(second) => {
                let mut joined = [first, second].concat();
                joined.extend(pieces);
                Cow::Owned(joined.trim().to_owned())
            }
        }
    }
}

/// For each child its number among its namesakes, from 1; none for a child without namesakes.
pub(crate) fn child_numbers(element: &Element<'_>) -> Vec<Option<usize>> {
    let mut totals: BTreeMap<&str, usize> = BTreeMap::new();
    for child in element.elements() {
        *totals.entry(child.qualified).or_default() += 1;
    }
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    element
        .elements()
        .map(|child| {
            let seen = seen.entry(child.qualified).or_default();
            *seen += 1;
            (totals[child.qualified] > 1).then_some(*seen)
        })
        .collect()
}

/// The root element of a document.
///
/// # Errors
/// The first [`Fault`] that makes the text no document: XML that is not well-formed, a document type, an
/// entity other than XML's five, an undeclared namespace prefix, more than 256 levels of nesting.
pub fn parse(text: &str) -> Result<Element<'_>, Fault> {
    // quick-xml passes over a byte order mark without counting it, which would shift all that is cut out.
    Parser::new(text.trim_start_matches('\u{feff}')).document()
}

struct Parser<'x> {
    text: &'x str,
    reader: NsReader<&'x [u8]>,
    lines: LineCounter<'x>,
    /// The elements that are open, outermost first.
    open: Vec<Element<'x>>,
    root: Option<Element<'x>>,
}

impl<'x> Parser<'x> {
    fn new(text: &'x str) -> Self {
        let mut reader = NsReader::from_str(text);
        reader.config_mut().expand_empty_elements = true;
        reader.config_mut().check_comments = true;
        Self { text, reader, lines: LineCounter::new(text), open: Vec::new(), root: None }
    }

    fn document(mut self) -> Result<Element<'x>, Fault> {
        loop {
            let start = self.offset();
            match self.reader.read_event() {
                Ok(Event::Start(tag)) => self.start(&tag, start)?,
                Ok(Event::End(_)) => self.end(),
                Ok(Event::Text(text)) => self.text(text.xml10_content(), start)?,
                Ok(Event::CData(text)) => self.text(text.xml10_content(), start)?,
                Ok(Event::GeneralRef(reference)) => self.reference(&reference, start)?,
                Ok(Event::DocType(_)) => {
                    return Err(
                        self.fault(start, "a document type is not allowed; remove <!DOCTYPE ...>")
                    );
                }
                Ok(Event::Eof) => break,
                Ok(Event::Comment(_) | Event::PI(_) | Event::Decl(_) | Event::Empty(_)) => {}
                Err(error) => {
                    let at = usize::try_from(self.reader.error_position()).unwrap_or(start);
                    let what = format!(
                        "not well-formed XML: {}; correct the text here",
                        error_text(&error)
                    );
                    return Err(self.fault(at, &what));
                }
            }
        }
        if let Some(element) = self.open.pop() {
            let name = element.qualified;
            let what = format!("not well-formed XML: <{name}> is never closed; add </{name}>");
            return Err(Fault::refused(element.position, "", what));
        }
        self.root.take().ok_or_else(|| self.fault(0, "no element; give a libvirt domain XML"))
    }

    fn start(&mut self, tag: &BytesStart<'x>, start: usize) -> Result<(), Fault> {
        if self.root.is_some() {
            return Err(self.fault(start, "content after the root element; remove it"));
        }
        if self.open.len() == DEEPEST {
            return Err(self.fault(start, &format!("elements nest deeper than {DEEPEST} levels")));
        }
        // Borrowing from the event would end with it, so names are cut out of the document again.
        let raw = tag.name().0;
        let qualified = self.slice(start + 1, raw.len());
        let (resolution, local) = self.reader.resolver().resolve_element(tag.name());
        let namespace = match resolution {
            ResolveResult::Unbound => None,
            ResolveResult::Bound(namespace) => Some(namespace.0.into()),
            ResolveResult::Unknown(prefix) => {
                let what = format!("the prefix {prefix:?} is not declared; add xmlns:{prefix}=...");
                return Err(self.fault(start, &what));
            }
        };
        let name = &qualified[qualified.len() - local.as_ref().len()..];
        let position = self.lines.position(start);
        let attributes = self.attributes(tag, start)?;
        self.open.push(Element {
            name,
            qualified,
            namespace,
            attributes,
            children: Vec::new(),
            position,
        });
        Ok(())
    }

    fn attributes(
        &mut self,
        tag: &BytesStart<'x>,
        start: usize,
    ) -> Result<Vec<Attribute<'x>>, Fault> {
        let mut attributes = Vec::new();
        for attribute in tag.attributes() {
            let RawAttribute { key, value } = match &attribute {
                Ok(attribute) => attribute,
                Err(error) => {
                    let what = format!("not well-formed XML: {}", attribute_error_text(error));
                    return Err(self.fault(start, &what));
                }
            };
            let at = start + 1 + offset_within(tag, key.0);
            let name = self.slice(at, key.0.len());
            let resolved = attribute.as_ref().map(|a| a.normalized_value(XmlVersion::Implicit1_0));
            let value = match resolved {
                Ok(Ok(Cow::Borrowed(_))) => {
                    let value_at = start + 1 + offset_within(tag, value);
                    Cow::Borrowed(self.slice(value_at, value.len()))
                }
                Ok(Ok(Cow::Owned(value))) => Cow::Owned(value),
                Ok(Err(error)) => {
                    let what = format!("attribute '{name}': {}", error_text(&error));
                    return Err(self.fault(at, &what));
                }
                Err(_) => continue,
            };
            if let Some(character) = value.chars().find(|c| forbidden(*c)) {
                let what = format!(
                    "attribute '{name}': the character {character:?} is not allowed in XML"
                );
                return Err(self.fault(at, &what));
            }
            attributes.push(Attribute { name, value, position: self.lines.position(at) });
        }
        Ok(attributes)
    }

    fn end(&mut self) {
        let Some(element) = self.open.pop() else { return };
        match self.open.last_mut() {
            Some(parent) => parent.children.push(Node::Element(element)),
            None => self.root = Some(element),
        }
    }

    fn text(&mut self, text: Cow<'x, str>, start: usize) -> Result<(), Fault> {
        if let Some(character) = text.chars().find(|c| forbidden(*c)) {
            return Err(
                self.fault(start, &format!("the character {character:?} is not allowed in XML"))
            );
        }
        match self.open.last_mut() {
            Some(element) => element.children.push(Node::Text(text)),
            None if text.trim_matches('\u{feff}').trim().is_empty() => {}
            None => return Err(self.fault(start, "text outside the root element; remove it")),
        }
        Ok(())
    }

    fn reference(&mut self, reference: &BytesRef<'x>, start: usize) -> Result<(), Fault> {
        let resolved = match reference.resolve_char_ref() {
            Ok(Some(character)) => Some(character.to_string()),
            Ok(None) => quick_xml::escape::resolve_xml_entity(reference).map(str::to_owned),
            Err(_) => None,
        };
        match resolved {
            Some(text) => self.text(Cow::Owned(text), start),
            None => {
                let name: &str = reference;
                Err(self.fault(
                    start,
                    &format!("the entity &{name}; is not one of XML's own; write its text"),
                ))
            }
        }
    }

    fn offset(&self) -> usize {
        usize::try_from(self.reader.buffer_position()).unwrap_or(self.text.len())
    }

    fn slice(&self, at: usize, length: usize) -> &'x str {
        self.text.get(at..at + length).unwrap_or_default()
    }

    fn fault(&mut self, at: usize, what: &str) -> Fault {
        Fault::refused(self.lines.position(at), "", what)
    }
}

/// Where `part`, a slice of the tag's content, begins in it.
fn offset_within(tag: &BytesStart<'_>, part: &str) -> usize {
    let content: &str = tag;
    (part.as_ptr() as usize).saturating_sub(content.as_ptr() as usize)
}

/// Characters outside XML 1.0's production `Char`.
fn forbidden(character: char) -> bool {
    matches!(character, '\0'..='\u{8}' | '\u{b}' | '\u{c}' | '\u{e}'..='\u{1f}' | '\u{fffe}' | '\u{ffff}')
}

fn error_text(error: &quick_xml::Error) -> String {
    error.to_string().trim_end_matches('.').to_owned()
}

fn attribute_error_text(error: &AttrError) -> &'static str {
    match error {
        AttrError::ExpectedEq(_) => "an attribute has no '='; write NAME='VALUE'",
        AttrError::ExpectedValue(_) => "an attribute has no value; write NAME='VALUE'",
        AttrError::UnquotedValue(_) => "an attribute's value is not quoted; write NAME='VALUE'",
        AttrError::ExpectedQuote(..) => "an attribute's closing quote is missing; add it",
        AttrError::Duplicated(..) => "an attribute is given twice; remove one",
    }
}

/// Counts lines and columns forward: positions are asked for in nearly ascending order, so each byte is seen
/// about once, however long a line is.
struct LineCounter<'x> {
    text: &'x str,
    offset: usize,
    position: Position,
}

impl<'x> LineCounter<'x> {
    fn new(text: &'x str) -> Self {
        Self { text, offset: 0, position: Position { line: 1, column: 1 } }
    }

    fn position(&mut self, at: usize) -> Position {
        let at = at.min(self.text.len());
        if at < self.offset {
            *self = Self::new(self.text);
        }
        for byte in &self.text.as_bytes()[self.offset..at] {
            match byte {
                b'\n' => {
                    self.position.line = self.position.line.saturating_add(1);
                    self.position.column = 1;
                }
                // The second and later bytes of a character in UTF-8.
                0x80..=0xbf => {}
                0..=0x7f | 0xc0..=0xff => {
                    self.position.column = self.position.column.saturating_add(1);
                }
            }
        }
        self.offset = at;
        self.position
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> String {
        parse(text).unwrap_err().to_string()
    }

    #[test]
    fn positions_are_lines_and_columns() {
        let root = parse("<a>\n  <ü/><b\n c='1'>x&amp;y</b></a>").unwrap();
        let children: Vec<_> = root.elements().collect();
        assert_eq!(children[0].position, Position { line: 2, column: 3 });
        assert_eq!(children[1].position, Position { line: 2, column: 7 });
        assert_eq!(children[1].attributes[0].position, Position { line: 3, column: 2 });
        assert_eq!(children[1].text(), "x&y");
    }

    #[test]
    fn a_byte_order_mark_shifts_nothing() {
        let root = parse("\u{feff}<a><q:b xmlns:q='urn:x' c='1'/></a>").unwrap();
        let child = root.elements().next().unwrap();
        assert_eq!((root.name, child.name, child.attributes[1].name), ("a", "b", "c"));
        assert_eq!(child.position, Position { line: 1, column: 4 });
    }

    #[test]
    fn namespaces_are_resolved_whatever_their_prefix() {
        let root = parse("<a xmlns:q='urn:x' v='1&lt;2'><q:b/></a>").unwrap();
        let child = root.elements().next().unwrap();
        assert_eq!((child.name, child.qualified), ("b", "q:b"));
        assert_eq!(child.namespace.as_deref(), Some("urn:x"));
        assert_eq!(root.attributes[1].value, "1<2");
    }

    #[test]
    fn what_is_no_document_is_refused_with_its_place() {
        for (text, message) in [
            ("", "1:1: no element; give a libvirt domain XML"),
            ("<a>", "1:1: not well-formed XML: <a> is never closed; add </a>"),
            ("<a/>\n<b/>", "2:1: content after the root element; remove it"),
            ("<a/>x", "1:5: text outside the root element; remove it"),
            ("<!DOCTYPE a>\n<a/>", "1:1: a document type is not allowed; remove <!DOCTYPE ...>"),
            ("<a>&b;</a>", "1:4: the entity &b; is not one of XML's own; write its text"),
            ("<q:a/>", "1:1: the prefix \"q\" is not declared; add xmlns:q=..."),
            (
                "<a b='1' b='2'/>",
                "1:1: not well-formed XML: an attribute is given twice; remove one",
            ),
            (
                "<a b=1/>",
                "1:1: not well-formed XML: an attribute's value is not quoted; write NAME='VALUE'",
            ),
        ] {
            assert_eq!(refusal(text), message, "{text}");
        }
        assert!(refusal("<a>\n  <b></c></a>").starts_with("2:6: not well-formed XML: "));
    }

    #[test]
    fn a_long_line_costs_no_more_than_short_ones() {
        let text = format!("<a>{}</a>", "<b c='ü'/>".repeat(100_000));
        let root = parse(&text).unwrap();
        let last = root.elements().last().unwrap();
        assert_eq!(last.position, Position { line: 1, column: 999_994 });
        assert_eq!(last.attributes[0].position, Position { line: 1, column: 999_997 });
    }

    #[test]
    fn nesting_is_bounded() {
        let deep = |levels: usize| format!("{}{}", "<a>".repeat(levels), "</a>".repeat(levels));
        assert!(parse(&deep(256)).is_ok());
        assert_eq!(refusal(&deep(257)), "1:769: elements nest deeper than 256 levels");
    }
}

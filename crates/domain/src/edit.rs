//! Changes single values in a document's text, and leaves all else as it was written.
//!
//! Writing a [`crate::Domain`] anew would lose comments and what the model does not know; a program that takes over
//! somebody's document keeps both. Elements and attributes are those of [`crate::tree::parse`] on the same text.

use quick_xml::Reader;
use quick_xml::events::Event;

use crate::fault::Position;
use crate::tree::{Attribute, Element};
use crate::writer::escape;

/// The document with another text in an element, which must have no elements in it; otherwise nothing.
///
/// ```
/// use domain::{edit, tree};
/// let document = "<a>\n  <!-- old --><b c='1'>x</b>\n</a>\n";
/// let root = tree::parse(document).unwrap();
/// let b = root.elements().next().unwrap();
/// let edited = edit::with_text(document, b, "1<2").unwrap();
/// assert_eq!(edited, "<a>\n  <!-- old --><b c='1'>1&lt;2</b>\n</a>\n");
/// ```
#[must_use]
pub fn with_text(document: &str, element: &Element<'_>, text: &str) -> Option<String> {
    let start = offset(document, element.position)?;
    let tag = start + end_of_tag(&document[start..])?;
    if element.elements().next().is_some() {
        return None;
    }
    let text = escape(text);
    let close = format!("</{}", element.qualified);
    if document[..tag].ends_with('/') {
        let (before, after) = (&document[..tag - 1], &document[tag + 1..]);
        return Some(format!("{}>{text}{close}>{after}", before.trim_end()));
    }
    let end = tag + document[tag..].find(&close)?;
    Some(format!("{}>{text}{}", &document[..tag], &document[end..]))
}

/// The document with another value of an attribute.
///
/// ```
/// use domain::{edit, tree};
/// let document = "<a b = \"1\" c='2'/>";
/// let root = tree::parse(document).unwrap();
/// let edited = edit::with_value(document, &root.attributes[0], "it's").unwrap();
/// assert_eq!(edited, "<a b = \"it&apos;s\" c='2'/>");
/// ```
#[must_use]
pub fn with_value(document: &str, attribute: &Attribute<'_>, value: &str) -> Option<String> {
    let name = offset(document, attribute.position)?;
    let open = name + document[name..].find(['\'', '"'])?;
    let quote = document[open..].chars().next()?;
    let start = open + quote.len_utf8();
    let end = start + document[start..].find(quote)?;
    Some(format!("{}{}{}", &document[..start], escape(value), &document[end..]))
}

/// The document with an attribute more, which the element must not have.
///
/// ```
/// use domain::{edit, tree};
/// let root = tree::parse("<a b='1'/>").unwrap();
/// assert_eq!(edit::with_attribute("<a b='1'/>", &root, "c", "2").unwrap(), "<a c='2' b='1'/>");
/// ```
#[must_use]
pub fn with_attribute(
    document: &str,
    element: &Element<'_>,
    name: &str,
    value: &str,
) -> Option<String> {
    let end = offset(document, element.position)? + "<".len() + element.qualified.len();
    let (before, after) = document.split_at_checked(end)?;
    Some(format!("{before} {name}='{}'{after}", escape(value)))
}

/// The document without an element, and without the white space before it.
///
/// ```
/// use domain::{edit, tree};
/// let document = "<a>\n  <b><c/></b>\n  <b/>\n</a>\n";
/// let root = tree::parse(document).unwrap();
/// let b = root.elements().next().unwrap();
/// assert_eq!(edit::without(document, b).unwrap(), "<a>\n  <b/>\n</a>\n");
/// ```
#[must_use]
pub fn without(document: &str, element: &Element<'_>) -> Option<String> {
    let (start, end) = span(document, element)?;
    Some(format!("{}{}", document[..start].trim_end(), &document[end..]))
}

/// The document with other text in the place of an element.
///
/// ```
/// use domain::{edit, tree};
/// let document = "<a>\n  <b>/></b>\n</a>";
/// let root = tree::parse(document).unwrap();
/// let b = root.elements().next().unwrap();
/// assert_eq!(edit::replaced(document, b, "<c/>").unwrap(), "<a>\n  <c/>\n</a>");
/// ```
#[must_use]
pub fn replaced(document: &str, element: &Element<'_>, text: &str) -> Option<String> {
    let (start, end) = span(document, element)?;
    Some(format!("{}{text}{}", &document[..start], &document[end..]))
}

/// The document with a child, given as text, behind all children of an element.
///
/// ```
/// use domain::{edit, tree};
/// let document = "<a>\n  <b/>\n</a>";
/// let root = tree::parse(document).unwrap();
/// assert_eq!(edit::with_child(document, &root, "<c/>").unwrap(), "<a>\n  <b/>\n  <c/>\n</a>");
/// ```
#[must_use]
pub fn with_child(document: &str, element: &Element<'_>, child: &str) -> Option<String> {
    let (start, end) = span(document, element)?;
    let name = element.qualified;
    let indent = indent(&document[..start]);
    if document[..end].ends_with("/>") {
        let open = document[..end - 2].trim_end();
        let rest = &document[end..];
        return Some(format!("{open}>\n{indent}  {child}\n{indent}</{name}>{rest}"));
    }
    let close = start + document[start..end].rfind("</")?;
    let inside = document[..close].trim_end();
    Some(format!("{inside}\n{indent}  {child}\n{indent}{}", &document[close..]))
}

/// The white space with which a line begins, the last one of the text.
fn indent(text: &str) -> &str {
    let line = text.rsplit('\n').next().unwrap_or_default();
    if line.trim().is_empty() { line } else { "" }
}

/// Where an element begins and ends in the text, in bytes.
fn span(document: &str, element: &Element<'_>) -> Option<(usize, usize)> {
    let start = offset(document, element.position)?;
    let mut reader = Reader::from_str(&document[start..]);
    let mut depth = 0u32;
    loop {
        match reader.read_event().ok()? {
            Event::Start(_) => depth += 1,
            Event::End(_) => depth = depth.checked_sub(1)?,
            Event::Eof => return None,
            Event::Empty(_)
            | Event::Text(_)
            | Event::CData(_)
            | Event::Comment(_)
            | Event::Decl(_)
            | Event::PI(_)
            | Event::DocType(_)
            | Event::GeneralRef(_) => {}
        }
        if depth == 0 {
            return Some((start, start + usize::try_from(reader.buffer_position()).ok()?));
        }
    }
}

/// Where a position is in the text, in bytes. Positions do not count a byte order mark.
fn offset(document: &str, position: Position) -> Option<usize> {
    let counted = document.trim_start_matches('\u{feff}');
    let line = usize::try_from(position.line).ok()?.checked_sub(1)?;
    let column = usize::try_from(position.column).ok()?.checked_sub(1)?;
    let line_start = match line {
        0 => 0,
        _ => counted.match_indices('\n').nth(line - 1)?.0 + 1,
    };
    let (in_line, _) = counted[line_start..].char_indices().nth(column)?;
    Some(document.len() - counted.len() + line_start + in_line)
}

/// Where the `>` of the tag is that the text begins with: one in a quoted value ends no tag.
fn end_of_tag(text: &str) -> Option<usize> {
    let mut quote = None;
    for (at, character) in text.char_indices() {
        match (quote, character) {
            (None, '>') => return Some(at),
            (None, '\'' | '"') => quote = Some(character),
            (Some(open), _) if open == character => quote = None,
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::{self, Node};
    use proptest::prelude::*;

    /// The document with the text of its first element changed.
    fn retold(document: &str, text: &str) -> Option<String> {
        let root = tree::parse(document).unwrap();
        let first = root.elements().next().unwrap();
        with_text(document, first, text)
    }

    #[test]
    fn only_the_text_changes() {
        for (document, expected) in [
            ("<d>\n\t<n a='>\"' >old</n></d>", "<d>\n\t<n a='>\"' >new</n></d>"),
            ("\u{feff}<d>ü\n ü <n/>ü</d>", "\u{feff}<d>ü\n ü <n>new</n>ü</d>"),
            ("<d><n a='/' /><n>b</n></d>", "<d><n a='/'>new</n><n>b</n></d>"),
            ("<d><n>a<!-- b --><![CDATA[c]]></n ></d>", "<d><n>new</n ></d>"),
        ] {
            assert_eq!(retold(document, "new").as_deref(), Some(expected));
        }
        assert_eq!(retold("<d><n>a<m/></n></d>", "new"), None);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(text in "[\t\n -~\u{a0}-\u{2ff}]{0,40}", line in "[ -;=?-~ü\n]{0,20}") {
            prop_assume!(!line.contains('&') && !line.contains('\''));
            let document = format!("<d a='{line}'>{line}<n b='{line}' c='1'>{line}</n></d>");
            let edited = retold(&document, &text).unwrap();
            let root = tree::parse(&edited).unwrap();
            let element = root.elements().next().unwrap();
            prop_assert_eq!(element.text(), text.trim());
            prop_assert!(matches!(root.children.last(), Some(Node::Element(_))));
            let edited = with_value(&edited, &element.attributes[1], &text).unwrap();
            let root = tree::parse(&edited).unwrap();
            let value = &root.elements().next().unwrap().attributes[1].value;
            // Attributes are normalized, XML 1.0 section 3.3.3.
            prop_assert_eq!(value, &text.replace(['\n', '\t'], " "));
        }
    }
}

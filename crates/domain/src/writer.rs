//! Writing XML as libvirt formats it: two spaces a level, single quotes, `<empty/>`.

use std::fmt::Display;

use crate::tree::{Element, Node};

/// Text of a document in the making. See [`Writer::element`].
#[derive(Debug, Default)]
pub struct Writer {
    out: String,
    depth: usize,
}

impl Writer {
    /// No text yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The document.
    #[must_use]
    pub fn finish(self) -> String {
        self.out
    }

    /// Begins an element; it is written when the returned value is consumed by one of its ends.
    ///
    /// ```
    /// let mut writer = domain::Writer::new();
    /// writer.element("disk").attribute("type", "file").children(|w| {
    ///     w.element("serial").text("a<b");
    ///     w.element("readonly").empty();
    /// });
    /// assert_eq!(
    ///     writer.finish(),
    ///     "<disk type='file'>\n  <serial>a&lt;b</serial>\n  <readonly/>\n</disk>\n"
    /// );
    /// ```
    pub fn element(&mut self, name: &'static str) -> OpenElement<'_> {
        OpenElement { tag: format!("<{name}"), name, has_attributes: false, writer: self }
    }

    /// Writes a tree as it was read, each element on its own line.
    pub fn raw(&mut self, element: &Element<'_>) {
        self.indent();
        self.out.push('<');
        self.out.push_str(element.qualified);
        for attribute in &element.attributes {
            self.out.push_str(&format!(" {}='{}'", attribute.name, escape(&attribute.value)));
        }
        if element.children.is_empty() {
            self.out.push_str("/>\n");
            return;
        }
        self.out.push('>');
        let has_elements = element.elements().next().is_some();
        if has_elements {
            self.out.push('\n');
            self.depth += 1;
        }
        for child in &element.children {
            match child {
                Node::Element(child) => self.raw(child),
                Node::Text(text) if has_elements && text.trim().is_empty() => {}
                Node::Text(text) => self.out.push_str(&escape(text)),
            }
        }
        if has_elements {
            self.depth -= 1;
            self.indent();
        }
        self.out.push_str(&format!("</{}>\n", element.qualified));
    }

    /// Writes lines that are XML already, each at the present depth.
    pub fn lines(&mut self, xml: &str) {
        for line in xml.lines() {
            self.indent();
            self.out.push_str(line);
            self.out.push('\n');
        }
    }

    fn indent(&mut self) {
        self.out.extend(std::iter::repeat_n("  ", self.depth));
    }
}

/// An element whose attributes are being written. Nothing reaches the document before one of its ends is called.
#[derive(Debug)]
#[must_use = "an element is written by empty, text, children or children_if_any"]
pub struct OpenElement<'w> {
    writer: &'w mut Writer,
    tag: String,
    name: &'static str,
    has_attributes: bool,
}

impl OpenElement<'_> {
    /// Adds an attribute.
    pub fn attribute(mut self, name: &str, value: impl Display) -> Self {
        self.tag.push_str(&format!(" {name}='{}'", escape(&value.to_string())));
        self.has_attributes = true;
        self
    }

    /// Adds an attribute if there is a value.
    pub fn optional(self, name: &str, value: Option<impl Display>) -> Self {
        match value {
            Some(value) => self.attribute(name, value),
            None => self,
        }
    }

    /// Adds an attribute that is `yes` or `no`, if there is a value.
    pub fn yes_no(self, name: &str, value: Option<bool>) -> Self {
        self.optional(name, value.map(|yes| if yes { "yes" } else { "no" }))
    }

    /// Adds an attribute that is `on` or `off`, if there is a value.
    pub fn on_off(self, name: &str, value: Option<bool>) -> Self {
        self.optional(name, value.map(|on| if on { "on" } else { "off" }))
    }

    /// Ends the element without content.
    pub fn empty(self) {
        self.writer.indent();
        self.writer.out.push_str(&self.tag);
        self.writer.out.push_str("/>\n");
    }

    /// Ends the element without content, and leaves it out when it has no attribute either.
    pub fn empty_if_any(self) {
        if self.has_attributes {
            self.empty();
        }
    }

    /// Ends the element with text.
    pub fn text(self, text: impl Display) {
        self.writer.indent();
        let text = escape(&text.to_string()).into_owned();
        self.writer.out.push_str(&format!("{}>{text}</{}>\n", self.tag, self.name));
    }

    /// Ends the element with what `write` writes; `<name/>` when that is nothing.
    pub fn children(self, write: impl FnOnce(&mut Writer)) {
        self.finish(true, write);
    }

    /// As [`Self::children`], and leaves the element out when it has neither attributes nor content.
    pub fn children_if_any(self, write: impl FnOnce(&mut Writer)) {
        let keep = self.has_attributes;
        self.finish(keep, write);
    }

    fn finish(self, keep_empty: bool, write: impl FnOnce(&mut Writer)) {
        let before = self.writer.out.len();
        self.writer.indent();
        self.writer.out.push_str(&self.tag);
        self.writer.out.push_str(">\n");
        let content = self.writer.out.len();
        self.writer.depth += 1;
        write(self.writer);
        self.writer.depth -= 1;
        if self.writer.out.len() > content {
            self.writer.indent();
            self.writer.out.push_str(&format!("</{}>\n", self.name));
        } else if keep_empty {
            self.writer.out.truncate(content - ">\n".len());
            self.writer.out.push_str("/>\n");
        } else {
            self.writer.out.truncate(before);
        }
    }
}

/// Text with XML's five characters written as entities, and line breaks that a parser would fold kept.
pub(crate) fn escape(text: &str) -> std::borrow::Cow<'_, str> {
    quick_xml::escape::escape(text)
}

//! Markdown to roff with the man macros (groff_man(7)), in so far as our pages use it.
//!
//! `# name(section) - what it is` is the title, `##` a section, `code` bold, `*emphasis*` italic. Anything that
//! this file does not know stops the test: a page must not lose a part in silence.

// The parser's enums have far more than the pages use; what is new to this file stops the test.
#![allow(clippy::wildcard_enum_match_arm)]

use std::fmt::Write;

use pulldown_cmark::{CodeBlockKind, Event, HeadingLevel, LinkType, Options, Parser, Tag, TagEnd};

/// The page `name`, such as `glassboxd.8`.
pub(super) fn page(name: &str, version: &str, markdown: &str, options: Option<&str>) -> String {
    let (title, section) = name.rsplit_once('.').unwrap();
    let mut page = Page { options, ..Page::default() };
    writeln!(page.text, "'\\\" t\n.\\\" Made by 'make man' from man/{name}.md").unwrap();
    writeln!(page.text, ".TH \"{}\" {section} \"\" \"glassbox {version}\"", title.to_uppercase())
        .unwrap();
    let extensions = Options::ENABLE_TABLES | Options::ENABLE_DEFINITION_LIST;
    for event in Parser::new_ext(markdown, extensions) {
        page.event(event);
    }
    page.start_line();
    page.text
}

#[derive(Default)]
struct Page<'o> {
    text: String,
    options: Option<&'o str>,
    verbatim: bool,
    /// The next paragraph continues a list's item and needs no macro.
    in_item: bool,
    depth: usize,
    columns: usize,
    cell: usize,
}

impl Page<'_> {
    fn event(&mut self, event: Event<'_>) {
        match event {
            Event::Start(tag) => self.start(&tag),
            Event::End(tag) => self.end(tag),
            Event::Text(text) if self.verbatim => self.lines(&text),
            Event::Text(text) => self.words(&text),
            Event::Code(code) => {
                self.text.push_str("\\fB");
                self.words(&code);
                self.text.push_str("\\fR");
            }
            Event::SoftBreak => self.text.push('\n'),
            Event::Html(html) if html.trim() == "<!-- options -->" => {
                let options = self.options.expect("the page's program has options");
                self.start_line();
                self.text.push_str(options);
            }
            other => panic!("the man pages' Markdown has no {other:?}; see tests/tidy/man/roff.rs"),
        }
    }

    fn start(&mut self, tag: &Tag<'_>) {
        match tag {
            Tag::Heading { level: HeadingLevel::H1, .. } => self.line(".SH NAME\n"),
            Tag::Heading { level: HeadingLevel::H2, .. } => self.line(".SH "),
            Tag::Heading { level: HeadingLevel::H3, .. } => self.line(".SS "),
            Tag::Paragraph if std::mem::take(&mut self.in_item) => {}
            Tag::Paragraph if self.depth > 0 => self.line(".IP\n"),
            Tag::Paragraph => self.line(".PP\n"),
            Tag::List(None) => self.nest(),
            Tag::Item => self.item(".IP \\(bu 2\n"),
            Tag::DefinitionList => self.nest(),
            Tag::DefinitionListTitle => self.line(".TP\n"),
            Tag::DefinitionListDefinition => self.item(""),
            Tag::CodeBlock(CodeBlockKind::Fenced(_)) => {
                self.line(".PP\n.RS 4\n.EX\n");
                self.verbatim = true;
            }
            Tag::Emphasis => self.text.push_str("\\fI"),
            Tag::Strong => self.text.push_str("\\fB"),
            // An address in <...> is its own text.
            Tag::HtmlBlock | Tag::Link { link_type: LinkType::Autolink, .. } => {}
            Tag::Table(alignments) => {
                self.columns = alignments.len();
                let columns = vec!["lx"; self.columns].join(" ");
                self.line(&format!(".TS\nallbox;\n{}.\n", columns.replacen("lx", "l", 1)));
            }
            Tag::TableHead | Tag::TableRow => self.cell = 0,
            Tag::TableCell => self.line("T{\n"),
            other => panic!("the man pages' Markdown has no {other:?}; see tests/tidy/man/roff.rs"),
        }
    }

    fn end(&mut self, tag: TagEnd) {
        match tag {
            TagEnd::List(_) | TagEnd::DefinitionList => {
                self.depth -= 1;
                if self.depth > 0 {
                    self.line(".RE\n");
                }
                self.in_item = false;
            }
            TagEnd::CodeBlock => {
                self.line(".EE\n.RE\n");
                self.verbatim = false;
            }
            TagEnd::Emphasis | TagEnd::Strong => self.text.push_str("\\fR"),
            TagEnd::TableCell => {
                self.cell += 1;
                self.line(if self.cell == self.columns { "T}\n" } else { "T}\t" });
            }
            TagEnd::Table => self.line(".TE\n"),
            _ => self.start_line(),
        }
    }

    /// A list within a list's item is set further in.
    fn nest(&mut self) {
        self.depth += 1;
        if self.depth > 1 {
            self.line(".RS 4\n");
        }
    }

    fn item(&mut self, macro_line: &str) {
        self.line(macro_line);
        self.in_item = true;
    }

    fn start_line(&mut self) {
        if !self.text.ends_with(['\n', '\t']) {
            self.text.push('\n');
        }
    }

    fn line(&mut self, text: &str) {
        self.start_line();
        self.text.push_str(text);
    }

    fn lines(&mut self, text: &str) {
        for line in text.split_inclusive('\n') {
            self.words(line);
        }
    }

    /// Text with what roff would read as its own written out.
    fn words(&mut self, text: &str) {
        if self.text.ends_with('\n') && text.starts_with(['.', '\'']) {
            self.text.push_str("\\&");
        }
        for character in text.chars() {
            match character {
                '\\' => self.text.push_str("\\e"),
                // A hyphen is one wherever it stands: what users copy must work.
                '-' => self.text.push_str("\\-"),
                '\'' => self.text.push_str("\\(aq"),
                '~' => self.text.push_str("\\(ti"),
                '^' => self.text.push_str("\\(ha"),
                '`' => self.text.push_str("\\(ga"),
                'ü' => self.text.push_str("\\(:u"),
                character => {
                    assert!(character.is_ascii(), "roff needs an escape for {character:?}");
                    self.text.push(character);
                }
            }
        }
    }
}

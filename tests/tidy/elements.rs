//! The tables of elements and names in glassbox.domain(5), compared with what the crates do.
//!
//! A row's word, used, refused or ignored, is tried on a document that has every used element.

use domain::{Domain, DomainName, Fault, Faults, MachineName, Severity, UnitInstance};
use qemu::{HostFacts, Launch, SevFacts};

use super::none;

/// A domain with every element that the page calls used.
const EVERYTHING: &str = include_str!("elements.xml");

/// Elements that the page does not call used, with what they usually hold, one a line: an empty element can
/// say nothing that is left out.
const LEFT_OUT: &str = include_str!("left-out.xml");

/// The definition that README.md starts with.
const EXAMPLE: &str = include_str!("../../examples/web.xml");

fn page() -> String {
    let path = tests::install::repository().join("man/glassbox.domain.5.md");
    std::fs::read_to_string(path).unwrap()
}

/// The rows of the page's table below `heading`, cell by cell.
fn rows(heading: &str) -> Vec<Vec<String>> {
    let page = page();
    let (_, below) = page.split_once(&format!("\n### {heading}\n")).unwrap();
    let section = below.split("\n#").next().unwrap();
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| row.trim_matches('|').split(" | ").map(|it| it.trim().to_owned()).collect())
        .collect()
}

/// The elements of a table's rows with the row's first word: what becomes of them.
fn elements(heading: &str) -> Vec<(String, String)> {
    let mut elements = Vec::new();
    for row in rows(heading) {
        let [names, word] = row.as_slice() else { panic!("a row of two cells: {row:?}") };
        let word = word.split([' ', ':', ',', ';']).next().unwrap();
        let names = names.split('`').filter(|part| part.starts_with('<'));
        elements
            .extend(names.map(|name| (name.trim_matches(['<', '>']).to_owned(), word.to_owned())));
    }
    assert!(elements.len() > 5, "the table '{heading}' is found");
    elements
}

/// What is wrong with a document, as a start would find.
fn faults(text: &str) -> Vec<Fault> {
    let faults = Faults::new();
    if let Some(mut domain) = Domain::parse(text, &faults) {
        let sev = Some(SevFacts { cbitpos: 47, reduced_phys_bits: 1 });
        let facts = HostFacts { sev, ..HostFacts::local("guest") };
        qemu::complete(&mut domain, &facts, &faults);
        let _ = qemu::plan(&domain, &facts, &Launch::default(), &faults);
    }
    faults.into_sorted()
}

/// What becomes of an element that is put before `end` of the document with everything.
fn fate(element: &str, end: &str) -> &'static str {
    let begins = |line: &&str| line[1..].split(['>', ' ']).next() == Some(element);
    let empty = format!("<{element}/>");
    let sample = LEFT_OUT.lines().find(begins).unwrap_or(&empty);
    let text = EVERYTHING.replacen(end, &format!("{sample}{end}"), 1);
    let at = |fault: &&Fault| {
        let last = fault.path.rsplit('/').next().unwrap_or_default();
        last.split('[').next() == Some(element)
    };
    let found = faults(&text).iter().find(at).map(|fault| fault.severity);
    match found {
        Some(Severity::Refused) => "refused",
        Some(Severity::Ignored) => "ignored",
        Some(Severity::Unit) => "unit",
        None => "used",
    }
}

fn check_table(heading: &str, parent: &str, used: impl Fn(&str) -> bool) {
    let mut broken = Vec::new();
    for (element, word) in elements(heading) {
        let found = if used(&element) { "used" } else { fate(&element, parent) };
        if found != word {
            broken.push(format!("<{element}> is called {word} and is {found}"));
        }
    }
    none(&format!("the table '{heading}' of glassbox.domain(5) says what the code does"), &broken);
}

#[test]
fn the_elements_of_a_domain_are_as_the_page_says() {
    let tree = domain::tree::parse(EVERYTHING).unwrap();
    check_table("Elements", "</domain>", |name| tree.elements().any(|it| it.qualified == name));
}

#[test]
fn the_devices_are_as_the_page_says() {
    let tree = domain::tree::parse(EVERYTHING).unwrap();
    let devices = tree.elements().find(|element| element.name == "devices").unwrap();
    check_table("Devices", "</devices>", |name| devices.elements().any(|it| it.name == name));
}

#[test]
fn what_the_page_calls_used_plans_without_a_fault() {
    let found: Vec<String> =
        faults(EVERYTHING).iter().map(|fault| fault.in_file("elements.xml")).collect();
    none("nothing in tests/tidy/elements.xml is refused or ignored", &found);
    let found: Vec<String> = faults(EXAMPLE).iter().map(|fault| fault.in_file("web.xml")).collect();
    none("nothing in examples/web.xml is refused or ignored", &found);
}

#[test]
fn no_element_that_the_crate_knows_is_missing_from_the_page() {
    let root = tests::install::repository();
    let mut missing = Vec::new();
    for (file, heading, marks) in [
        ("domain.rs", "Elements", &["child(\"", "children(\""][..]),
        ("devices.rs", "Devices", &["\n            \""]),
    ] {
        let text = std::fs::read_to_string(root.join("crates/domain/src").join(file)).unwrap();
        let listed = elements(heading);
        let known = marks.iter().flat_map(|mark| text.split(mark).skip(1));
        let known = known.filter_map(|rest| rest.split('"').next());
        let lacks = |name: &&str| !listed.iter().any(|(listed, _)| listed == name);
        missing.extend(known.filter(lacks).map(|name| format!("<{name}>")));
    }
    none("glassbox.domain(5) lists every element", &missing);
}

#[test]
fn the_examples_of_names_are_true() {
    let mut wrong = Vec::new();
    for row in rows("Names") {
        let cells: Vec<&str> = row.iter().map(|cell| cell.trim_matches('`')).collect();
        let name = DomainName::try_from(cells[0]).unwrap();
        let unit = format!("qemu@{}.service", UnitInstance::from(&name));
        let machine = MachineName::try_from(&name).unwrap().to_string();
        let directory = UnitInstance::from(&name).directory();
        if cells[1..] != [unit.as_str(), machine.as_str(), directory.as_str()] {
            wrong.push(format!("{name}: {unit}, {machine}, {directory}"));
        }
    }
    none("the names in glassbox.domain(5) are made by crates/domain/src/names.rs", &wrong);
}

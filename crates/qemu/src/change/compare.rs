//! Two domains as XML, part by part.

use domain::devices::{DeviceKind, DeviceRef};
use domain::tree::{self, Element};
use domain::{Domain, Place};

/// An element without its place in a document. Its attributes are in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Xml {
    name: String,
    attributes: Vec<(String, String)>,
    text: String,
    children: Vec<Xml>,
}

impl Xml {
    /// A domain as it is written.
    pub(super) fn of(domain: &Domain) -> Self {
        let text = domain.write();
        let root = tree::parse(&text).expect("what this program writes it reads");
        Self::from(&root)
    }

    /// One device of a domain.
    pub(super) fn device(&self, kind: DeviceKind, index: usize) -> Option<&Self> {
        let devices = self.children.iter().find(|child| child.name == "devices")?;
        devices.named(kind.element()).nth(index)
    }

    /// The element without these children, and without the numbers of block nodes.
    pub(super) fn without(&self, names: &[&str]) -> Self {
        let kept = self.children.iter().filter(|child| !names.contains(&child.name.as_str()));
        Self { children: kept.map(Self::without_index).collect(), ..self.clone() }
    }

    fn without_index(&self) -> Self {
        let mut this = self.clone();
        this.attributes.retain(|(name, _)| name != "index");
        this
    }

    fn named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Self> {
        self.children.iter().filter(move |child| child.name == name)
    }

    /// The paths, below `path`, of what differs in two elements of a name.
    fn differences(&self, other: &Self, path: &str, found: &mut Vec<String>) {
        let names = |it: &Self| it.children.iter().map(|it| it.name.clone()).collect::<Vec<_>>();
        let own = |it: &Self| (it.attributes.clone(), it.text.clone());
        if own(self) != own(other) || names(self) != names(other) {
            found.push(path.to_owned());
            return;
        }
        for (child, other) in self.children.iter().zip(&other.children) {
            if child != other {
                child.differences(other, &format!("{path}/{}", child.name), found);
            }
        }
    }
}

impl From<&Element<'_>> for Xml {
    fn from(element: &Element<'_>) -> Self {
        let mut attributes: Vec<(String, String)> = element
            .attributes
            .iter()
            .map(|attribute| (attribute.name.to_owned(), attribute.value.clone().into_owned()))
            .collect();
        attributes.sort();
        Self {
            name: element.qualified.to_owned(),
            attributes,
            text: element.text().into_owned(),
            children: element.elements().map(Self::from).collect(),
        }
    }
}

/// A live domain and a wanted one, and the document of that.
#[derive(Debug)]
pub(super) struct Compared<'d> {
    live: Xml,
    wanted: Xml,
    document: &'d Element<'d>,
}

impl<'d> Compared<'d> {
    pub(super) fn new(live: &Domain, wanted: &Domain, document: &'d Element<'d>) -> Self {
        Self { live: Xml::of(live), wanted: Xml::of(wanted), document }
    }

    /// The elements right below the root that differ, devices apart, with the places of what differs in them.
    pub(super) fn beside_devices(&self) -> Vec<(String, Vec<Place>)> {
        let names = names(&self.live, &self.wanted, |name| name != "devices");
        let differing = |name: String| {
            let places = self.differing(&self.live, &self.wanted, &name, "/domain");
            (!places.is_empty()).then_some((name, places))
        };
        let mut all: Vec<_> = names.into_iter().filter_map(differing).collect();
        let own = |it: &Xml| it.attributes.clone();
        if own(&self.live) != own(&self.wanted) {
            all.push(("domain".to_owned(), vec![self.place("/domain")]));
        }
        all
    }

    /// The places of what differs among the devices that have no aliases, such as displays.
    pub(super) fn without_alias(&self) -> Vec<Place> {
        let empty = Xml::default();
        let devices = |it: &'_ Xml| it.named("devices").next().cloned().unwrap_or(empty.clone());
        let (live, wanted) = (devices(&self.live), devices(&self.wanted));
        let has_alias = |name: &str| DeviceKind::ALL.iter().any(|kind| kind.element() == name);
        let names = names(&live, &wanted, |name| !has_alias(name));
        let places = |name: &String| self.differing(&live, &wanted, name, "/domain/devices");
        names.iter().flat_map(places).collect()
    }

    /// Whether a device is not what it should be.
    pub(super) fn differ(&self, live: DeviceRef, wanted: DeviceRef) -> bool {
        self.live.device(live.kind, live.index) != self.wanted.device(wanted.kind, wanted.index)
    }

    /// The places of what differs in a device that stands at `place`.
    pub(super) fn places(&self, live: DeviceRef, wanted: DeviceRef, place: &Place) -> Vec<Place> {
        let old = self.live.device(live.kind, live.index);
        let new = self.wanted.device(wanted.kind, wanted.index);
        let (Some(old), Some(new)) = (old, new) else { return vec![place.clone()] };
        let path = if place.path.is_empty() { "/domain/devices" } else { &place.path };
        let mut found = Vec::new();
        old.differences(new, path, &mut found);
        found.iter().map(|path| self.place(path)).collect()
    }

    /// Where the devices stand.
    pub(super) fn devices_place(&self) -> Place {
        self.place("/domain/devices")
    }

    /// The places of what differs among the elements of a name; none when nothing does.
    fn differing(&self, live: &Xml, wanted: &Xml, name: &str, above: &str) -> Vec<Place> {
        let lists = [live, wanted].map(|it| it.named(name).collect::<Vec<_>>());
        let path = format!("{above}/{name}");
        let mut found = Vec::new();
        match &lists {
            [old, new] if old == new => {}
            [old, new] if old.len() == 1 && new.len() == 1 => {
                old[0].differences(new[0], &path, &mut found);
            }
            _ => found.push(path),
        }
        found.iter().map(|path| self.place(path)).collect()
    }

    /// The place of a path in the document, or of what of it is there.
    fn place(&self, path: &str) -> Place {
        let mut element = self.document;
        let mut position = element.position;
        for step in path.split('/').skip(2) {
            let (name, number) = match step.split_once('[') {
                Some((name, number)) => {
                    (name, number.trim_end_matches(']').parse::<usize>().unwrap_or(1))
                }
                None => (step, 1),
            };
            let mut namesakes = element.elements().filter(|child| child.qualified == name);
            let Some(child) = namesakes.nth(number.saturating_sub(1)) else { break };
            element = child;
            position = child.position;
        }
        Place { position, path: path.to_owned() }
    }
}

/// The names of the children of two elements, each once, in order.
fn names(one: &Xml, other: &Xml, wanted: impl Fn(&str) -> bool) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for child in one.children.iter().chain(&other.children) {
        if wanted(&child.name) && !names.contains(&child.name) {
            names.push(child.name.clone());
        }
    }
    names
}

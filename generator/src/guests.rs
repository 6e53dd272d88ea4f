//! Guests: a unit for each, those of templates too.

use std::path::PathBuf;

use domain::{DomainName, Fault, TemplateInstance};

use crate::drop_in::{self, DropIn};
use crate::facts::{self, Facts};
use crate::networks::Networks;
use crate::scan::{self, Defined, State};
use crate::{Generator, autostart, read, templates};

impl Generator<'_> {
    /// Writes all guests: definitions first, for autostart goes by what they are.
    pub(crate) fn guests(&mut self, networks: &Networks) {
        let environment = self.environment;
        let mut listing = scan::definitions(environment, &environment.search, &mut self.log);
        let autostart = autostart::entries(environment, &environment.search, &mut self.log);
        templates::resolve(&mut listing, environment, &autostart, &mut self.log);
        if templates::any(&listing) {
            self.output.all_guests(drop_in::UNDECLARED, &mut self.log);
        }
        for (name, state) in &mut listing {
            *state = self.guest(name, *state, networks);
        }
        self.start_at_boot(&listing, autostart);
    }

    /// Writes the unit of a guest. An empty definition turns out to be a mask.
    fn guest(&mut self, name: &DomainName, state: State, networks: &Networks) -> State {
        match state {
            State::DefinedIn(directory) if self.defined(name, None, directory, networks) => state,
            State::OfTemplateIn(directory) => {
                let template = TemplateInstance::of(name);
                if !self.defined(name, template, directory, networks) {
                    return self.masked(name);
                }
                self.prefix_drop_ins(name);
                state
            }
            State::TemplateIn(directory) => {
                self.template(name, directory);
                state
            }
            // No unit has a template's name.
            State::Masked if name.is_template() => state,
            State::DefinedIn(_) | State::Masked => self.masked(name),
            // Resolved before.
            State::DeclaredIn(_) => state,
        }
    }

    /// Writes the drop-ins of a guest with a definition, its own or a template's; `false` for an empty one.
    fn defined(
        &mut self,
        name: &DomainName,
        template: Option<TemplateInstance<'_>>,
        directory: usize,
        networks: &Networks,
    ) -> bool {
        let nbdkit = self.environment.nbdkit();
        let file_name = template.map_or_else(|| name.clone(), |template| template.template());
        let file = self.definition(&file_name, directory);
        let mut facts = match read::definition(self.environment, &file, &mut self.buffer) {
            Ok([]) => return false,
            Ok(bytes) => {
                let (facts, faults) = facts::read(bytes, name, template, nbdkit);
                let told = |fault: &Fault| template.is_some() && self.told.contains(fault);
                for fault in faults.iter().filter(|fault| !told(fault)) {
                    self.log.fault(&file, fault);
                }
                facts
            }
            Err(error) => {
                let what = format!("{error}; the guest does not start until the file can be read");
                self.log.error(&file, &what);
                Facts::default()
            }
        };
        networks.place(&mut facts);
        let surroundings = self.environment.surroundings();
        for DropIn { unit, text } in drop_in::all(name, &file, &facts, surroundings) {
            self.output.drop_in(&unit, &text, &mut self.log);
        }
        true
    }

    /// Links the drop-ins that all guests of its template have.
    fn prefix_drop_ins(&mut self, name: &DomainName) {
        let Some(instance) = TemplateInstance::of(name) else { return };
        let unit = name.unit();
        for (link, target) in self.prefix_drop_ins.of(self.environment, &instance, &unit) {
            self.output.prefix_drop_in(&unit, &link, &target, &mut self.log);
        }
    }

    /// Says what is wrong with a template although perhaps nobody has named a guest of it.
    fn template(&mut self, name: &DomainName, directory: usize) {
        let (file, nbdkit) = (self.definition(name, directory), self.environment.nbdkit());
        let Ok(sample) = DomainName::try_from(format!("{name}1").as_str()) else { return };
        // What cannot be read is told by each of its guests.
        let Ok(bytes) = read::definition(self.environment, &file, &mut self.buffer) else { return };
        if bytes.is_empty() {
            return;
        }
        self.told = facts::read(bytes, &sample, TemplateInstance::of(&sample), nbdkit).1;
        for fault in &self.told {
            self.log.fault(&file, fault);
        }
    }

    fn definition(&self, name: &DomainName, directory: usize) -> PathBuf {
        self.environment.search.directories()[directory].join(format!("{name}.xml"))
    }
}

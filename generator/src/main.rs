//! `glassbox-generator`: a libvirt domain XML file becomes a systemd unit, see systemd.generator(7).
//!
//! Systemd calls it early at boot and at each daemon-reload, before it loads units. For each definition
//! `NAME.xml` it writes a drop-in of `qemu@INSTANCE.service`, and for each autostart entry a link that starts
//! the guest at boot. The unit itself is the installed template; the program it runs, glassbox-qemu, finds the
//! definition by itself.
//!
//! It starts nothing, talks to no bus, and no definition makes it fail: a broken one is logged with
//! FILE:LINE:COL and gets its unit, which then fails to start with the same message. With `GLASSBOX_ROOT=DIR`
//! it reads everything below DIR, for tests and for images that are not running; it writes to the directories
//! in its arguments and nowhere else. With `--dry-run` it writes nothing and shows what it would write.

mod autostart;
mod directive;
mod drop_in;
mod environment;
mod facts;
#[cfg(test)]
mod hostile;
mod log;
mod output;
mod read;
mod resources;
mod sandbox;
mod scan;
mod templates;
mod value;

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use domain::{DomainName, Fault, TemplateInstance, UnitInstance};

use autostart::Autostart;
use environment::{Environment, Scope};
use facts::Facts;
use log::Log;
use output::Output;
use scan::{Listing, State};
use templates::PrefixDropIns;

const USAGE: &str = "\
usage: glassbox-generator NORMAL-DIR [EARLY-DIR LATE-DIR]
       glassbox-generator --dry-run [--user]";

/// Exit status of a wrong call, as systemd.exec(5) lists it (`EXIT_INVALIDARGUMENT`).
const WRONG_CALL: u8 = 2;

/// What the program is called for.
enum Call {
    /// To write units; given by the manager.
    Generate {
        /// Only the first directory is used: what is generated yields to /etc and wins over /usr.
        normal: PathBuf,
    },
    /// To show what it would write; `Some` is whose manager is meant.
    DryRun(Option<Scope>),
}

fn main() -> ExitCode {
    let arguments: Vec<OsString> = env::args_os().skip(1).collect();
    let call = call(&arguments);
    let environment = Environment::of_process(match call {
        Some(Call::DryRun(scope)) => scope,
        Some(Call::Generate { .. }) | None => None,
    });
    let (log, output) = match &call {
        None => {
            Log::new(environment.scope).plain(USAGE);
            return ExitCode::from(WRONG_CALL);
        }
        Some(Call::Generate { normal }) => {
            (Log::new(environment.scope), Output::new(normal, environment.scope))
        }
        Some(Call::DryRun(_)) => {
            let directory = environment.generated();
            (Log::for_people(environment.scope), Output::shown(&directory, environment.scope))
        }
    };
    let mut generator = Generator::new(&environment, output, log);
    generator.run();
    // A boot goes on whatever a definition holds; a person who asks is told by the status too.
    let wrong = matches!(call, Some(Call::DryRun(_))) && generator.log.has_errors();
    if generator.output.failed() || wrong { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// The call that the arguments stand for, if they stand for one.
fn call(arguments: &[OsString]) -> Option<Call> {
    let words: Vec<&str> = arguments.iter().map(|word| word.to_str().unwrap_or_default()).collect();
    match (words.as_slice(), arguments) {
        (["--dry-run"], _) => Some(Call::DryRun(None)),
        (["--dry-run", "--user"] | ["--user", "--dry-run"], _) => {
            Some(Call::DryRun(Some(Scope::User)))
        }
        (_, [normal] | [normal, _, _]) if !normal.as_encoded_bytes().starts_with(b"-") => {
            Some(Call::Generate { normal: normal.into() })
        }
        _ => None,
    }
}

/// One run of the program.
struct Generator<'e> {
    environment: &'e Environment,
    output: Output,
    log: Log,
    /// Holds one definition at a time.
    buffer: Vec<u8>,
    prefix_drop_ins: PrefixDropIns,
    /// What was said of the last template: its guests, which come right after it, need not say it again.
    told: Vec<Fault>,
}

impl<'e> Generator<'e> {
    fn new(environment: &'e Environment, output: Output, log: Log) -> Self {
        Self {
            environment,
            output,
            log,
            buffer: Vec::new(),
            prefix_drop_ins: PrefixDropIns::default(),
            told: Vec::new(),
        }
    }

    /// All that the program does: definitions first, for autostart goes by what they are.
    fn run(&mut self) {
        let mut listing = scan::definitions(self.environment, &mut self.log);
        let autostart = self
            .environment
            .search
            .autostart()
            .map(|directory| autostart::entries(self.environment, directory, &mut self.log));
        let autostart = autostart.unwrap_or_default();
        templates::resolve(&mut listing, self.environment, &autostart, &mut self.log);
        if templates::any(&listing) {
            self.output.all_guests(drop_in::UNDECLARED, &mut self.log);
        }
        for (name, state) in &mut listing {
            *state = self.unit(name, *state);
        }
        self.start_at_boot(&listing, autostart);
    }

    /// Writes the unit of a guest. An empty definition turns out to be a mask.
    fn unit(&mut self, name: &DomainName, state: State) -> State {
        let instance = UnitInstance::from(name);
        match state {
            State::DefinedIn(directory) if self.defined(name, None, directory) => state,
            State::OfTemplateIn(directory) => {
                let template = TemplateInstance::of(name);
                if !self.defined(name, template, directory) {
                    return self.masked(&instance);
                }
                for (link, target) in template.into_iter().flat_map(|template| {
                    self.prefix_drop_ins.of(self.environment, &template, &instance)
                }) {
                    self.output.prefix_drop_in(&instance, &link, &target, &mut self.log);
                }
                state
            }
            State::TemplateIn(directory) => {
                self.template(name, directory);
                state
            }
            // No unit has a template's name.
            State::Masked if name.is_template() => state,
            State::DefinedIn(_) | State::Masked => self.masked(&instance),
            // Resolved before.
            State::DeclaredIn(_) => state,
        }
    }

    /// Writes the drop-in of a guest with a definition, its own or a template's; `false` for an empty one.
    fn defined(
        &mut self,
        name: &DomainName,
        template: Option<TemplateInstance<'_>>,
        directory: usize,
    ) -> bool {
        let file_name = template.map_or_else(|| name.clone(), |template| template.template());
        let file = self.file(&file_name, directory);
        let facts = match read::definition(self.environment, &file, &mut self.buffer) {
            Ok([]) => return false,
            Ok(bytes) => {
                let (facts, faults) = facts::read(bytes, name, template);
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
        let surroundings = self.environment.surroundings();
        let text = drop_in::text(name, &file, &facts, surroundings);
        self.output.drop_in(&UnitInstance::from(name), &text, &mut self.log);
        true
    }
    /// Says what is wrong with a template although perhaps nobody has named a guest of it.
    fn template(&mut self, name: &DomainName, directory: usize) {
        let file = self.file(name, directory);
        let Ok(sample) = DomainName::try_from(format!("{name}1").as_str()) else { return };
        // What cannot be read is told by each of its guests.
        let Ok(bytes) = read::definition(self.environment, &file, &mut self.buffer) else { return };
        if bytes.is_empty() {
            return;
        }
        self.told = facts::read(bytes, &sample, TemplateInstance::of(&sample)).1;
        for fault in &self.told {
            self.log.fault(&file, fault);
        }
    }

    fn file(&self, name: &DomainName, directory: usize) -> PathBuf {
        self.environment.search.directories()[directory].join(format!("{name}.xml"))
    }

    fn masked(&mut self, instance: &UnitInstance) -> State {
        self.output.mask(instance, &mut self.log);
        State::Masked
    }

    fn start_at_boot(&mut self, listing: &Listing, autostart: Vec<Autostart>) {
        for Autostart { name, path, dangling } in autostart {
            let problem = match listing.get(&name) {
                Some(State::DefinedIn(_) | State::OfTemplateIn(_)) => {
                    self.output.start_at_boot(&UnitInstance::from(&name), &mut self.log);
                    dangling.then_some(
                        "the link points to nothing, but the guest of this name starts at boot; mend the link",
                    )
                }
                Some(State::Masked) => Some(
                    "the guest is masked and does not start at boot; unmask it or remove this entry",
                ),
                Some(State::TemplateIn(_)) => Some(
                    "a template is no guest; name one of its guests, with text between '@' and '.xml'",
                ),
                Some(State::DeclaredIn(_)) | None => {
                    Some("no guest of this name is defined; define it or remove this entry")
                }
            };
            if let Some(problem) = problem {
                self.log.warning(&path, problem);
            }
        }
    }
}

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
mod value;

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use domain::{DomainName, UnitInstance};

use autostart::Autostart;
use environment::{Environment, Scope};
use facts::Facts;
use log::Log;
use output::Output;
use scan::{Listing, State};

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
    let mut generator = Generator { environment: &environment, output, log, buffer: Vec::new() };
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
}

impl Generator<'_> {
    /// All that the program does: definitions first, for autostart goes by what they are.
    fn run(&mut self) {
        let mut listing = scan::definitions(self.environment, &mut self.log);
        for (name, state) in &mut listing {
            let instance = UnitInstance::from(name);
            *state = match *state {
                State::DefinedIn(directory) => self.defined(name, &instance, directory),
                State::Masked => self.masked(&instance),
            };
        }
        self.start_at_boot(&listing);
    }

    /// Writes the unit of a guest with a definition. An empty one turns out to be a mask.
    fn defined(&mut self, name: &DomainName, instance: &UnitInstance, directory: usize) -> State {
        let file = self.environment.search.directories()[directory].join(format!("{name}.xml"));
        let facts = match read::definition(self.environment, &file, &mut self.buffer) {
            Ok([]) => return self.masked(instance),
            Ok(bytes) => {
                let (facts, faults) = facts::read(bytes, name);
                for fault in faults {
                    self.log.fault(&file, &fault);
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
        self.output.drop_in(instance, &text, &mut self.log);
        State::DefinedIn(directory)
    }

    fn masked(&mut self, instance: &UnitInstance) -> State {
        self.output.mask(instance, &mut self.log);
        State::Masked
    }

    fn start_at_boot(&mut self, listing: &Listing) {
        let Some(directory) = self.environment.search.autostart() else { return };
        for Autostart { name, path, dangling } in
            autostart::entries(self.environment, directory, &mut self.log)
        {
            let problem = match listing.get(&name) {
                Some(State::DefinedIn(_)) => {
                    self.output.start_at_boot(&UnitInstance::from(&name), &mut self.log);
                    dangling.then_some(
                        "the link points to nothing, but the guest of this name starts at boot; mend the link",
                    )
                }
                Some(State::Masked) => Some(
                    "the guest is masked and does not start at boot; unmask it or remove this entry",
                ),
                None => Some("no guest of this name is defined; define it or remove this entry"),
            };
            if let Some(problem) = problem {
                self.log.warning(&path, problem);
            }
        }
    }
}

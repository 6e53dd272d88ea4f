//! `glassbox-generator`: a libvirt domain XML file becomes a systemd unit, see systemd.generator(7).
//!
//! Systemd calls it early at boot and at each daemon-reload, before it loads units. For each definition
//! `NAME.xml` it writes a drop-in of `qemu@INSTANCE.service`, and for each autostart entry a link that starts
//! the guest at boot. The unit itself is the installed template; the program it runs, glassbox-qemu, finds the
//! definition by itself. For each virtual network it writes a drop-in of `glassbox-network@INSTANCE.service` and
//! files that this unit gives to systemd-networkd.
//!
//! It starts nothing, talks to no bus, and no definition makes it fail: a broken one is logged with
//! FILE:LINE:COL and gets its unit, which then fails to start with the same message. With `GLASSBOX_ROOT=DIR`
//! it reads everything below DIR, for tests and for images that are not running; it writes to the directories
//! in its arguments and nowhere else. With `--dry-run` it writes nothing and shows what it would write.

mod autostart;
mod companions;
mod directive;
mod drop_in;
mod environment;
mod facts;
mod guests;
#[cfg(test)]
mod hostile;
mod log;
mod networkd;
mod networks;
mod ordering;
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

use domain::Fault;

use autostart::Autostart;
use environment::{Environment, Scope};
use log::Log;
use output::Output;
use scan::{Defined, Listing, State};
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

    /// All that the program does: networks before the guests that name them.
    fn run(&mut self) {
        let networks = self.networks();
        self.guests(&networks);
    }

    /// Makes the unit one that can't be started.
    fn masked(&mut self, name: &impl Defined) -> State {
        self.output.mask(&name.unit(), &mut self.log);
        State::Masked
    }

    /// Has what autostart entries name started at boot, if it can be.
    fn start_at_boot<N: Defined>(&mut self, listing: &Listing<N>, autostart: Vec<Autostart<N>>) {
        let what = N::WHAT;
        for Autostart { name, path, dangling } in autostart {
            let problem = match listing.get(&name) {
                Some(State::DefinedIn(_) | State::OfTemplateIn(_)) => {
                    self.output.start_at_boot(&name.unit(), &mut self.log);
                    dangling.then(|| {
                        format!("the link points to nothing, but the {what} of this name starts at boot; mend the link")
                    })
                }
                Some(State::Masked) => Some(format!(
                    "the {what} is masked and does not start at boot; unmask it or remove this entry"
                )),
                Some(State::TemplateIn(_)) => Some(format!(
                    "a template is no {what}; name one of its {what}s, with text between '@' and '.xml'"
                )),
                Some(State::DeclaredIn(_)) | None => Some(format!(
                    "no {what} of this name is defined; define it or remove this entry"
                )),
            };
            if let Some(problem) = problem {
                self.log.warning(&path, &problem);
            }
        }
    }
}

//! Prints QEMU's arguments for a domain, one a line, or with `--xml` the domain after completion.
//!
//! The exit status is 0, or 2 with the reason on standard error when the domain is refused.

use std::io::{self, Write};
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    let xml = arguments.iter().position(|argument| argument == "--xml");
    if let Some(position) = xml {
        arguments.remove(position);
    }
    let [path] = arguments.as_slice() else {
        return refuse("give the path of one domain XML file, after --xml perhaps");
    };
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => return refuse(&format!("{path}: {error}")),
    };
    let outcome = corpus::translate(&text);
    for fault in &outcome.faults {
        eprintln!("{}", fault.in_file(path));
    }
    let output = match (xml, outcome.domain, outcome.plan) {
        (Some(_), Some(domain), Some(_)) => domain.write(),
        (None, _, Some(plan)) => {
            let arguments = plan.arguments.iter().map(|argument| format!("{argument}\n"));
            format!("{}\n{}", plan.emulator, arguments.collect::<String>())
        }
        (_, _, None) | (Some(_), None, _) => return ExitCode::from(2),
    };
    match io::stdout().write_all(output.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => refuse(&format!("standard output: {error}")),
    }
}

fn refuse(why: &str) -> ExitCode {
    eprintln!("corpus-plan: {why}");
    ExitCode::from(2)
}

//! `make test`: runs every check of the repository and ends in one line with the sum of all tests.
//!
//! A step that fails stops none of the others, so that one run tells all there is to repair.
// The output of the runners, and the sum, are this program's product.
#![allow(clippy::print_stdout)]

use std::io::{BufRead, BufReader};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result};
use tests::install;
use tests::tally::{Tally, is_skip};

/// A step: what it does, and the command. Steps that run no test count as one failed test when they fail.
type Step = (&'static str, &'static [&'static str]);

const CHECKS: &[Step] = &[
    ("format", &["cargo", "fmt", "--all", "--check"]),
    ("lints", &["cargo", "clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]),
    ("programs", &["make", "--no-print-directory", "build"]),
];

const NEXTEST: Step = (
    "tests",
    &["cargo", "nextest", "run", "--workspace", "--no-fail-fast", "--success-output", "immediate"],
);

const CARGO_TEST: Step = (
    "tests",
    &[
        "cargo",
        "test",
        "--workspace",
        "--lib",
        "--bins",
        "--tests",
        "--no-fail-fast",
        "--",
        "--show-output",
    ],
);

const DOC_TESTS: Step = ("doc tests", &["cargo", "test", "--workspace", "--doc"]);

fn main() -> Result<ExitCode> {
    let mut tally = Tally::default();
    let mut broken = Vec::new();
    let runner = if has_nextest() { NEXTEST } else { CARGO_TEST };
    for step in CHECKS.iter().chain([&runner, &DOC_TESTS]) {
        println!("== {}: {}", step.0, step.1.join(" "));
        let before = tally.failed;
        let success = run(step.1, &mut tally)?;
        if !success {
            broken.push(step.0);
            // A step that failed without naming a test, for instance by an error of the compiler.
            tally.failed += u64::from(tally.failed == before);
        }
    }
    if !broken.is_empty() {
        println!("failed: {}", broken.join(", "));
    }
    println!("{tally}");
    Ok(if broken.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn has_nextest() -> bool {
    let mut asked = Command::new("cargo");
    asked.args(["nextest", "--version"]).stdout(Stdio::null()).stderr(Stdio::null());
    asked.status().is_ok_and(|status| status.success())
}

/// Runs a step in the repository, shows its output, and adds up what it tells of tests.
fn run(words: &[&str], tally: &mut Tally) -> Result<bool> {
    let mut child = Command::new("/bin/sh")
        .args(["-c", "exec \"$@\" 2>&1", "sh"])
        .args(words)
        .current_dir(install::repository())
        .env("CARGO_TERM_COLOR", "never")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("/bin/sh cannot be started")?;
    let pipe = child.stdout.take().context("the pipe was asked for above")?;
    let mut screen = Screen::default();
    for line in BufReader::new(pipe).split(b'\n') {
        let line = String::from_utf8_lossy(&line?).into_owned();
        if !screen.in_runner_of_one(&line) {
            *tally += Tally::of_line(&line);
        }
        if screen.shows(&line) {
            println!("{line}");
        }
    }
    Ok(child.wait()?.success())
}

/// Which lines of nextest reach the terminal: of a test that passed only its name and its skips.
#[derive(Debug, Default)]
struct Screen {
    passed: bool,
}

impl Screen {
    fn shows(&mut self, line: &str) -> bool {
        let word = line.trim_start().split(' ').next().unwrap_or_default();
        let is_status = line.contains(" [") && word.len() > 3 && word.to_uppercase() == word;
        if is_status || line.starts_with("───") {
            self.passed = word == "PASS";
            return true;
        }
        !self.passed || is_skip(line)
    }

    /// nextest runs each test in a process of its own and shows that process's summary, indented, beside its own.
    fn in_runner_of_one(&self, line: &str) -> bool {
        line.starts_with(' ') && line.trim_start().starts_with("test result: ")
    }
}

//! The test host for people: prepare the cache, boot a container, run commands in it, stop it.
// What a person asked for goes to standard output.
#![allow(clippy::print_stdout)]

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use tests::{Host, Root, Setup, guest};

const USAGE: &str = "\
usage: testhost prepare [bookworm|trixie|forky|guest|all]   make roots and guest images that the cache lacks
       testhost boot ROOT [NAME] [--bare]   boot a container with the product and the guest (--bare: without)
       testhost run NAME COMMAND...         run a command in it, on this terminal
       testhost stop NAME                   shut it down and remove it";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match dispatch(&words) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("testhost: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(words: &[&str]) -> Result<ExitCode> {
    match words {
        ["prepare"] => prepare("all")?,
        ["prepare", what] => prepare(what)?,
        ["boot", root, rest @ ..] => boot(root.parse()?, rest)?,
        ["run", name, command @ ..] if !command.is_empty() => {
            let status = Host::attach(name)?.command(command).interactive()?;
            return Ok(ExitCode::from(u8::try_from(status).unwrap_or(u8::MAX)));
        }
        ["stop", name] => Host::remove(name)?,
        _ => bail!("the arguments are not understood\n{USAGE}"),
    }
    Ok(ExitCode::SUCCESS)
}

fn prepare(what: &str) -> Result<()> {
    match what {
        "all" => {
            for root in Root::ALL {
                println!("root {root}: {}", root.prepare()?.display());
            }
            prepare("guest")
        }
        "guest" => {
            for root in [Root::Bookworm, Root::Trixie] {
                println!("guest of {root}: {}", guest::prepare(root)?.display());
            }
            Ok(())
        }
        root => {
            let root: Root = root.parse().context("give bookworm, trixie, forky, guest or all")?;
            println!("root {root}: {}", root.prepare()?.display());
            Ok(())
        }
    }
}

fn boot(root: Root, rest: &[&str]) -> Result<()> {
    let bare = rest.contains(&"--bare");
    let mut setup = Setup::new(root).kept();
    if let Some(name) = rest.iter().find(|word| **word != "--bare") {
        setup = setup.name(name);
    }
    if !bare {
        setup = setup.product()?.guest()?;
    }
    let host = setup.boot()?;
    println!("{} is up; enter it with: testhost run {} bash", host.name(), host.name());
    Ok(())
}

//! `make demo`: a libvirt domain becomes a service, step by step, on a real systemd.
//!
//! Each step is announced, its command shown, and its output left as it is. The first that fails ends the demo.
// The demo is what it prints.
#![allow(clippy::print_stdout)]

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use tests::demo::{DEFINITION, Place, choose};
use tests::guest;

const XML: &str = include_str!("../../demo/demo.xml");
const LOG: &str = "/var/log/glassbox/qemu/demo-serial0.log";

/// QEMU's command line alone would fill the screen.
const NARROW: &str = "| cut --characters=-120";

fn main() -> ExitCode {
    match demo() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nmake demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn demo() -> Result<()> {
    let place = choose()?;
    let mut steps = Steps { place: &place, number: 0 };
    define(&mut steps)?;
    look(&mut steps)?;
    stop(&mut steps)?;
    println!("\n== That was all. To go on:\n{}", place.next_steps());
    place.leave();
    Ok(())
}

fn define(steps: &mut Steps<'_>) -> Result<()> {
    steps.place.write(DEFINITION, XML)?;
    steps.run(
        "A guest is a libvirt domain, dropped into a directory",
        &format!("cat {DEFINITION}"),
    )?;
    steps.run("systemd reads it: the generator turns it into a unit", "systemctl daemon-reload")?;
    steps.run("The guest starts like any service", "systemctl start qemu@demo.service")
}

fn look(steps: &mut Steps<'_>) -> Result<()> {
    // After sed has found its line the guest's next tick, a second later, tells tail that nobody reads any more.
    let boot = format!(
        "timeout 90 tail --lines=+1 --follow=name --retry {LOG} 2>/dev/null \
         | sed --unbuffered -e 's/\\r$//' -e '/{}/q'",
        guest::READY
    );
    steps.run("It boots: this is what its serial console says", &boot)?;
    steps.expect(&format!("grep --text {} {LOG}", guest::READY))?;
    steps.run(
        "To systemd it is a unit",
        &format!("systemctl status --no-pager --lines=5 qemu@demo.service {NARROW}"),
    )?;
    steps.expect("systemctl is-active --quiet qemu@demo.service")?;
    steps.run("To machined it is a machine", "machinectl list --no-pager")?;
    steps.expect("machinectl list --no-legend | grep --word-regexp demo")?;
    steps.run(
        "machined knows its unit and its processes",
        &format!("machinectl status --no-pager --lines=0 demo {NARROW}"),
    )?;
    steps.expect("machinectl show --property=Unit demo | grep --fixed-strings qemu@demo.service")
}

fn stop(steps: &mut Steps<'_>) -> Result<()> {
    steps.run(
        "Stopping the unit presses the guest's power button",
        "systemctl stop qemu@demo.service",
    )?;
    let heard = format!("grep --text --max-count=1 {} {LOG}", guest::POWERDOWN);
    steps.run("The guest heard it and powered off", &heard)?;
    steps.run("The machine is gone", "machinectl list --no-pager")?;
    steps.expect("! machinectl list --no-legend | grep --word-regexp demo")?;
    steps.expect("test \"$(systemctl show --value --property=Result qemu@demo.service)\" = success")
}

/// Runs and counts the steps.
struct Steps<'a> {
    place: &'a Place,
    number: u32,
}

impl Steps<'_> {
    /// Announces a step, shows its command and runs it on this terminal.
    fn run(&mut self, title: &str, script: &str) -> Result<()> {
        self.number += 1;
        println!("\n== {}. {title}\n# {script}", self.number);
        let status = self.place.show(script)?;
        if status == 0 {
            return Ok(());
        }
        self.explain();
        bail!("step {} failed: exit status {status} of: {script}", self.number);
    }

    /// Checks, without a word, that a step had the effect that its output shows.
    fn expect(&self, script: &str) -> Result<()> {
        let checked = self.place.ask(script)?;
        if checked.status == 0 {
            return Ok(());
        }
        self.explain();
        bail!("step {} did not have its effect, for this fails: {script}", self.number);
    }

    /// Shows what the unit and the daemon said, for whoever has to repair it.
    fn explain(&self) {
        println!("\n-- The journal of the guest and the daemon:");
        let journal =
            "journalctl --no-pager --lines=60 --unit=qemu@demo.service --unit=glassboxd.service";
        let shown = self.place.show(journal).context("the journal cannot be shown");
        if let Err(error) = shown {
            eprintln!("{error:#}");
        }
    }
}

//! How long reading, completing and planning a domain takes, and how it grows with the number of devices.
//! `cargo bench --package corpus [-- FILE.xml]`: the file instead of a guest in virt-install's shape.
// The table is this program's product.
#![allow(clippy::print_stdout)]

use std::fmt::Write;
use std::time::{Duration, Instant};

use domain::{Domain, Faults};
use qemu::{HostFacts, Launch, LaunchPlan};

/// A guest in virt-install's shape.
const GUEST: &str = include_str!("../../demo/demo.xml");

fn main() {
    let file = std::env::args().skip(1).find(|word| word.ends_with(".xml"));
    let text = match file.map(std::fs::read_to_string) {
        None => GUEST.to_owned(),
        Some(Ok(text)) => text,
        Some(Err(error)) => {
            eprintln!("the file cannot be read: {error}");
            return;
        }
    };
    println!("reading, completing and planning one domain, median");
    println!("  {:>5} bytes       {:9.1} us", text.len(), microseconds(&text, 500));
    let one = microseconds(&with_disks(1), 200);
    for disks in [1, 10, 100, 500] {
        let rounds = if disks < 100 { 200 } else { 20 };
        let each = microseconds(&with_disks(disks), rounds);
        let added = (each - one) / f64::from(disks.max(2) - 1);
        println!("  {disks:>5} disks       {each:9.1} us   {added:6.2} us a further disk");
    }
}

/// Median time of one translation.
fn microseconds(text: &str, rounds: usize) -> f64 {
    let mut times: Vec<Duration> = (0..rounds)
        .map(|_| {
            let start = Instant::now();
            let planned = plan(text);
            let taken = start.elapsed();
            assert!(planned.is_some(), "the domain is refused");
            taken
        })
        .collect();
    times.sort();
    times[times.len() / 2].as_secs_f64() * 1e6
}

/// What the shim does with a file, on an ordinary host.
fn plan(text: &str) -> Option<LaunchPlan> {
    let faults = Faults::new();
    let mut domain = Domain::parse(text, &faults)?;
    let facts = HostFacts::local(domain.name.as_str());
    qemu::complete(&mut domain, &facts, &faults);
    qemu::plan(&domain, &facts, &Launch::default(), &faults)
}

/// A guest with this many virtio disks.
fn with_disks(count: u32) -> String {
    let mut disks = String::new();
    for number in 0..count {
        let target = target(number);
        write!(
            disks,
            "<disk type='file' device='disk'><driver name='qemu' type='qcow2'/>\
             <source file='/images/{number}.qcow2'/><target dev='{target}' bus='virtio'/></disk>"
        )
        .expect("a String takes all that is written to it");
    }
    format!(
        "<domain type='qemu'><name>many</name><uuid>c7a5fdbd-edaf-9455-926a-d65c16db1809</uuid>\
         <memory>262144</memory><os><type arch='x86_64' machine='pc'>hvm</type></os>\
         <devices>{disks}</devices></domain>"
    )
}

/// The disk's name in the guest: vda to vdz, vdaa and on.
fn target(number: u32) -> String {
    let mut letters = Vec::new();
    let mut rest = number + 1;
    while rest > 0 {
        rest -= 1;
        letters.push(char::from(b'a' + u8::try_from(rest % 26).unwrap_or_default()));
        rest /= 26;
    }
    format!("vd{}", letters.iter().rev().collect::<String>())
}

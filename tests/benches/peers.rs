//! The shim beside its peers: raw QEMU, libvirt's own `virt-qemu-run`, and `virsh create` with libvirtd. In one run, in
//! one container, in turns, with the same guest: start to running, stop, and memory beside QEMU.
//! `cargo bench --package tests --bench peers [-- ROUNDS]`.
//!
//! `peers.pl` drives them inside the container, for entering it costs more than what is measured. Each says in its own
//! way that the guest's CPUs run: QEMU by its answer to `cont`, the shim and `virt-qemu-run` by their word on standard
//! error, virsh by its end. A stop asks no guest: `quit`, SIGQUIT, SIGTERM, `virsh destroy`.
// The table is this program's product.
#![allow(clippy::print_stdout)]

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};
use tests::{Root, Setup};

/// The goal: the start by the shim is at most this many times raw QEMU's.
const GOAL: f64 = 1.15;

const DRIVER: &str = include_str!("peers.pl");

fn main() -> Result<()> {
    let rounds = std::env::args().skip(1).find_map(|word| word.parse().ok()).unwrap_or(15u32);
    let host = Setup::new(Root::Trixie).product()?.libvirt()?.boot()?;
    let guest = include_str!("../../shim/benches/guest.xml").replace("@image@", "/srv/bench.img");
    host.write_file("/srv/bench.xml", guest)?;
    host.write_file("/srv/bench.img", boot_sector())?;
    host.write("/srv/peers.pl", DRIVER, "0755", "root")?;
    host.sh("systemctl restart libvirtd virtlogd; systemctl start glassboxd")?;
    let words = ["/srv/peers.pl", "/srv", &rounds.to_string()];
    let measured = host.command(words).limit(Duration::from_secs(1200)).output()?.success()?;
    print(&measured.stdout, rounds)
}

/// Columns of a peer: start, stop, memory.
type Columns = [Vec<f64>; 3];

fn print(measured: &str, rounds: u32) -> Result<()> {
    let mut peers: Vec<&str> = Vec::new();
    let mut figures: BTreeMap<&str, Columns> = BTreeMap::new();
    for line in measured.lines() {
        let (peer, rest) = line.split_once('\t').context("a line begins with its peer")?;
        if !peers.contains(&peer) {
            peers.push(peer);
        }
        let columns = figures.entry(peer).or_default();
        for (column, figure) in columns.iter_mut().zip(rest.split('\t')) {
            column.push(figure.parse()?);
        }
    }
    let median =
        |peer: &str, column: usize| figures.get(peer).map_or(0.0, |it| median(&it[column]));
    println!(
        "medians of {rounds} rounds taken in turns; what is cold has nothing that it keeps between runs"
    );
    println!(
        "{:21}  {:>10}  {:>8}  {:>10}  {:>10}  {:>12}",
        "", "start", "to raw", "fastest", "stop", "beside QEMU"
    );
    for peer in peers {
        let [start, stop, memory] = [0, 1, 2].map(|column| median(peer, column));
        let ratio = start / median("raw QEMU", 0);
        // On a machine with other work the fastest round is the one that was disturbed least.
        let fastest =
            figures.get(peer).map_or(0.0, |it| it[0].iter().copied().fold(f64::INFINITY, f64::min));
        println!(
            "{peer:21}  {start:7.1} ms  {ratio:8.3}  {fastest:7.1} ms  {stop:7.1} ms  {memory:8.0} KiB"
        );
    }
    let worst = ["shim, cold", "shim", "shim, standalone"]
        .map(|peer| median(peer, 0) / median("raw QEMU", 0))
        .into_iter()
        .fold(0.0, f64::max);
    let verdict = if worst <= GOAL { "met" } else { "missed" };
    println!("the shim at most {GOAL} times raw QEMU: {verdict}, {worst:.3}");
    println!("libvirtd and virtlogd are beside all guests together, the others beside each");
    Ok(())
}

/// A disk whose first sector halts the CPU for ever.
fn boot_sector() -> Vec<u8> {
    let mut disk = vec![0; 1 << 20];
    disk[..3].copy_from_slice(&[0xf4, 0xeb, 0xfd]); // hlt; jmp -3
    disk[510..512].copy_from_slice(&[0x55, 0xaa]);
    disk
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

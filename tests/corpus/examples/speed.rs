//! Prints how long reading, completing and planning one domain takes: `cargo run --release -p corpus --example
//! speed FILE.xml`. The aim is less than 300 microseconds for a file of 5 KiB.

use std::time::Instant;

const ROUNDS: u32 = 2_000;

fn main() {
    let Some(path) = std::env::args().nth(1) else {
        eprintln!("speed: give the path of one domain XML file");
        return;
    };
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) => {
            eprintln!("speed: {path}: {error}");
            return;
        }
    };
    let start = Instant::now();
    let planned = (0..ROUNDS).filter(|_| corpus::translate(&text).plan.is_some()).count();
    let each = start.elapsed() / ROUNDS;
    eprintln!("{} bytes, {planned} of {ROUNDS} planned, {each:?} each", text.len());
}

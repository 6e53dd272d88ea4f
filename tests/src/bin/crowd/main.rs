//! Many guests, and clients, of the management daemon in one process, for tests of it under load. It runs inside a
//! container of the test host.
//!
//! ```text
//! crowd guests FOLDER COUNT RATE [SOCKET]   stand-in guests, which tell of so many events a second
//! crowd real FOLDER RATE NAME...            has guests with a QEMU tell of so many events a second
//! crowd clients FOLDER COUNT                clients that call and follow events, and say what they missed
//! crowd figures [NAME]                      how long calls take, those about the guest NAME left out
//! crowd follow                              a client that follows events, to be stopped
//! ```
//!
//! The guests of `guests` are stand-ins: no QEMU is behind them, but what answers QMP as one does. They are ready when there is
//! `FOLDER/ready`, tell of events until there is `FOLDER/quiet`, write what they told of to `FOLDER/told`, and end when
//! there is `FOLDER/end`; so do real ones, which need no end. The clients end when there is `FOLDER/told`.
// What it prints is for the test that runs it.
#![allow(clippy::print_stdout)]

mod bus;
mod clients;
mod figures;
mod guests;
mod real;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        match words[..] {
            ["guests", folder, count, rate, ref socket @ ..] => {
                let socket = socket.first().copied().unwrap_or(guests::SOCKET);
                guests::run(&Stage(folder.into()), count.parse()?, rate.parse()?, socket).await
            }
            ["real", folder, rate, ref names @ ..] => {
                real::run(&Stage(folder.into()), rate.parse()?, names).await
            }
            ["clients", folder, count] => clients::run(&Stage(folder.into()), count.parse()?).await,
            ["figures"] => figures::print(None).await,
            ["figures", name] => figures::print(Some(name)).await,
            ["follow"] => clients::follow().await,
            _ => bail!("crowd guests|real|clients|figures|follow; see its source"),
        }
    })
}

/// The folder by which the test and its crowds tell each other how far they are.
struct Stage(PathBuf);

impl Stage {
    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn is(&self, name: &str) -> bool {
        self.path(name).exists()
    }

    /// Writes a file that is there whole or not at all.
    fn tell(&self, name: &str, content: &str) -> Result<()> {
        let (new, path) = (self.path("new"), self.path(name));
        std::fs::write(&new, content).with_context(|| new.display().to_string())?;
        std::fs::rename(&new, &path).with_context(|| path.display().to_string())
    }

    fn read(&self, name: &str) -> Result<String> {
        let path: &Path = &self.path(name);
        std::fs::read_to_string(path).with_context(|| path.display().to_string())
    }

    /// A line of `told`: a guest, and the numbers of its events.
    fn told(name: &str, numbers: &[u64]) -> String {
        let numbers = numbers.iter().map(|number| format!(" {number}"));
        format!("{name}{}\n", numbers.collect::<String>())
    }

    async fn wait(&self, name: &str) {
        while !self.is(name) {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

//! One call of the program.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

/// A call that isn't made yet.
pub(crate) struct Call {
    command: Command,
    output: TempDir,
}

/// What came of a call.
pub(crate) struct Outcome {
    pub(crate) status: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    output: TempDir,
}

impl Call {
    /// A call that reads below `root` with nothing else in its environment.
    pub(crate) fn new(root: &Path) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_glassbox-generator"));
        command.env_clear().env("GLASSBOX_ROOT", root).stdin(Stdio::null());
        Self { command, output: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn env(mut self, key: &str, value: &str) -> Self {
        self.command.env(key, value);
        self
    }

    /// Calls it with the three directories `normal`, `early` and `late`.
    pub(crate) fn run(mut self) -> Outcome {
        for name in ["normal", "early", "late"] {
            std::fs::create_dir(self.output.path().join(name)).unwrap();
            self.command.arg(self.output.path().join(name));
        }
        self.run_with(&[])
    }

    /// Calls it with these arguments, those that begin with `@` being names of output directories.
    pub(crate) fn run_with(mut self, arguments: &[&str]) -> Outcome {
        for argument in arguments {
            match argument.strip_prefix('@') {
                Some(name) => self.command.arg(self.output.path().join(name)),
                None => self.command.arg(argument),
            };
        }
        let output = self.command.output().unwrap();
        Outcome {
            status: output.status.code().expect("the program ended by itself"),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
            output: self.output,
        }
    }
}

impl Outcome {
    /// Where the three directories are.
    pub(crate) fn directory(&self) -> PathBuf {
        self.output.path().to_owned()
    }
}

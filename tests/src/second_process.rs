//! A second process for tests of what only another process can do, such as hold a lock: the same test program again, with
//! one of its own tests, which is ignored otherwise.

use std::ffi::OsStr;
use std::io::{self, BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// The word by which the other process says that it has done its part.
const DONE: &str = "THE SECOND PROCESS HAS IT";

/// Another process, which is killed when this is dropped.
#[derive(Debug)]
pub struct SecondProcess(pub Child);

impl SecondProcess {
    /// The process of the test with this path in the calling program, such as `locks::tests::hold_the_locks`, with these
    /// variables in its environment; the test has called [`done`].
    ///
    /// # Panics
    ///
    /// When there is no such test, or it ends before it calls [`done`]: the test that wants it cannot go on.
    pub fn of<K: AsRef<OsStr>, V: AsRef<OsStr>>(
        test: &str,
        variables: impl IntoIterator<Item = (K, V)>,
    ) -> Self {
        let program = std::env::current_exe().expect("a running program has a path");
        let mut child = Command::new(program)
            .args(["--ignored", "--exact", test, "--nocapture"])
            .envs(variables)
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program can be started again");
        let out = child.stdout.take().expect("it is a pipe");
        let mut lines = BufReader::new(out).lines().map_while(Result::ok);
        let said = lines.any(|line| line.contains(DONE));
        let second = Self(child);
        assert!(said, "{test} ended before it had done its part");
        second
    }
}

impl Drop for SecondProcess {
    fn drop(&mut self) {
        // Both fail only when it has ended by itself, and then it is gone as it should be.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Says in the second process that its part is done, and keeps it for as long as a test may take.
pub fn done() {
    // The first process has ended if nobody reads this.
    let _ = writeln!(io::stdout(), "{DONE}");
    std::thread::sleep(Duration::from_secs(60));
}

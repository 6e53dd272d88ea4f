//! How commands get into a VM: ports of a virtio-serial device, each served by `tests/vm/agent` inside.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// How many commands can run at once.
pub(crate) const COUNT: u32 = 4;

/// What a command may take longer than its own limit of time, on a loaded machine.
const GRACE: Duration = Duration::from_secs(60);

/// The file name of a port's socket in the VM's directory.
pub(crate) fn socket(number: u32) -> String {
    format!("port{number}")
}

/// What a script left behind in the VM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: i32,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
}

/// The ports of a VM that runs.
#[derive(Debug)]
pub(crate) struct Ports {
    free: Mutex<Vec<UnixStream>>,
    returned: Condvar,
}

impl Ports {
    /// Connects to the sockets that QEMU has made in `directory`.
    pub(crate) fn connect(directory: &Path) -> Result<Self> {
        let connect = |number| {
            let path = directory.join(socket(number));
            UnixStream::connect(&path).with_context(|| format!("{}", path.display()))
        };
        let free = Mutex::new((1..=COUNT).map(connect).collect::<Result<_>>()?);
        Ok(Self { free, returned: Condvar::new() })
    }

    /// Runs a shell script in the VM, on the first port that is free.
    ///
    /// # Errors
    ///
    /// When the VM doesn't answer within the limit and some more; the port is then lost.
    pub(crate) fn run(&self, script: &[u8], input: &[u8], limit: Duration) -> Result<Answer> {
        let mut port = self.take();
        port.set_read_timeout(Some(limit + GRACE))?;
        let answer = ask(&mut port, script, input).context("the VM's agent does not answer")?;
        self.free.lock().unwrap_or_else(PoisonError::into_inner).push(port);
        self.returned.notify_one();
        Ok(answer)
    }

    fn take(&self) -> UnixStream {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(port) = free.pop() {
                return port;
            }
            free = self.returned.wait(free).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

fn ask(port: &mut UnixStream, script: &[u8], input: &[u8]) -> Result<Answer> {
    port.write_all(format!("{} {}\n", script.len(), input.len()).as_bytes())?;
    port.write_all(script)?;
    port.write_all(input)?;
    let mut reader = BufReader::new(port);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let numbers: Vec<usize> = line.split_whitespace().filter_map(|n| n.parse().ok()).collect();
    let [status, output, error] = numbers[..] else { bail!("it says {line:?}") };
    let mut take = |size| {
        let mut bytes = vec![0; size];
        reader.read_exact(&mut bytes).map(|()| bytes)
    };
    Ok(Answer { status: i32::try_from(status)?, stdout: take(output)?, stderr: take(error)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_asked_and_answered_with_sizes_before_bytes() {
        let (mut host, mut vm) = UnixStream::pair().unwrap();
        vm.write_all(b"3 4 2\nout\nno").unwrap();
        let answer = ask(&mut host, b"exit 3", b"in").unwrap();
        assert_eq!(answer, Answer { status: 3, stdout: b"out\n".to_vec(), stderr: b"no".to_vec() });
        drop(host);
        let mut asked = String::new();
        vm.read_to_string(&mut asked).unwrap();
        assert_eq!(asked, "6 2\nexit 3in");
    }
}

//! Reading a definition's file without trusting that it is one.

use std::io::{self, Error, ErrorKind, Read};
use std::path::Path;

use domain::LARGEST_DEFINITION;
use nix::fcntl::OFlag;

use crate::environment::Environment;

/// The bytes of a file, in `buffer`, which is used again for each file.
///
/// At most one byte more than [`LARGEST_DEFINITION`] is read, by which the caller sees that there are more.
///
/// # Errors
/// When the file can't be opened or read, or is no regular file. A FIFO or a device doesn't block.
pub(crate) fn definition<'b>(
    environment: &Environment,
    path: &Path,
    buffer: &'b mut Vec<u8>,
) -> io::Result<&'b [u8]> {
    let file = environment.open(path, OFlag::O_NONBLOCK | OFlag::O_NOCTTY)?;
    if !file.metadata()?.is_file() {
        return Err(Error::new(ErrorKind::InvalidInput, "not a regular file"));
    }
    buffer.clear();
    file.take(LARGEST_DEFINITION as u64 + 1).read_to_end(buffer)?;
    Ok(buffer)
}

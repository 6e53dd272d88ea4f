//! Any bytes as a monitor's: messages or an error, without panic or unbounded memory.
#![no_main]

use libfuzzer_sys::fuzz_target;
use qmp::Session;

fuzz_target!(|bytes: &[u8]| {
    let mut session = Session::new(4096);
    for piece in bytes.chunks(7) {
        session.receive(piece);
        loop {
            match session.next_message() {
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(_) => return,
            }
        }
    }
});

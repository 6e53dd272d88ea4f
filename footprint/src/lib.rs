//! Memory that a program which stays for long gives back when its start is over.
//!
//! What read definitions and planned or listed guests is most of such a program, and is not needed beside the guests.
#![allow(unsafe_code)] // The only file of the package; see the blocks.

/// Gives freed memory and the pages of the program's code back.
///
/// Code comes back by page faults, from the page cache. A failure costs nothing but the memory, so none is reported.
pub fn give_back() {
    release_heap();
    release_code();
}

/// Gives what was freed back to the kernel (malloc_trim(3)).
fn release_heap() {
    // SAFETY: malloc_trim has no condition; it only touches memory that is free.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Unmaps the pages of the program's code until they are used again.
fn release_code() {
    let (Ok(maps), Ok(program)) =
        (std::fs::read_to_string("/proc/self/maps"), std::env::current_exe())
    else {
        return;
    };
    for line in maps.lines().filter(|line| line.ends_with(&*program.to_string_lossy())) {
        let Some((start, end)) = code_range(line) else { continue };
        // SAFETY: the range is a mapping of the program's file that is executable and not writable, so its
        // pages equal the file's, and MADV_DONTNEED (madvise(2)) makes the next access read them again.
        unsafe {
            libc::madvise(
                std::ptr::with_exposed_provenance_mut(start),
                end - start,
                libc::MADV_DONTNEED,
            );
        }
    }
}

/// The addresses of an executable mapping that is not writable, of a line of proc_pid_maps(5).
fn code_range(line: &str) -> Option<(usize, usize)> {
    let mut fields = line.split_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    let code = fields.next()? == "r-xp";
    let address = |text| usize::from_str_radix(text, 16).ok();
    code.then_some((address(start)?, address(end)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_code_is_released() {
        let line = |permissions| format!("1000-3000 {permissions} 00000000 fe:00 1  /bin/x");
        assert_eq!(code_range(&line("r-xp")), Some((0x1000, 0x3000)));
        for permissions in ["r--p", "rw-p", "rwxp", "---p"] {
            assert_eq!(code_range(&line(permissions)), None, "{permissions}");
        }
    }

    #[test]
    fn what_is_given_back_is_not_resident_and_comes_again() {
        // Some code of this program, which has run.
        let resident = || {
            let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
            let program = std::env::current_exe().unwrap();
            let code = maps.lines().skip_while(|line| {
                !(line.ends_with(&*program.to_string_lossy()) && line.contains(" r-xp "))
            });
            let rss = code.into_iter().find_map(|line| line.strip_prefix("Rss:")).unwrap();
            rss.trim().trim_end_matches(" kB").parse::<u64>().unwrap()
        };
        let before = resident();
        give_back();
        let after = resident();
        assert!(after < before, "{after} of {before} KiB");
    }
}

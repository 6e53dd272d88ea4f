//! Failures at each step, and readers in between.

use super::*;
use std::sync::atomic::{AtomicBool, Ordering};

/// The steps of a file that is put in place, in the one order in which nothing can be lost.
const ORDER: [Step; 6] =
    [Step::Create, Step::Write, Step::Permit, Step::Sync, Step::Place, Step::SyncDirectory];

fn file<'a>(path: &'a Path, content: &'a [u8], existing: Existing) -> NewFile<'a> {
    NewFile { path, content, mode: 0o640, existing, hidden: None }
}

/// A directory with a file, or without one.
fn folder(old: Option<&str>) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("web.xml");
    if let Some(old) = old {
        fs::write(&path, old).unwrap();
    }
    (folder, path)
}

/// What a directory has, with what is in its files.
fn listing(directory: &Path) -> Vec<(String, String)> {
    let mut files: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (name, fs::read_to_string(path).unwrap())
        })
        .collect();
    files.sort();
    files
}

fn web(text: &str) -> Vec<(String, String)> {
    vec![("web.xml".to_owned(), text.to_owned())]
}

#[test]
fn the_steps_are_in_the_order_that_keeps_files_whole() {
    for (existing, last) in [(Existing::Replaced, None), (Existing::Kept, Some(Step::Remove))] {
        let (folder, path) = folder(None);
        let mut steps = Vec::new();
        let mut watch = |step| {
            steps.push(step);
            Ok(())
        };
        file(&path, b"new", existing).put_watched(&mut watch).unwrap();
        let expected: Vec<Step> = ORDER.into_iter().chain(last).collect();
        assert_eq!(steps, expected);
        assert_eq!(listing(folder.path()), web("new"));
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o640, "whatever the umask is");
    }
}

/// A disk that fails at a step: the file is told as not written, and is the old one, and nothing else is left.
#[test]
fn a_step_that_fails_leaves_the_old_file() {
    for failing in ORDER {
        for (existing, old) in
            [(Existing::Replaced, Some("old")), (Existing::Replaced, None), (Existing::Kept, None)]
        {
            let (folder, path) = folder(old);
            let mut fail = |step| {
                if step == failing { Err(io::Error::other("stand-in")) } else { Ok(()) }
            };
            let error = file(&path, b"new", existing).put_watched(&mut fail).unwrap_err();
            let told = format!("{} cannot be written: stand-in", path.display());
            assert_eq!(error.to_string(), told);
            assert!(matches!(error, WriteError::Failed { step, .. } if step == failing));
            let in_place = failing == Step::SyncDirectory;
            let expected = if in_place { Some("new") } else { old };
            assert_eq!(listing(folder.path()), expected.map_or(Vec::new(), web), "{failing:?}");
        }
    }
}

/// A machine that stops before a step does nothing any more, cleaning up included. What is left hidden is no definition,
/// and keeps no later writer from the file.
#[test]
fn a_stop_at_any_step_leaves_the_old_file_or_the_new_one() {
    for last in ORDER {
        for existing in [Existing::Replaced, Existing::Kept] {
            let (folder, path) = folder((existing == Existing::Replaced).then_some("old"));
            let mut stopped = false;
            let mut stop = |step| {
                stopped |= step == last;
                if stopped { Err(io::Error::other("stand-in")) } else { Ok(()) }
            };
            file(&path, b"new", existing).put_watched(&mut stop).unwrap_err();
            let seen: Vec<_> = listing(folder.path())
                .into_iter()
                .filter(|(name, _)| name.ends_with(".xml"))
                .collect();
            let placed = last == Step::SyncDirectory;
            let expected = match existing {
                _ if placed => web("new"),
                Existing::Replaced => web("old"),
                Existing::Kept => Vec::new(),
            };
            assert_eq!(seen, expected, "{last:?} {existing:?}");
            file(&path, b"next", Existing::Replaced).put().unwrap();
            assert!(listing(folder.path()).contains(&web("next")[0]));
        }
    }
}

#[test]
fn a_file_that_is_there_is_kept() {
    let (folder, path) = folder(Some("old"));
    let error = file(&path, b"new", Existing::Kept).put().unwrap_err();
    assert_eq!(error.to_string(), format!("{} exists already", path.display()));
    assert_eq!(listing(folder.path()), web("old"));
    // A link that leads nowhere has the name, too.
    fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink("/nonexistent", &path).unwrap();
    assert!(matches!(file(&path, b"new", Existing::Kept).put(), Err(WriteError::Exists(_))));
}

#[test]
fn a_directory_that_is_not_there_is_told() {
    let (_folder, path) = folder(None);
    let path = path.with_file_name("none").join("web.xml");
    let error = file(&path, b"new", Existing::Kept).put().unwrap_err();
    assert!(matches!(error, WriteError::Failed { step: Step::Create, .. }), "{error}");
}

#[test]
fn a_reader_never_sees_half_a_file() {
    let (_folder, path) = folder(Some("old"));
    let (long, short) = (vec![b'a'; 1 << 20], vec![b'b'; 10]);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut looks = 0;
            while !done.load(Ordering::Relaxed) {
                let text = fs::read(&path).unwrap();
                assert!(
                    [long.as_slice(), &short, b"old"].contains(&text.as_slice()),
                    "{}",
                    text.len()
                );
                looks += 1;
            }
            looks
        });
        for round in 0..100 {
            let content = if round % 2 == 0 { &long } else { &short };
            file(&path, content, Existing::Replaced).put().unwrap();
        }
        done.store(true, Ordering::Relaxed);
        assert!(reader.join().unwrap() > 0);
    });
}

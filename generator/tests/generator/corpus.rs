//! Every input of libvirt's own cases through the program: it does not fail, and systemd takes what it writes.
//!
//! The corpus is no part of this repository: it is looked for in `../shared/corpus` beside it, or where
//! `GLASSBOX_CORPUS` says.

use std::fs;
use std::path::{Path, PathBuf};

use crate::call::Call;
use crate::tree;
use crate::verify::{installed_units, units, verify};

fn inputs() -> Option<Vec<PathBuf>> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/corpus");
    let corpus = std::env::var_os("GLASSBOX_CORPUS").map_or(beside, PathBuf::from);
    let cases = corpus.join("libvirt-11.3/cases");
    let Ok(entries) = fs::read_dir(&cases) else {
        eprintln!("SKIP corpus: {} is not there", cases.display());
        return None;
    };
    let is_input = |path: &Path| {
        let name = path.to_string_lossy();
        name.ends_with(".xml") && !name.ends_with(".out.xml")
    };
    let mut inputs: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    inputs.retain(|path| is_input(path));
    inputs.sort();
    assert!(inputs.len() > 400, "only {} inputs in {}", inputs.len(), cases.display());
    Some(inputs)
}

/// The document under the name of its file, without which a unit would have no facts of it.
fn filed(text: &str, name: &str) -> String {
    let (Some(start), Some(end)) = (text.find("<name>"), text.find("</name>")) else {
        return text.to_owned();
    };
    format!("{}<name>{name}{}", &text[..start], &text[end..])
}

#[test]
fn systemd_has_nothing_to_say_of_any_input_of_the_corpus() {
    let Some(inputs) = inputs() else { return };
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().join("etc/glassbox/qemu");
    fs::create_dir_all(&directory).unwrap();
    for input in &inputs {
        let name = input.file_stem().unwrap().to_str().unwrap();
        let text = fs::read_to_string(input).unwrap();
        fs::write(directory.join(format!("{name}.xml")), filed(&text, name)).unwrap();
    }
    let outcome = Call::new(root.path()).run();
    assert_eq!(outcome.status, 0, "{}", outcome.stderr);
    let written = tree::read(&outcome.directory());
    let units = units(&written);
    let guests = units.iter().filter(|unit| unit.starts_with("qemu@")).count();
    assert_eq!(guests, inputs.len(), "each input has its unit");
    assert!(units.len() > guests, "some have companions");
    assert_eq!(written.len(), units.len(), "and nothing else is written");
    let generated = outcome.directory().join("normal");
    let installed = installed_units("--system");
    let Some(messages) = verify("--system", &[&generated, installed.path()], &units) else {
        return;
    };
    assert_eq!(messages, "");
}

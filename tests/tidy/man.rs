//! The man pages: man/NAME.SECTION.md, and the option lists that clap has, to roff as it is checked in. And the
//! completions for shells, which clap makes of the same options.
//!
//! `make man` writes both; without it the tests here compare them. So neither the build nor the
//! installation needs a converter, and no page is older than its source or than the program's options.

use std::fs;

use clap::{Command, CommandFactory};
use clap_complete::Shell;

use super::none;

mod roff;

// The programs' own definitions; their fields are read by the programs only.
#[allow(dead_code)]
#[path = "../../shim/src/cli.rs"]
mod glassbox_qemu;
#[allow(dead_code)]
#[path = "../../dbus/ctl/src/cli.rs"]
mod glassboxctl;
#[allow(dead_code)]
#[path = "../../dbus/daemon/src/cli.rs"]
mod glassboxd;

/// The commands of the pages that have a line `<!-- options -->`, to be replaced by the list.
fn command(page: &str) -> Option<Command> {
    match page {
        "glassbox-qemu.1" => Some(glassbox_qemu::Cli::command()),
        "glassboxctl.1" => Some(glassboxctl::Cli::command()),
        "glassboxd.8" => Some(glassboxd::Options::command()),
        _ => None,
    }
}

/// What every page has, by the house's rule.
const SECTIONS: [&str; 5] = ["DESCRIPTION", "EXAMPLES", "FILES", "EXIT STATUS", "SEE ALSO"];

#[test]
fn man_pages_are_fresh() {
    let folder = tests::install::repository().join("man");
    let mut stale = Vec::new();
    for (source, text) in super::texts(".md") {
        let Some(page) = source.strip_prefix("man/").and_then(|name| name.strip_suffix(".md"))
        else {
            continue;
        };
        let options = command(page).map(option_list);
        let rendered = roff::page(page, env!("CARGO_PKG_VERSION"), &text, options.as_deref());
        let file = folder.join(page);
        if std::env::var_os("UPDATE_MAN").is_some() {
            fs::write(&file, &rendered).unwrap();
        }
        if fs::read_to_string(&file).unwrap_or_default() != rendered {
            stale.push(format!("man/{page}"));
        }
    }
    none("a man page differs from its source in man/*.md and the options; run 'make man'", &stale);
}

/// The programs that have completions, with the pages of their options.
const COMPLETED: [(&str, &str); 2] =
    [("glassbox-qemu", "glassbox-qemu.1"), ("glassboxctl", "glassboxctl.1")];

#[test]
fn man_pages_have_completions_beside_them() {
    let folder = tests::install::repository().join("completions");
    let mut stale = Vec::new();
    for (program, page) in COMPLETED {
        // Named as the shells' own folders name them.
        for (shell, name) in [
            (Shell::Bash, program.to_owned()),
            (Shell::Zsh, format!("_{program}")),
            (Shell::Fish, format!("{program}.fish")),
        ] {
            let mut script = Vec::new();
            let mut command = command(page).unwrap();
            clap_complete::generate(shell, &mut command, program, &mut script);
            let file = folder.join(&name);
            if std::env::var_os("UPDATE_MAN").is_some() {
                fs::create_dir_all(&folder).unwrap();
                fs::write(&file, &script).unwrap();
            }
            if fs::read(&file).unwrap_or_default() != script {
                stale.push(format!("completions/{name}"));
            }
        }
    }
    none("completions differ from the program's options; run 'make man'", &stale);
}

#[test]
fn man_pages_have_their_sections() {
    let mut missing = Vec::new();
    let mut pages = 0;
    for (source, text) in super::texts(".md").iter().filter(|(name, _)| name.starts_with("man/")) {
        pages += 1;
        let lacks = |section: &&&str| !text.contains(&format!("\n## {section}\n"));
        missing.extend(SECTIONS.iter().filter(lacks).map(|section| format!("{source}: {section}")));
    }
    assert_eq!(pages, 7, "one page for each program, one for each file format and one for D-Bus");
    none("each man page has these sections", &missing);
}

/// The options of a program as clap_mangen lists them, below a heading of their own; with verbs, each verb's below it.
fn option_list(command: Command) -> String {
    let verbs: Vec<Command> = command.get_subcommands().cloned().collect();
    let name = command.get_name().to_owned();
    let mut list = options(command);
    for verb in verbs {
        let (name, about) = (format!("{name} {}", verb.get_name()), verb.get_about().cloned());
        let listed = options(verb.disable_help_flag(true));
        let (_, lines) = listed.split_once(".SH OPTIONS\n").unwrap_or_default();
        list += &format!(".SS {name}\n{}.\n{lines}", about.unwrap_or_default());
    }
    list
}

fn options(command: Command) -> String {
    let mut list = Vec::new();
    clap_mangen::Man::new(command).render_options_section(&mut list).unwrap();
    String::from_utf8(list).unwrap()
}

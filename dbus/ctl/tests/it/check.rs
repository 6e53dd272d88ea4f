//! `glassboxctl check`.

use crate::home::Home;

/// A stand-in for the generator, with a complaint of a name, and one that the translator has, too.
const GENERATOR: &str = "#!/bin/sh
[ \"$*\" = '--dry-run --user' ] || exit 2
echo 'units of guests'
echo \"$HOME/.config/glassbox/qemu/..xml: the file stands for no guest\" >&2
echo \"$HOME/.config/glassbox/qemu/b.xml:2:1: /domain/bad: refused; remove it\" >&2
exit 1
";

fn home() -> Home {
    let home = Home::new();
    home.write(".config/glassbox/qemu/a.xml", "<domain>\n<odd/></domain>");
    home.write(".config/glassbox/qemu/b.xml", "<domain>\n<bad/></domain>");
    home.write(".config/glassbox/qemu/c.xml.orig", "<bad/>");
    home.link("/dev/null", ".config/glassbox/qemu/masked.xml");
    home.write(".config/glassbox/qemu/empty.xml", "");
    home.link("/nonexistent", ".config/glassbox/qemu/nowhere.xml");
    home.write(".local/share/glassbox/qemu/b.xml", "<bad/> hidden by the other b");
    home
}

#[test]
fn all_definitions_are_checked_and_each_complaint_is_told_once() {
    let home = home();
    home.program("glassbox-generator", GENERATOR);
    let (status, out, error) = home.run(&["check", "--user"]);
    let expected = "~/.config/glassbox/qemu/..xml: the file stands for no guest
~/.config/glassbox/qemu/b.xml:2:1: /domain/bad: refused; remove it
~/.config/glassbox/qemu/a.xml:2:1: /domain/odd: left out; remove it
";
    assert_eq!((status, out.as_str()), (1, expected), "{error}");
    assert_eq!(error, "glassboxctl: 1 of 2 definitions would start no guest\n");
}

#[test]
fn a_file_is_checked_alone() {
    let home = home();
    home.write("draft.xml", "<domain>\n\n<odd/></domain>");
    let (status, out, error) = home.run(&["check", "--user", "draft.xml"]);
    let told = "draft.xml:3:1: /domain/odd: left out; remove it\n";
    assert_eq!((status, out.as_str(), error.as_str()), (0, told, ""));
    // One that counts is checked as its guest's, by the path that the guest's start tells.
    let (status, out, error) =
        home.run(&["check", "--user", ".config/glassbox/qemu/b.xml", "none.xml"]);
    let told =
        "~/.config/glassbox/qemu/b.xml:2:1: /domain/bad: refused; remove it\nnone.xml: not there\n";
    assert_eq!((status, out.as_str()), (1, told));
    assert_eq!(error, "glassboxctl: 2 of 2 definitions would start no guest\n");
}

#[test]
fn a_template_is_checked_by_a_guest_that_has_no_file_of_its_own() {
    let home = Home::new();
    home.write(".config/glassbox/qemu/worker@.xml", "<domain>\n<bad/></domain>");
    home.link("/dev/null", ".config/glassbox/qemu/worker@1.xml");
    let told = "~/.config/glassbox/qemu/worker@.xml:2:1: /domain/bad: refused; remove it\n";
    let refused = "glassboxctl: 1 of 1 definitions would start no guest\n";
    for file in [None, Some(".config/glassbox/qemu/worker@.xml")] {
        let words: Vec<&str> = ["check", "--user"].into_iter().chain(file).collect();
        let (status, out, error) = home.run(&words);
        assert_eq!((status, out.as_str(), error.as_str()), (1, told, refused), "{file:?}");
    }
}

#[test]
fn a_program_that_fails_is_no_verdict() {
    let home = home();
    home.program("glassbox-qemu", "#!/bin/sh\necho 'glassbox-qemu: out of order' >&2\nexit 1\n");
    let (status, out, error) = home.run(&["check", "--user", "draft.xml"]);
    assert_eq!((status, out.as_str()), (1, ""));
    let told = "glassboxctl: ~/bin/glassbox-qemu --check failed: glassbox-qemu: out of order\n";
    assert_eq!(error, told);
}

//! QEMU itself takes what is planned: for each definition a real QEMU of Debian's is started with the plan's
//! arguments, its CPUs stopped, and told to quit over QMP.
//!
//! The facts are those of the QEMU in question, by `glassbox-qemu --probe`. Files, sockets and descriptors are made
//! as the plan says, empty. Guests of KVM run on QEMU's translator, for the machines of the tests have no KVM; what
//! else a machine of the tests cannot have is in `needs.rs`, and such a definition counts only when it is accepted.
//!
//! `UPDATE_ACCEPTANCE=1` writes `ACCEPTANCE.md` anew.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use corpus::acceptance::Job;
use corpus::needs;
use domain::{Domain, Faults};
use qemu::{HostFacts, Launch, LaunchPlan, QemuBinary, SealedSecret, VirtualNetwork};
use tests::{Root, Scratch, install, require_packages};

tests::on_root!(bookworm, Bookworm, qemu_accepts_what_is_planned);
tests::on_root!(trixie, Trixie, qemu_accepts_what_is_planned);

/// How many of a hundred definitions QEMU must take, of those that need nothing special and whose arguments QEMU
/// would take of libvirt.
const LEAST: usize = 95;

/// What was reached when it was last written down, by release.
const FLOOR: &str = include_str!("../acceptance/floor.txt");

/// The word that the pretended secrets are, sealed with [`MASTER_KEY`] by AES-256-CBC:
/// `printf secret | openssl enc -aes-256-cbc -base64 -K 6b..6b -iv 00..00`.
const SEALED: (&str, &str) = ("PUbx5s20aDwL5L4raIezow==", "AAAAAAAAAAAAAAAAAAAAAA==");

const MASTER_KEY: &str = "kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk";

/// Where a key goes that nobody reads.
const NO_KEY: &str = "/run/no-key";

/// Certificates of both ends of TLS, signed by an authority that is made for it.
const CERTIFICATES: &str = "\
cd \"$1\"
openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=authority -keyout ca-key.pem -out ca-cert.pem
for end in server client; do
    openssl req -newkey rsa:2048 -nodes -subj /CN=localhost -keyout $end-key.pem -out $end.csr
    printf 'basicConstraints=CA:FALSE\\nextendedKeyUsage=serverAuth,clientAuth\\n' >extensions
    openssl x509 -req -days 2 -in $end.csr -CA ca-cert.pem -CAkey ca-key.pem -CAcreateserial \\
        -extfile extensions -out $end-cert.pem
done
";

fn qemu_accepts_what_is_planned(root: Root) -> Result<()> {
    install::build()?;
    let staged = tempfile::tempdir()?;
    install::stage(&staged.path().join("layer"))?;
    certificates(&staged.path().join("layer/etc/glassbox-test-pki"))?;
    let scratch = Scratch::of(root)?.with(&staged.path().join("layer"));
    let binary = probe(&scratch)?;

    let mut report = Report::default();
    let mut plans = BTreeMap::new();
    let mut jobs = String::new();
    for (name, path) in inputs(root) {
        let xml = fs::read_to_string(&path)?;
        if !is_of_pc(&xml) {
            continue; // This QEMU has no other machines.
        }
        match plan(&xml, &binary) {
            Err(words) => {
                let newest = corpus::translate(&xml).plan;
                report.refused(name.clone(), words, newest.as_ref());
                plans.extend(newest.map(|plan| (name, (plan, NO_KEY.to_owned()))));
            }
            Ok((plan, _)) if needs::waits(&plan.arguments) => report.left_out(name, &plan),
            Ok((plan, key)) => {
                jobs.push_str(&format!(
                    "write {key} {MASTER_KEY}\n{}",
                    Job::new(&name, &plan).text()
                ));
                report.planned(name.clone(), &plan);
                plans.insert(name, (plan, key));
            }
        }
    }
    report.answers.extend(run(&scratch, jobs)?);
    report.compare(run(&scratch, libvirts_jobs(&report, &plans))?);
    report.check(root, &binary)
}

fn is_of_pc(xml: &str) -> bool {
    let domain = Domain::parse(xml, &Faults::new());
    let arch = domain.and_then(|domain| domain.os.arch);
    arch.is_none_or(|arch| ["x86_64", "i686"].contains(&arch.as_str()))
}

/// The plan for this QEMU, and where the key of its secrets is to be.
fn plan(xml: &str, binary: &QemuBinary) -> Result<(LaunchPlan, String), String> {
    let launch = Launch { shim_monitor: true, ..Launch::default() };
    let mut key = String::new();
    let root = domain::tree::parse(xml).map_err(|fault| fault.what)?;
    let outcome = corpus::translate_for(&root, &launch, |facts| {
        for_tests(facts, binary);
        key = format!("{}/master-key.aes", facts.directories.guest);
    });
    let refused = || {
        let refused =
            outcome.faults.iter().filter(|fault| fault.severity == domain::Severity::Refused);
        refused.map(|fault| format!("glassbox: {}", fault.what)).collect::<Vec<_>>().join("; ")
    };
    outcome.plan.map(|plan| (plan, key)).ok_or_else(refused)
}

/// Starts with the arguments that libvirt expects itself, of what was not accepted without a need.
fn libvirts_jobs(report: &Report, plans: &BTreeMap<String, (LaunchPlan, String)>) -> String {
    let mut jobs = String::new();
    for name in report.failed() {
        let file = corpus::corpus().join(format!("cases/{name}.args"));
        let Ok(text) = fs::read_to_string(file) else { continue };
        let arguments = libvirts_arguments(&text);
        let Some((plan, key)) = plans.get(name) else { continue };
        let job = Job::with_arguments(name, plan, &arguments);
        jobs.push_str(&format!("write {key} {MASTER_KEY}\n{}", job.text()));
    }
    jobs
}

/// A command line in a shell's words, after QEMU's name. Its monitor has a descriptor of libvirt's that nobody opens here.
fn libvirts_arguments(text: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        let word = words.last_mut().unwrap();
        match character {
            '\'' => quoted = !quoted,
            '\\' if !quoted => word.extend(characters.next().filter(|next| *next != '\n')),
            ' ' | '\n' if !quoted => words.push(String::new()),
            other => word.push(other),
        }
    }
    let words = words.into_iter().filter(|word| !word.is_empty());
    let arguments = words.skip_while(|word| !word.starts_with('/')).skip(1);
    arguments.map(|word| word.replace("fd=1729,server=on", "path=/run/libvirt,server=on")).collect()
}

/// The pretended host with this QEMU, and without what the kernel of a test may lack.
fn for_tests(facts: &mut HostFacts, binary: &QemuBinary) {
    binary.tell(facts);
    facts.host_models.kvm.clone_from(&binary.host_model);
    facts.network.vhost_net = false;
    // What virt-install gives a guest, and libvirt has from the start.
    let network = VirtualNetwork { bridge: "virbr0".to_owned(), mtu: None };
    facts.network.networks.insert("default".to_owned(), Ok(network));
    facts.displays.spice_tls = Some("/etc/pki/libvirt-spice".to_owned());
    let sealed = SealedSecret { data: SEALED.0.to_owned(), iv: SEALED.1.to_owned() };
    facts.storage.secrets.values_mut().for_each(|secret| secret.clone_from(&sealed));
}

fn probe(scratch: &Scratch) -> Result<QemuBinary> {
    let output = scratch.command(&["/usr/bin/glassbox-qemu", "--probe"])?.output()?;
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "glassbox-qemu --probe: {words}");
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn certificates(folder: &Path) -> Result<()> {
    require_packages(&[("openssl", "openssl")])?;
    fs::create_dir_all(folder)?;
    let output = Command::new("/bin/sh").args(["-euc", CERTIFICATES, "sh"]).arg(folder).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// Runs the jobs one after the other; the answers by definition.
fn run(scratch: &Scratch, jobs: String) -> Result<BTreeMap<String, String>> {
    let script = include_str!("../acceptance/run.pl");
    let mut command = scratch.command(&["/usr/bin/perl", "-e", script])?;
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let mut input = child.stdin.take().context("it was asked for")?;
    let writer = std::thread::spawn(move || input.write_all(jobs.as_bytes()));
    let output = child.wait_with_output()?;
    writer.join().unwrap()?;
    ensure!(output.status.success(), "the jobs were not run to their end: {}", output.status);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let pair = |line: &str| line.split_once('\t').map(|(a, b)| (a.to_owned(), b.to_owned()));
    Ok(text.lines().filter_map(pair).collect())
}

/// The definitions by name: our own, and libvirt's cases that are no errors.
fn inputs(root: Root) -> Vec<(String, PathBuf)> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../crates/qemu/tests/cases");
    let folders = fs::read_dir(own).unwrap().flatten().map(|entry| entry.path());
    let good = folders.filter(|folder| folder.join("argv.txt").exists());
    let named = |path: &Path| path.file_stem().unwrap().to_string_lossy().into_owned();
    let mut inputs: Vec<_> =
        good.map(|folder| (format!("own/{}", named(&folder)), folder.join("domain.xml"))).collect();
    let Ok(cases) = fs::read_dir(corpus::corpus().join("cases")) else {
        eprintln!("SKIP {root}: libvirt's cases: no folder ../shared/corpus");
        return inputs;
    };
    let cases = cases.flatten().map(|entry| entry.path());
    let good = cases.filter(|path| path.extension().is_some_and(|it| it == "args"));
    inputs.extend(good.map(|path| (named(&path), path.with_extension("xml"))));
    inputs.sort();
    inputs
}

/// What became of the definitions.
#[derive(Default)]
struct Report {
    answers: BTreeMap<String, String>,
    /// What is missing for some of them.
    needs: BTreeMap<String, &'static str>,
    /// Those for which QEMU says the same to libvirt's own arguments.
    as_libvirts: BTreeMap<String, String>,
}

impl Report {
    /// A definition that this QEMU gets no plan for, which a new one perhaps does.
    fn refused(&mut self, name: String, words: String, newest: Option<&LaunchPlan>) {
        let of_newest = || newest.and_then(|plan| needs::missing(&plan.arguments));
        if let Some(need) = needs::missing_by_words(&words).or_else(of_newest) {
            self.needs.insert(name.clone(), need);
        }
        self.answers.insert(name, words);
    }

    fn left_out(&mut self, name: String, plan: &LaunchPlan) {
        self.planned(name.clone(), plan);
        self.answers.insert(name, "not started".to_owned());
    }

    fn planned(&mut self, name: String, plan: &LaunchPlan) {
        if let Some(need) = needs::missing(&plan.arguments) {
            self.needs.insert(name, need);
        }
    }

    /// What was not accepted, though nothing is missing.
    fn failed(&self) -> impl Iterator<Item = &String> {
        let failed = self.answers.iter().filter(|(_, answer)| *answer != "accepted");
        failed.map(|(name, _)| name).filter(|name| !self.needs.contains_key(*name))
    }

    /// Takes what QEMU says to libvirt's own arguments. It is the same when the words are, or when there is no plan
    /// because this QEMU is without what is asked for.
    fn compare(&mut self, libvirts: BTreeMap<String, String>) {
        for (name, words) in libvirts {
            let (own, words) = (own_words(&self.answers[&name]), own_words(&words));
            if own == words || (own.starts_with("glassbox: this QEMU ") && words != "accepted") {
                self.as_libvirts.insert(name, words.to_owned());
            }
        }
    }

    fn check(self, root: Root, binary: &QemuBinary) -> Result<()> {
        let accepted = self.answers.values().filter(|answer| *answer == "accepted").count();
        let failed = self.failed().count();
        let differing = failed - self.as_libvirts.len();
        let summary = format!(
            "{accepted} accepted; {} refused by QEMU in the same words with libvirt's own arguments; {differing} refused; \
             {} not taken, for they need what is not here",
            self.as_libvirts.len(),
            self.answers.len() - accepted - failed,
        );
        eprintln!("{root}: {summary}");
        let text = self.text(root, binary, &summary);
        if std::env::var_os("UPDATE_ACCEPTANCE").is_some() {
            let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("acceptance/{root}.md"));
            fs::write(file, &text)?;
        }
        ensure!(accepted * 100 >= (accepted + differing) * LEAST, "too few\n{text}");
        let floor = FLOOR.lines().find_map(|line| line.strip_prefix(&format!("{root} ")));
        let floor: usize = floor.context("a floor")?.parse()?;
        let is_whole = corpus::corpus().is_dir();
        ensure!(!is_whole || accepted >= floor, "{accepted} accepted, which were {floor}\n{text}");
        Ok(())
    }

    fn text(&self, root: Root, binary: &QemuBinary, summary: &str) -> String {
        let (major, minor, micro) = binary.version.number;
        let mut text = format!("# {root}: QEMU {major}.{minor}.{micro}\n\n{summary}.\n");
        let (same, differing): (Vec<_>, Vec<_>) =
            self.failed().partition(|name| self.as_libvirts.contains_key(*name));
        text.push_str("\n## Refused\n\n");
        let line = |name: &String, words: &str| format!("- `{name}`: {}\n", own_words(words));
        text.extend(differing.into_iter().map(|name| line(name, &self.answers[name])));
        text.push_str("\n## Refused with libvirt's own arguments, too\n\n");
        text.extend(same.into_iter().map(|name| line(name, &self.as_libvirts[name])));
        text.push_str("\n## Not taken, for it is not here\n\n");
        let mut by_need: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        let missing = self.needs.iter().filter(|(name, _)| self.answers[*name] != "accepted");
        missing.for_each(|(name, need)| by_need.entry(need).or_default().push(name));
        let needs =
            by_need.into_iter().map(|(need, names)| format!("- {need}: {}\n", names.join(", ")));
        text.extend(needs);
        text
    }
}

/// What QEMU says, without the time, its name and the option that it says it of.
fn own_words(words: &str) -> &str {
    let words = words.split_once("qemu-system-x86_64: ").map_or(words, |(_, words)| words);
    match words.rsplit_once("}: ") {
        Some((_, words)) => words,
        None if words.starts_with('-') => words.split_once(": ").map_or(words, |(_, words)| words),
        None => words,
    }
}

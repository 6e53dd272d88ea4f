//! What the daemon knows of a guest from its QEMU, and since when. Pure but for the moments that it is given.

use std::collections::BTreeMap;
use std::time::Instant;

use serde_json::Value;

use crate::state::{Life, State};

/// What QEMU is asked to know a guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Question {
    /// The state.
    Status,
    /// The CPUs.
    Cpus,
    /// The memory that the guest was given.
    MemorySize,
    /// What of it the balloon leaves the guest; refused where there is none.
    Balloon,
    /// The disks.
    Blocks,
}

impl Question {
    /// All of them, in the order in which they are asked: the balloon knows better than the size.
    pub(crate) const ALL: [Self; 5] =
        [Self::Status, Self::Cpus, Self::MemorySize, Self::Balloon, Self::Blocks];

    /// The command of QEMU's.
    pub(crate) fn command(self) -> &'static str {
        match self {
            Self::Status => "query-status",
            Self::Cpus => "query-cpus-fast",
            Self::MemorySize => "query-memory-size-summary",
            Self::Balloon => "query-balloon",
            Self::Blocks => "query-blockstats",
        }
    }
}

/// What is known.
#[derive(Debug, Clone, Default)]
pub(crate) struct Known {
    life: Life,
    vcpus: u32,
    memory: u64,
    blocks: Vec<Block>,
    /// When QEMU last said anything.
    heard: Option<Instant>,
    /// Whether it owes an answer for too long.
    silent: bool,
}

/// What clients are told of without asking, when it changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Face {
    /// The state with its reason.
    pub(crate) state: State,
    /// The number of CPUs.
    pub(crate) vcpus: u32,
    /// The guest's memory, in bytes.
    pub(crate) memory: u64,
    /// Whether QEMU answers.
    pub(crate) responding: bool,
}

impl Face {
    /// That of a guest that does not run. Nobody owes an answer.
    pub(crate) const SHUTOFF: Self =
        Self { state: State::Shutoff, vcpus: 0, memory: 0, responding: true };
}

/// One figure of the statistics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Figure {
    /// A number.
    Count(u64),
    /// A word.
    Word(String),
}

/// One disk's figures.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Block {
    name: String,
    figures: Vec<(&'static str, u64)>,
}

/// The members of `stats` of `query-blockstats`, and how libvirt's statistics name them (virDomainListGetStats).
const BLOCK_FIGURES: [(&str, &str); 9] = [
    ("rd_operations", "rd.reqs"),
    ("rd_bytes", "rd.bytes"),
    ("rd_total_time_ns", "rd.times"),
    ("wr_operations", "wr.reqs"),
    ("wr_bytes", "wr.bytes"),
    ("wr_total_time_ns", "wr.times"),
    ("flush_operations", "fl.reqs"),
    ("flush_total_time_ns", "fl.times"),
    ("wr_highest_offset", "allocation"),
];

/// More disks than a guest has; what QEMU says is kept with a bound.
const MOST_BLOCKS: usize = 1024;

impl Known {
    /// Takes in an event of QEMU's.
    pub(crate) fn on_event(&mut self, name: &str, data: &Value, now: Instant) {
        self.heard(now);
        self.life.on_event(name, data);
        if name == "BALLOON_CHANGE" {
            self.memory = data.get("actual").and_then(Value::as_u64).unwrap_or(self.memory);
        }
    }

    /// Takes in the answer to a question. One of another form than QEMU's schema says changes nothing.
    pub(crate) fn on_answer(&mut self, question: Question, answer: &Value) {
        let number = |member: &str| answer.get(member).and_then(Value::as_u64);
        match question {
            Question::Status => {
                if let Some(status) = answer.get("status").and_then(Value::as_str) {
                    self.life.on_status(status);
                }
            }
            Question::Cpus => {
                let count = answer.as_array().and_then(|cpus| u32::try_from(cpus.len()).ok());
                self.vcpus = count.unwrap_or(self.vcpus);
            }
            Question::MemorySize => {
                if let Some(base) = number("base-memory") {
                    self.memory = base.saturating_add(number("plugged-memory").unwrap_or(0));
                }
            }
            Question::Balloon => self.memory = number("actual").unwrap_or(self.memory),
            Question::Blocks => self.blocks = blocks(answer),
        }
    }

    /// QEMU was just started.
    pub(crate) fn on_greeting(&mut self, now: Instant) {
        self.heard(now);
        self.life.on_greeting();
    }

    /// QEMU said something.
    fn heard(&mut self, now: Instant) {
        self.heard = Some(now);
    }

    /// QEMU answered, so it is not silent. An event would not show that: one that takes no command may send some.
    pub(crate) fn answered(&mut self, now: Instant) {
        self.heard = Some(now);
        self.silent = false;
    }

    /// QEMU owes an answer for too long.
    pub(crate) fn fell_silent(&mut self) {
        self.silent = true;
    }

    /// What clients are told of when it changes.
    pub(crate) fn face(&self) -> Face {
        Face {
            state: self.life.state(),
            vcpus: self.vcpus,
            memory: self.memory,
            responding: !self.silent,
        }
    }

    /// When QEMU last said anything.
    pub(crate) fn since(&self) -> Option<Instant> {
        self.heard
    }

    /// The figures, by libvirt's names and in its units (virDomainListGetStats in libvirt-domain.c).
    pub(crate) fn statistics(&self) -> BTreeMap<String, Figure> {
        let count = |number: usize| Figure::Count(u64::try_from(number).unwrap_or(u64::MAX));
        let state = self.life.state();
        let mut figures = BTreeMap::from([
            ("state.state".to_owned(), Figure::Word(state.word().to_owned())),
            ("state.reason".to_owned(), Figure::Word(state.reason().to_owned())),
            ("vcpu.current".to_owned(), Figure::Count(u64::from(self.vcpus))),
            // In KiB, as all sizes of memory in libvirt.
            ("balloon.current".to_owned(), Figure::Count(self.memory / 1024)),
            ("block.count".to_owned(), count(self.blocks.len())),
        ]);
        for (number, block) in self.blocks.iter().enumerate() {
            figures.insert(format!("block.{number}.name"), Figure::Word(block.name.clone()));
            for (name, figure) in &block.figures {
                figures.insert(format!("block.{number}.{name}"), Figure::Count(*figure));
            }
        }
        figures
    }
}

/// The disks of `query-blockstats`, those that a device of the guest has.
fn blocks(answer: &Value) -> Vec<Block> {
    let all = answer.as_array().map(Vec::as_slice).unwrap_or_default();
    all.iter().filter_map(block).take(MOST_BLOCKS).collect()
}

fn block(entry: &Value) -> Option<Block> {
    let device = entry.get("qdev").and_then(Value::as_str)?;
    // Of /machine/peripheral/virtio-disk0/virtio-backend the alias, which the definition's live XML has too.
    let alias = device.strip_prefix("/machine/peripheral/").unwrap_or(device);
    let name = alias.split('/').next().unwrap_or(alias).chars().take(128).collect();
    let stats = entry.get("stats")?;
    let figure = |(member, name): (&str, &'static str)| Some((name, stats.get(member)?.as_u64()?));
    Some(Block { name, figures: BLOCK_FIGURES.into_iter().filter_map(figure).collect() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn answers_become_figures_with_libvirt_s_names() {
        let mut known = Known::default();
        let stats = json!({ "rd_bytes": 512, "rd_operations": 1, "wr_highest_offset": 4096, "idle_time_ns": 5 });
        let disk = "/machine/peripheral/virtio-disk0/virtio-backend";
        for (question, answer) in [
            (Question::Status, json!({ "status": "running", "running": true })),
            (Question::Cpus, json!([{ "cpu-index": 0 }, { "cpu-index": 1 }])),
            (Question::MemorySize, json!({ "base-memory": 1 << 20, "plugged-memory": 1 << 20 })),
            (Question::Blocks, json!([{ "qdev": disk, "stats": stats }, { "stats": stats }])),
        ] {
            known.on_answer(question, &answer);
        }
        let line = |(name, figure): (&String, &Figure)| match figure {
            Figure::Count(number) => format!("{name}={number}"),
            Figure::Word(word) => format!("{name}={word}"),
        };
        let figures: Vec<String> = known.statistics().iter().map(line).collect();
        let expected = [
            "balloon.current=2048",
            "block.0.allocation=4096",
            "block.0.name=virtio-disk0",
            "block.0.rd.bytes=512",
            "block.0.rd.reqs=1",
            "block.count=1",
            "state.reason=unknown",
            "state.state=running",
            "vcpu.current=2",
        ];
        assert_eq!(figures, expected);
    }

    #[test]
    fn the_balloon_tells_the_memory_when_there_is_one() {
        let mut known = Known::default();
        known.on_answer(Question::MemorySize, &json!({ "base-memory": 1024 }));
        known.on_answer(Question::Balloon, &json!({ "actual": 512 }));
        assert_eq!(known.face().memory, 512);
        known.on_event("BALLOON_CHANGE", &json!({ "actual": 256 }), Instant::now());
        assert_eq!(known.face().memory, 256);
    }

    #[test]
    fn answers_of_another_form_change_nothing() {
        let mut known = Known::default();
        known.on_answer(Question::Cpus, &json!([{}]));
        let before = known.face();
        for question in [Question::Status, Question::Cpus, Question::MemorySize, Question::Balloon]
        {
            for answer in [json!(null), json!("x"), json!({ "status": 1, "actual": -1 })] {
                known.on_answer(question, &answer);
            }
        }
        assert_eq!(known.face(), before);
    }

    #[test]
    fn only_an_answer_ends_the_silence() {
        let mut known = Known::default();
        known.fell_silent();
        known.on_event("RTC_CHANGE", &Value::Null, Instant::now());
        assert!(!known.face().responding && known.since().is_some());
        known.answered(Instant::now());
        assert!(known.face().responding);
    }
}

//! The guest's clock and timers, `<clock>`.

use crate::reader::Reader;
use crate::writer::Writer;

crate::keywords! {
    /// What the guest's real-time clock starts from.
    pub enum ClockOffset {
        /// Universal time.
        Utc = "utc",
        /// The host's local time.
        Localtime = "localtime",
        /// A named time zone.
        Timezone = "timezone",
        /// A distance from the basis, kept over restarts.
        Variable = "variable",
        /// A fixed time.
        Absolute = "absolute",
    }
}

crate::keywords! {
    /// What a variable offset is counted from.
    pub enum ClockBasis {
        /// Universal time.
        Utc = "utc",
        /// The host's local time.
        Localtime = "localtime",
    }
}

crate::keywords! {
    /// A source of ticks.
    pub enum TimerName {
        /// The platform's.
        Platform = "platform",
        /// The interval timer.
        Pit = "pit",
        /// The real-time clock.
        Rtc = "rtc",
        /// The high-precision event timer.
        Hpet = "hpet",
        /// The time stamp counter.
        Tsc = "tsc",
        /// KVM's paravirtual clock.
        Kvmclock = "kvmclock",
        /// Hyper-V's reference clock.
        Hypervclock = "hypervclock",
        /// ARM's virtual timer.
        Armvtimer = "armvtimer",
    }
}

crate::keywords! {
    /// What becomes of ticks that were missed.
    pub enum TickPolicy {
        /// They come later, at the normal rate.
        Delay = "delay",
        /// They come faster until all have come.
        Catchup = "catchup",
        /// They become one.
        Merge = "merge",
        /// They are lost.
        Discard = "discard",
    }
}

crate::keywords! {
    /// What a timer follows.
    pub enum TimerTrack {
        /// The guest's boot.
        Boot = "boot",
        /// The guest's own time.
        Guest = "guest",
        /// The host's wall clock.
        Wall = "wall",
        /// The host's real-time clock.
        Realtime = "realtime",
    }
}

crate::keywords! {
    /// How the time stamp counter is read.
    pub enum TscMode {
        /// As suits.
        Auto = "auto",
        /// By hardware.
        Native = "native",
        /// By emulation.
        Emulate = "emulate",
        /// By a paravirtual protocol.
        Paravirt = "paravirt",
        /// Safe over migration.
        Smpsafe = "smpsafe",
    }
}

crate::attributes! {
    /// How missed ticks are made up for.
    pub struct Catchup {
        /// From how many on.
        pub threshold: u64 = number "threshold",
        /// How fast.
        pub slew: u64 = number "slew",
        /// How many at most.
        pub limit: u64 = number "limit",
    }
}

/// A timer of the guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timer {
    /// Which.
    pub name: TimerName,
    /// Whether the guest has it.
    pub present: Option<bool>,
    /// What becomes of missed ticks.
    pub tick_policy: Option<TickPolicy>,
    /// What it follows.
    pub track: Option<TimerTrack>,
    /// Its frequency in Hz.
    pub frequency: Option<u64>,
    /// How it is read.
    pub mode: Option<TscMode>,
    /// How missed ticks are made up for.
    pub catchup: Option<Catchup>,
}

/// The guest's clock.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Clock {
    /// What it starts from; UTC when nothing is written.
    pub offset: Option<ClockOffset>,
    /// The distance in seconds for a variable offset, or `reset`.
    pub adjustment: Option<String>,
    /// What a variable offset is counted from.
    pub basis: Option<ClockBasis>,
    /// The time zone.
    pub timezone: Option<String>,
    /// The fixed time in seconds since 1970.
    pub start: Option<u64>,
    /// The timers.
    pub timers: Vec<Timer>,
}

impl Clock {
    pub(crate) fn parse(reader: &Reader<'_>) -> Self {
        Self {
            offset: reader.keyword("offset"),
            adjustment: reader.string("adjustment"),
            basis: reader.keyword("basis"),
            timezone: reader.string("timezone"),
            start: reader.number("start"),
            timers: reader.children("timer").iter().filter_map(Timer::parse).collect(),
        }
    }

    /// The timer of this name.
    #[must_use]
    pub fn timer(&self, name: TimerName) -> Option<&Timer> {
        self.timers.iter().find(|timer| timer.name == name)
    }

    pub(crate) fn write(&self, writer: &mut Writer) {
        writer
            .element("clock")
            .optional("offset", self.offset)
            .optional("timezone", self.timezone.as_ref())
            .optional("adjustment", self.adjustment.as_ref())
            .optional("basis", self.basis)
            .optional("start", self.start)
            .children_if_any(|w| self.timers.iter().for_each(|timer| timer.write(w)));
    }
}

impl Timer {
    fn parse(reader: &Reader<'_>) -> Option<Self> {
        let _ = reader.required("name", "rtc"); // The keyword itself is read next.
        Some(Self {
            present: reader.yes_no("present"),
            tick_policy: reader.keyword("tickpolicy"),
            track: reader.keyword("track"),
            frequency: reader.number("frequency"),
            mode: reader.keyword("mode"),
            catchup: reader.child("catchup").map(|catchup| Catchup::parse(&catchup)),
            name: reader.keyword("name")?,
        })
    }

    fn write(&self, writer: &mut Writer) {
        writer
            .element("timer")
            .attribute("name", self.name)
            .yes_no("present", self.present)
            .optional("tickpolicy", self.tick_policy)
            .optional("track", self.track)
            .optional("frequency", self.frequency)
            .optional("mode", self.mode)
            .children(|w| {
                if let Some(catchup) = &self.catchup {
                    catchup.write("catchup", w);
                }
            });
    }
}

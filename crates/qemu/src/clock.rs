//! The guest's clock and timers: `-rtc` and what goes with it.

use domain::{
    Clock, ClockBasis, ClockOffset, Domain, Faults, TickPolicy, Timer, TimerName, TimerTrack,
};

use crate::argv::Options;
use crate::board::Board;
use crate::command::Command;
use crate::facts::HostFacts;
use crate::rules::refuse_broken;

/// Fills in the clock's offset, and refuses timers that QEMU does not have.
pub(crate) fn complete(domain: &mut Domain, faults: &Faults) {
    let place = domain.place.child("clock");
    let clock = &mut domain.clock;
    let offset = *clock.offset.get_or_insert(ClockOffset::Utc);
    let reset = clock.adjustment.as_deref() == Some("reset");
    if clock.adjustment.is_some() && !reset {
        // So many seconds off a clock that is otherwise exact.
        let basis = match offset {
            ClockOffset::Utc => Some(ClockBasis::Utc),
            ClockOffset::Localtime => Some(ClockBasis::Localtime),
            ClockOffset::Variable | ClockOffset::Timezone | ClockOffset::Absolute => None,
        };
        if let Some(basis) = basis {
            clock.offset = Some(ClockOffset::Variable);
            clock.basis = Some(basis);
        }
    }
    clock.timers.iter().for_each(|timer| refuse_broken(faults, &place, unknown(timer)));
}

/// What QEMU's timers cannot do.
fn unknown(timer: &Timer) -> [(bool, &'static str); 4] {
    let policy = timer.tick_policy;
    let of = |name: TimerName| timer.name == name;
    [
        (of(TimerName::Platform), "QEMU has no timer 'platform'; remove it"),
        (
            of(TimerName::Rtc) && matches!(policy, Some(TickPolicy::Merge | TickPolicy::Discard)),
            "the timer 'rtc' delays lost ticks or catches up; use tickpolicy='delay' or 'catchup'",
        ),
        (
            of(TimerName::Rtc) && timer.track == Some(TimerTrack::Boot),
            "the timer 'rtc' tracks the guest or the host; use track='guest' or 'wall'",
        ),
        (
            of(TimerName::Pit) && policy == Some(TickPolicy::Merge),
            "the timer 'pit' merges no ticks; use another tickpolicy",
        ),
    ]
}

/// Adds `-rtc` and the policy of the interval timer.
pub(crate) fn arguments(command: &mut Command<'_>) {
    let clock = &command.domain.clock;
    let base = match base(clock, command.facts) {
        Ok(base) => base,
        Err(what) => {
            command.refuse(&command.domain.place.child("clock"), what);
            return;
        }
    };
    let is_pc = Board::of_domain(command.domain).is_pc();
    let rtc = clock.timer(TimerName::Rtc);
    let source = rtc.and_then(|timer| timer.track).and_then(clock_source);
    let slews = rtc.and_then(|timer| timer.tick_policy) == Some(TickPolicy::Catchup);
    let options =
        Options::pair("base", base).some("clock", source).some("driftfix", slews.then_some("slew"));
    command.argv.options("-rtc", options);
    if clock.timers.iter().any(|timer| timer.catchup.is_some()) {
        let what = "QEMU decides how fast a timer catches up and ignores the numbers; remove them";
        command.ignore(&command.domain.place.child("clock/timer/catchup"), what);
    }
    if let Some(policy) = clock.timer(TimerName::Pit).filter(|_| is_pc).and_then(lost_ticks) {
        let options = Options::pair("kvm-pit.lost_tick_policy", policy);
        command.argv.options("-global", options);
    }
}

fn base(clock: &Clock, facts: &HostFacts) -> Result<String, &'static str> {
    match clock.offset.unwrap_or(ClockOffset::Utc) {
        ClockOffset::Utc => Ok("utc".to_owned()),
        ClockOffset::Localtime => Ok("localtime".to_owned()),
        ClockOffset::Timezone => {
            Err("this offset is not supported yet by glassbox; use offset='utc' or 'localtime'")
        }
        ClockOffset::Variable => {
            let host = facts.clock.ok_or("what time it is on the host is not known")?;
            let local = clock.basis == Some(ClockBasis::Localtime);
            let adjustment = match clock.adjustment.as_deref() {
                None | Some("reset") => 0,
                Some(text) => text.parse::<i64>().map_err(
                    |_| "attribute 'adjustment' is no number of seconds; give such as 3600",
                )?,
            };
            let zone = if local { host.local_offset } else { 0 };
            Ok(date(host.now.saturating_add(zone).saturating_add(adjustment)))
        }
        ClockOffset::Absolute => {
            let start = clock.start.and_then(|start| i64::try_from(start).ok());
            start.map(date).ok_or("attribute 'start' is missing; give seconds since 1970")
        }
    }
}

/// A time in seconds since 1970 as `2009-02-13T23:31:30`.
///
/// Days are turned into a date by Howard Hinnant's algorithm for the civil calendar, which counts years from
/// March, so that the leap day is the last day of a year (<https://howardhinnant.github.io/date_algorithms.html>).
fn date(seconds: i64) -> String {
    const DAY: i64 = 86_400;
    const ERA: i64 = 146_097; // The days of 400 years.
    let (days, second) = (seconds.div_euclid(DAY) + 719_468, seconds.rem_euclid(DAY));
    let (era, day) = (days.div_euclid(ERA), days.rem_euclid(ERA));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year + i64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")
}

fn clock_source(track: TimerTrack) -> Option<&'static str> {
    match track {
        TimerTrack::Guest => Some("vm"),
        TimerTrack::Wall => Some("host"),
        TimerTrack::Realtime => Some("rt"),
        TimerTrack::Boot => None,
    }
}

fn lost_ticks(timer: &Timer) -> Option<&'static str> {
    match timer.tick_policy? {
        TickPolicy::Delay => Some("delay"),
        TickPolicy::Discard => Some("discard"),
        // The timer makes up for lost ticks by itself; merging is none of its arts.
        TickPolicy::Catchup | TickPolicy::Merge => None,
    }
}

#[cfg(test)]
mod tests {
    use super::date;

    #[test]
    fn dates_are_of_the_civil_calendar() {
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00"),
            (-1, "1969-12-31T23:59:59"),
            (951_782_400, "2000-02-29T00:00:00"),
            (1_234_567_890, "2009-02-13T23:31:30"),
            (4_107_542_400, "2100-03-01T00:00:00"),
        ] {
            assert_eq!(date(seconds), expected);
        }
    }
}

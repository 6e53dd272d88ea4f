//! The guest's clock and timers: `-rtc` and what goes with it.

use domain::{ClockOffset, Domain, TickPolicy, Timer, TimerName, TimerTrack};

use crate::argv::Options;
use crate::command::Command;

/// Fills in the clock's offset.
pub(crate) fn complete(domain: &mut Domain) {
    domain.clock.offset.get_or_insert(ClockOffset::Utc);
}

/// Adds `-rtc` and the policy of the interval timer.
pub(crate) fn arguments(command: &mut Command<'_>) {
    let clock = &command.domain.clock;
    let base = match clock.offset.unwrap_or(ClockOffset::Utc) {
        ClockOffset::Utc => "utc",
        ClockOffset::Localtime => "localtime",
        ClockOffset::Timezone | ClockOffset::Variable | ClockOffset::Absolute => {
            let place = command.domain.place.child("clock");
            command
                .refuse(&place, "this offset is not supported yet by glassbox; use offset='utc'");
            return;
        }
    };
    let rtc = clock.timer(TimerName::Rtc);
    let source = rtc.and_then(|timer| timer.track).and_then(clock_source);
    let slews = rtc.and_then(|timer| timer.tick_policy) == Some(TickPolicy::Catchup);
    let options =
        Options::pair("base", base).some("clock", source).some("driftfix", slews.then_some("slew"));
    command.argv.options("-rtc", options);
    if let Some(policy) = clock.timer(TimerName::Pit).and_then(lost_ticks) {
        let options = Options::pair("kvm-pit.lost_tick_policy", policy);
        command.argv.options("-global", options);
    }
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

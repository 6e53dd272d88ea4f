//! The states of a guest and what each event does in them, as tables.

use super::ending::QUIT_TIMEOUT;
use super::*;
use qmp::{CommandError, Event};
use serde_json::{Value, json};
use std::time::Duration;

const DESTROY: Actions = Actions {
    on_poweroff: Action::Destroy,
    on_reboot: Action::Restart,
    on_crash: Action::Destroy,
    dumps: false,
};
const BOOT: Beginning =
    Beginning { has_consoles: true, has_threads: false, orders: 0, resumes: true };
const TIMEOUT: Option<Duration> = Some(Duration::from_secs(80));

fn event(name: &str, data: Value) -> Input {
    Input::Event(Event { name: name.to_owned(), data, time: None })
}

fn shutdown(reason: &str) -> Input {
    event("SHUTDOWN", json!({ "guest": true, "reason": reason }))
}

fn ok(command: Command) -> Input {
    Input::Reply(command, Ok(json!({})))
}

fn stop() -> Input {
    Input::Request(Request::Stop { timeout: TIMEOUT })
}

/// A guest brought to a phase in the way that guests come there.
fn guest_in(phase: Phase, actions: Actions) -> Guest {
    if phase == Phase::Incoming {
        return guest_that_waits(actions, "inmigrate");
    }
    let mut guest = Guest::new(actions, BOOT);
    let start = [
        (Phase::Negotiating, Input::Greeting),
        (Phase::Asking, ok(Command::Capabilities)),
        (Phase::Preparing, Input::Reply(Command::QueryChardev, Ok(json!([])))),
        (Phase::Running, ok(Command::Cont)),
    ];
    for (reached, input) in start {
        if guest.phase == phase {
            return guest;
        }
        guest.handle(input);
        assert_eq!(guest.phase, reached);
    }
    match phase {
        Phase::Paused => drop(guest.handle(event("STOP", json!({})))),
        Phase::Dumping => {
            guest.actions.dumps = true;
            guest.handle(event("GUEST_PANICKED", json!({ "action": "pause" })));
        }
        Phase::PoweringOff => drop(guest.handle(stop())),
        Phase::Quitting => drop(guest.handle(Input::Request(Request::Quit))),
        Phase::Killed => {
            guest.handle(Input::Request(Request::Quit));
            guest.handle(Input::DeadlinePassed);
        }
        Phase::Greeting
        | Phase::Negotiating
        | Phase::Asking
        | Phase::Pinning
        | Phase::Preparing
        | Phase::Incoming
        | Phase::Running => {}
    }
    assert_eq!(guest.phase, phase);
    guest
}

/// A guest that was not let go at its start and of which QEMU then said this.
fn guest_that_waits(actions: Actions, status: &str) -> Guest {
    let waits = Beginning { has_consoles: false, orders: 1, resumes: false, ..BOOT };
    let mut guest = Guest::new(actions, waits);
    guest.handle(Input::Greeting);
    let asked = [Command::Order(0), Command::QueryStatus].map(Effect::Send);
    assert!(guest.handle(ok(Command::Capabilities)).ends_with(&asked));
    assert_eq!(guest.handle(ok(Command::Order(0))), [], "not ready before all is done");
    let said = Input::Reply(Command::QueryStatus, Ok(json!({ "status": status })));
    assert!(matches!(guest.handle(said)[..], [Effect::Ready(_)]));
    guest
}

fn quitting() -> Vec<Effect> {
    vec![Effect::Stopping, Effect::Send(Command::Quit), Effect::Deadline(Some(QUIT_TIMEOUT))]
}

#[test]
fn a_start_ends_with_ready_and_not_before() {
    let mut guest = Guest::new(DESTROY, BOOT);
    assert_eq!(guest.handle(Input::Greeting), [Effect::Send(Command::Capabilities)]);
    assert_eq!(guest.handle(ok(Command::Capabilities)), [Effect::Send(Command::QueryChardev)]);
    let chardevs = json!([
        { "label": "charserial0", "filename": "pty:/dev/pts/3", "frontend-open": true },
        { "label": "charmonitor", "filename": "unix:x,server=on" },
    ]);
    let console = ConsolePath { chardev: "charserial0".into(), path: "/dev/pts/3".into() };
    assert_eq!(
        guest.handle(Input::Reply(Command::QueryChardev, Ok(chardevs))),
        [Effect::Consoles(vec![console]), Effect::Send(Command::Cont)]
    );
    assert_eq!(guest.handle(event("RESUME", json!({}))), []);
    assert_eq!(guest.handle(ok(Command::Cont)), [Effect::Ready(Standing::Running)]);
}

#[test]
fn a_stop_in_each_phase() {
    let asked = || {
        vec![
            Effect::Stopping,
            Effect::Status("asked the guest to power down".into()),
            Effect::Send(Command::Powerdown),
            Effect::Deadline(TIMEOUT),
        ]
    };
    let mut woken = asked();
    woken.insert(2, Effect::Send(Command::Cont));
    for (phase, effects) in [
        (Phase::Greeting, quitting()),
        (Phase::Negotiating, quitting()),
        (Phase::Asking, quitting()),
        (Phase::Preparing, quitting()),
        (Phase::Incoming, quitting()),
        (Phase::Running, asked()),
        (Phase::Paused, woken),
        (Phase::Dumping, quitting()),
        (Phase::PoweringOff, vec![]),
        (Phase::Quitting, vec![]),
        (Phase::Killed, vec![]),
    ] {
        assert_eq!(guest_in(phase, DESTROY).handle(stop()), effects, "{phase:?}");
    }
}

#[test]
fn a_guest_that_is_given_no_time_is_not_asked() {
    for phase in [Phase::Running, Phase::Paused] {
        let mut guest = guest_in(phase, DESTROY);
        let stop = Request::Stop { timeout: Some(Duration::ZERO) };
        assert_eq!(guest.handle(Input::Request(stop)), quitting(), "{phase:?}");
        assert_eq!(guest.handle(Input::Ended(Ended::Exited(0))), [Effect::Finish(Fate::Stopped)]);
    }
}

#[test]
fn a_guest_that_shuts_down_is_quit_and_ends_well() {
    for phase in [Phase::Running, Phase::PoweringOff] {
        let mut guest = guest_in(phase, DESTROY);
        assert_eq!(guest.handle(shutdown("guest-shutdown")), quitting(), "{phase:?}");
        assert_eq!(guest.handle(ok(Command::Quit)), []);
        assert_eq!(guest.handle(Input::Ended(Ended::Exited(0))), [Effect::Finish(Fate::Stopped)]);
    }
}

#[test]
fn a_guest_that_ignores_the_button_is_quit_then_killed() {
    let mut guest = guest_in(Phase::PoweringOff, DESTROY);
    let mut effects = guest.handle(Input::DeadlinePassed);
    assert!(matches!(effects.remove(0), Effect::Warn(_)));
    assert_eq!(effects, quitting());
    let effects = guest.handle(Input::DeadlinePassed);
    assert_eq!(effects.last(), Some(&Effect::Kill));
    assert_eq!(
        guest.handle(Input::Ended(Ended::Signalled(9))),
        [Effect::Finish(Fate::StopTimeout)]
    );
}

/// QEMU starts a guest anew that resets, so another action for that has QEMU hold the guest and tell.
#[test]
fn a_reboot_is_held_when_it_is_not_to_restart() {
    for on_reboot in [Action::Destroy, Action::Preserve] {
        let actions = Actions { on_poweroff: Action::Restart, on_reboot, ..DESTROY };
        let run_on = [Effect::Send(Command::RebootShutsDown), Effect::Send(Command::Cont)];
        let mut guest = guest_in(Phase::Asking, actions);
        let reply = Input::Reply(Command::QueryChardev, Ok(json!([])));
        assert_eq!(guest.handle(reply)[1..], run_on);

        let mut guest = guest_in(Phase::Running, actions);
        let effects = guest.handle(shutdown("guest-shutdown"));
        let resets = [Effect::Send(Command::RebootResets), Effect::Send(Command::Reset)];
        assert_eq!(effects[1..], resets, "the shim's own reset is not held");
        assert_eq!(guest.handle(event("RESET", json!({}))), [Effect::Send(Command::Cont)]);
    }
    let error = CommandError { class: "CommandNotFound".into(), desc: "old".into() };
    let mut guest = guest_in(Phase::Preparing, DESTROY);
    assert_eq!(guest.handle(Input::Reply(Command::RebootShutsDown, Err(error))), quitting());
}

#[test]
fn the_actions_decide_what_follows() {
    let all =
        |action| Actions { on_poweroff: action, on_reboot: action, on_crash: action, dumps: false };
    let shutdown = |reason: &str| ("SHUTDOWN", json!({ "guest": true, "reason": reason }));
    for (input, fate) in [
        (shutdown("guest-shutdown"), Fate::Stopped),
        (shutdown("guest-reset"), Fate::Stopped),
        (shutdown("guest-panic"), Fate::Panicked),
        (("GUEST_PANICKED", json!({ "action": "pause" })), Fate::Panicked),
    ] {
        let replay = || event(input.0, input.1.clone());
        let mut guest = guest_in(Phase::Running, all(Action::Restart));
        assert_eq!(guest.handle(replay()).last(), Some(&Effect::Send(Command::Reset)), "{input:?}");
        assert_eq!(guest.handle(event("RESET", json!({}))), [Effect::Send(Command::Cont)]);
        assert_eq!(
            guest.handle(event("RESET", json!({}))),
            [],
            "a reset by the guest needs no cont"
        );
        assert_eq!(guest.phase, Phase::Running);

        let mut guest = guest_in(Phase::Running, all(Action::Destroy));
        assert!(guest.handle(replay()).ends_with(&quitting()), "{input:?}");
        assert_eq!(guest.handle(Input::Ended(Ended::Exited(0))), [Effect::Finish(fate)]);

        let mut guest = guest_in(Phase::Running, all(Action::Preserve));
        assert!(matches!(guest.handle(replay()).last(), Some(Effect::Status(_))), "{input:?}");
        assert_eq!(guest.handle(event("STOP", json!({}))), [], "the status keeps saying why");
        assert_eq!(guest.handle(stop()), quitting(), "a guest that is shut down cannot be asked");
    }
}

#[test]
fn how_qemu_ended_decides_when_nothing_else_did() {
    let failed = |words: &str| Fate::StartFailed(words.into());
    let crashed = |words: &str| Fate::Crashed(words.into());
    for (phase, ended, fate) in [
        (
            Phase::Greeting,
            Ended::Exited(1),
            failed("QEMU ended with status 1 before the guest ran, and said why before this"),
        ),
        (Phase::Asking, Ended::Signalled(6), crashed("QEMU was killed by SIGABRT")),
        (Phase::Running, Ended::Exited(1), crashed("QEMU ended with status 1")),
        (Phase::Running, Ended::Exited(0), Fate::Stopped),
        (Phase::Running, Ended::Signalled(9), crashed("QEMU was killed by SIGKILL")),
        (Phase::PoweringOff, Ended::Signalled(11), crashed("QEMU was killed by SIGSEGV")),
        (Phase::Quitting, Ended::Exited(0), Fate::Stopped),
        (Phase::Quitting, Ended::Signalled(6), crashed("QEMU was killed by SIGABRT")),
        (Phase::Killed, Ended::Signalled(9), Fate::Stopped),
    ] {
        let effects = guest_in(phase, DESTROY).handle(Input::Ended(ended));
        assert_eq!(effects, [Effect::Finish(fate)], "{phase:?} {ended:?}");
    }
}

#[test]
fn a_quit_over_another_monitor_is_a_stop() {
    let mut guest = guest_in(Phase::Running, DESTROY);
    let effects = guest.handle(shutdown("host-qmp-quit"));
    assert_eq!(effects, [Effect::Stopping, Effect::Deadline(Some(QUIT_TIMEOUT))]);
    assert_eq!(guest.handle(Input::Ended(Ended::Exited(0))), [Effect::Finish(Fate::Stopped)]);
}

#[test]
fn the_second_interrupt_quits() {
    let mut guest = guest_in(Phase::Running, DESTROY);
    let interrupt = || Input::Request(Request::Interrupt { timeout: None });
    assert!(guest.handle(interrupt()).contains(&Effect::Send(Command::Powerdown)));
    assert_eq!(guest.handle(interrupt()), quitting());
}

#[test]
fn a_lost_monitor_leaves_the_guest_running_and_stoppable() {
    let mut guest = guest_in(Phase::Running, DESTROY);
    assert!(matches!(guest.handle(Input::MonitorLost("gone".into()))[..], [Effect::Warn(_)]));
    let effects = guest.handle(stop());
    assert_eq!(
        effects,
        [Effect::Stopping, Effect::Terminate, Effect::Deadline(Some(QUIT_TIMEOUT))]
    );
}

#[test]
fn a_refused_start_is_told_in_qemus_words() {
    let mut guest = guest_in(Phase::Preparing, DESTROY);
    let error = CommandError { class: "GenericError".into(), desc: "no".into() };
    assert_eq!(guest.handle(Input::Reply(Command::Cont, Err(error))), quitting());
    let fate = Fate::StartFailed("QEMU refused cont: no (GenericError)".into());
    assert_eq!(guest.handle(Input::Ended(Ended::Exited(0))), [Effect::Finish(fate)]);
}

#[test]
fn requests_press_the_buttons() {
    let request = |phase, request| guest_in(phase, DESTROY).handle(Input::Request(request));
    assert_eq!(request(Phase::Running, Request::Reset), [Effect::Send(Command::Reset)]);
    assert_eq!(request(Phase::Greeting, Request::Reset), []);
    assert_eq!(request(Phase::Running, Request::Poweroff)[1..], [Effect::Send(Command::Powerdown)]);
    assert_eq!(
        request(Phase::Paused, Request::Poweroff),
        [Effect::Send(Command::Cont), Effect::Send(Command::Powerdown)]
    );
    assert_eq!(request(Phase::Greeting, Request::Poweroff), quitting());
}

#[test]
fn a_reboot_is_a_shutdown_that_starts_anew() {
    let reboot = || Input::Request(Request::Reboot);
    let mut guest = guest_in(Phase::Running, DESTROY);
    let pressed = [Effect::Status("rebooting".to_owned()), Effect::Send(Command::Powerdown)];
    assert_eq!(guest.handle(reboot()), pressed);
    let effects = guest.handle(shutdown("guest-shutdown"));
    assert!(effects.contains(&Effect::Send(Command::Reset)), "{effects:?}");
    assert_eq!(guest.handle(event("RESET", json!({}))), [Effect::Send(Command::Cont)]);
    // The next shutdown is the guest's own.
    assert_eq!(guest.handle(shutdown("guest-shutdown")), quitting());

    let mut guest = guest_in(Phase::Paused, DESTROY);
    assert_eq!(guest.handle(reboot())[0], Effect::Send(Command::Cont), "it must see the button");
    guest.handle(event("RESUME", json!({})));
    // Who is asked to power off after that is not to come back.
    guest.handle(Input::Request(Request::Poweroff));
    assert_eq!(guest.handle(shutdown("guest-shutdown")), quitting());

    let mut guest = guest_in(Phase::Running, DESTROY);
    guest.handle(reboot());
    guest.handle(stop());
    assert_eq!(guest.handle(shutdown("guest-shutdown")), quitting(), "a stop is for good");
    assert_eq!(guest_in(Phase::Greeting, DESTROY).handle(reboot()), []);
}

#[test]
fn orders_are_given_before_the_cpus_run() {
    let mut guest = Guest::new(DESTROY, Beginning { has_consoles: false, orders: 2, ..BOOT });
    guest.handle(Input::Greeting);
    let effects = guest.handle(ok(Command::Capabilities));
    let last = [Command::Order(0), Command::Order(1), Command::Cont].map(Effect::Send);
    assert!(effects.ends_with(&last), "{effects:?}");
    let error = CommandError { class: "DeviceNotFound".into(), desc: "no net7".into() };
    assert_eq!(guest.handle(Input::Reply(Command::Order(0), Err(error))), quitting());
}

#[test]
fn an_aborted_guest_is_killed_and_lost() {
    let words = "it was aborted, as a watchdog does when QEMU does not answer";
    for phase in [Phase::Greeting, Phase::Running, Phase::Paused, Phase::PoweringOff] {
        let mut guest = guest_in(phase, DESTROY);
        let abort = || Input::Request(Request::Abort);
        assert_eq!(guest.handle(abort()), [Effect::Stopping, Effect::Kill], "{phase:?}");
        assert_eq!(guest.handle(abort()), []);
        assert_eq!(
            guest.handle(Input::Ended(Ended::Signalled(9))),
            [Effect::Finish(Fate::Crashed(words.into()))]
        );
    }
}

#[test]
fn a_guest_that_is_not_let_go_is_followed_to_where_others_bring_it() {
    let running = || vec![Effect::Status("running".into())];
    let resumed = || event("RESUME", json!({}));
    let through = || event("MIGRATION", json!({ "status": "completed" }));

    let mut paused = guest_that_waits(DESTROY, "prelaunch");
    assert_eq!(paused.handle(stop()), quitting(), "it never ran, so there is nobody to ask");
    let mut paused = guest_that_waits(DESTROY, "prelaunch");
    assert_eq!(paused.handle(resumed()), running());
    assert!(paused.handle(stop()).contains(&Effect::Send(Command::Powerdown)));

    let mut incoming = guest_that_waits(DESTROY, "inmigrate");
    assert_eq!(incoming.handle(event("MIGRATION", json!({ "status": "active" }))), []);
    assert_eq!(incoming.handle(resumed()), running());
    assert_eq!(incoming.handle(through()), [], "it ran where it came from");
    assert_eq!(incoming.phase, Phase::Running);

    let mut incoming = guest_that_waits(DESTROY, "inmigrate");
    let status = Effect::Status("paused, as it came in".into());
    assert_eq!(incoming.handle(through()), [status]);
    assert_eq!(incoming.handle(resumed()), running());

    let came_in_at_once = guest_that_waits(DESTROY, "running");
    assert_eq!((came_in_at_once.phase, came_in_at_once.started), (Phase::Running, true));
}

#[test]
fn a_migration_that_fails_is_a_failed_start() {
    let mut guest = guest_in(Phase::Incoming, DESTROY);
    let words =
        "QEMU ended with status 1 before the guest ran, and said why before this".to_owned();
    let end = guest.handle(Input::Ended(Ended::Exited(1)));
    assert_eq!(end, [Effect::Finish(Fate::StartFailed(words))]);
}

#[test]
fn a_lost_caller_ends_qemu_at_once_in_each_phase() {
    let soon = || Effect::Deadline(Some(super::ending::LOST_TIMEOUT));
    let flushed = || [quitting(), vec![soon()]].concat();
    for (phase, effects, fate) in [
        (Phase::Greeting, vec![Effect::Kill], Fate::CallerLost),
        (Phase::Negotiating, vec![Effect::Kill], Fate::CallerLost),
        (Phase::Asking, vec![Effect::Kill], Fate::CallerLost),
        (Phase::Preparing, vec![Effect::Kill], Fate::CallerLost),
        (Phase::Incoming, flushed(), Fate::CallerLost),
        (Phase::Running, flushed(), Fate::CallerLost),
        (Phase::Paused, flushed(), Fate::CallerLost),
        (Phase::Dumping, flushed(), Fate::CallerLost),
        (Phase::PoweringOff, flushed(), Fate::CallerLost),
        (Phase::Quitting, vec![soon()], Fate::Stopped),
        (Phase::Killed, vec![], Fate::Stopped),
    ] {
        let mut guest = guest_in(phase, DESTROY);
        let told = guest.handle(Input::Request(Request::CallerLost));
        assert_eq!(told, effects, "{phase:?}");
        guest.handle(Input::DeadlinePassed);
        let end = guest.handle(Input::Ended(Ended::Signalled(9)));
        assert_eq!(end, [Effect::Finish(fate)], "{phase:?}");
    }
}

#[test]
fn threads_are_pinned_before_anything_else_is_ordered() {
    let start = Beginning { has_threads: true, orders: 1, ..BOOT };
    let asked = || {
        let mut guest = Guest::new(DESTROY, start);
        guest.handle(Input::Greeting);
        guest.handle(ok(Command::Capabilities));
        let effects = guest.handle(Input::Reply(Command::QueryChardev, Ok(json!([]))));
        let asks = [Command::QueryCpus, Command::QueryIothreads].map(Effect::Send);
        assert_eq!(effects[1..], asks);
        let vcpus = json!([{ "cpu-index": 0, "thread-id": 7, "qom-path": "/machine" }]);
        assert_eq!(guest.handle(Input::Reply(Command::QueryCpus, Ok(vcpus.clone()))), []);
        let iothreads = json!([{ "id": "iothread2", "thread-id": 8, "poll-grow": 0 }]);
        let mut threads = Threads::default();
        threads.learn_vcpus(&vcpus);
        threads.learn_iothreads(&iothreads);
        let effects = guest.handle(Input::Reply(Command::QueryIothreads, Ok(iothreads)));
        assert_eq!(effects, [Effect::Pin(threads)]);
        guest
    };
    let mut guest = asked();
    let run = [Effect::Send(Command::Order(0)), Effect::Send(Command::Cont)];
    assert_eq!(guest.handle(Input::Pinned(Ok(()))), run);

    let mut guest = asked();
    assert_eq!(guest.handle(Input::Pinned(Err("no such CPU".into()))), quitting());
    let fate = Fate::StartFailed("no such CPU".into());
    assert_eq!(guest.handle(Input::Ended(Ended::Exited(0))), [Effect::Finish(fate)]);

    let mut guest = asked();
    assert_eq!(guest.handle(stop()), quitting(), "as in every phase before the guest runs");
    assert_eq!(guest.handle(Input::Pinned(Ok(()))), []);
}

#[test]
fn memory_is_written_before_a_panicked_guest_is_acted_on() {
    let panic = || event("GUEST_PANICKED", json!({ "action": "pause" }));
    let through = || event("DUMP_COMPLETED", json!({ "result": { "status": "completed" } }));
    let failed = || event("DUMP_COMPLETED", json!({ "result": {}, "error": "disk full" }));
    let refused = || {
        let error = CommandError { class: "GenericError".into(), desc: "no such folder".into() };
        Input::Reply(Command::Dump, Err(error))
    };
    for (on_crash, last) in
        [(Action::Destroy, quitting()), (Action::Restart, vec![Effect::Send(Command::Reset)])]
    {
        for end in [through, failed, refused] {
            let mut guest = guest_in(Phase::Running, Actions { on_crash, dumps: true, ..DESTROY });
            assert_eq!(guest.handle(panic()).last(), Some(&Effect::Send(Command::Dump)));
            assert_eq!(guest.handle(ok(Command::Dump)), [], "it only began");
            assert_eq!(guest.handle(shutdown("guest-panic")), [], "QEMU tells of it twice");
            assert_eq!(guest.handle(shutdown("guest-shutdown")), []);
            let input = end();
            let sound = matches!(&input, Input::Event(event) if event.text("error").is_none());
            let effects = guest.handle(input);
            assert!(effects.ends_with(&last), "{effects:?}");
            assert_eq!(matches!(effects[0], Effect::Warn(_)), !sound, "{effects:?}");
        }
    }
    let mut stopped = guest_in(Phase::Dumping, DESTROY);
    assert_eq!(stopped.handle(stop()), quitting());
    assert_eq!(stopped.handle(Input::Ended(Ended::Exited(0))), [Effect::Finish(Fate::Panicked)]);
}

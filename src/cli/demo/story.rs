//! What is told of a run, as lines. Those that begin with `page:`, `forge:`, `status:` and `build:` are fixed: programs
//! read them.

use std::time::Duration;

use crate::domain::build::Build;
use crate::domain::outcome::Outcome;
use crate::domain::step::{CacheUse, Step, StepKind};

use super::forge::{Answer, Pushed, Received};
use super::prerequisites::{Item, Missing};
use crate::cli::lanes::harmless;

/// What was found on this machine.
pub(super) fn prerequisites(items: &[Item]) -> String {
    let lines: Vec<String> = items.iter().map(|item| prerequisite(item.name, &item.found)).collect();
    format!("prerequisites\n{}", lines.join("\n"))
}

/// One line of that list.
pub(super) fn prerequisite(name: &str, found: &str) -> String {
    format!("  {name:11} {found}")
}

/// What is not there, with the commands that mend it.
pub(super) fn missing(missing: &[Missing]) -> String {
    let lines: Vec<String> = missing.iter().map(Missing::to_string).collect();
    format!("hookmill demo can't run yet; it needs:\n{}\nThen run it again.", lines.join("\n"))
}

/// How somebody on another machine sees both pages.
pub(super) fn from_elsewhere(ports: [&str; 2], ssh_connection: Option<&str>, user: Option<&str>, host: &str) -> String {
    let [server, forge] = ports;
    // "client address, client port, server address, server port": the address by which the person got here.
    let address = ssh_connection.and_then(|words| words.split(' ').nth(2)).unwrap_or(host);
    let way = format!("ssh -L {server}:127.0.0.1:{server} -L {forge}:127.0.0.1:{forge}");
    let user = user.map(|user| format!("{user}@")).unwrap_or_default();
    format!("from another machine: {way} {user}{address}")
}

/// A commit goes to the forge.
pub(super) fn push(pushed: &Pushed) -> String {
    format!("push: {} {}", pushed.commit.short(), pushed.subject)
}

/// What the hook said.
pub(super) fn answer(answer: &Answer, server: &str) -> String {
    let head = format!("{} in {:.1} ms", answer.code, answer.took.as_secs_f64() * 1000.0);
    match answer.build {
        Some(build) => format!("{head}: build {build}, live at {server}/builds/{build}"),
        None => format!("{head}: {}", harmless(&answer.body)),
    }
}

/// A status that is not the last.
pub(super) fn meanwhile(received: &Received) -> String {
    format!("  {:10} heard {}: {}", "forge", received.status.state.as_str(), harmless(&received.status.sentence))
}

/// The last status, as the forge received it.
pub(super) fn status(received: &Received) -> String {
    format!("status: {} {}", received.status.state.as_str(), harmless(&received.status.sentence))
}

/// The build's last word.
pub(super) fn build(build: &Build) -> String {
    format!("build: {} {}", build.id, build.outcome.unwrap_or(Outcome::Broken).as_str())
}

/// What it brought to install side by side: the wall time of the install phase against the sum of its lanes. Nothing
/// when one of them was alone, restored or stopped.
pub(super) fn beside(steps: &[Step]) -> Option<String> {
    let installs: Vec<&Step> = steps.iter().filter(|step| step.kind == StepKind::Install).collect();
    let whole = |step: &&&Step| step.outcome == Some(Outcome::Passed) && step.cache != CacheUse::Hit;
    if installs.len() < 2 || !installs.iter().all(|step| whole(&step)) {
        return None;
    }
    let times: Option<Vec<_>> =
        installs.iter().map(|step| Some((step.started_at?, step.finished_at?, step.name.as_str()))).collect();
    let times = times?;
    let begun = times.iter().map(|(start, ..)| *start).min()?;
    let ended = times.iter().map(|(_, end, _)| *end).max()?;
    let alone: Duration = times.iter().map(|(start, end, _)| end.since(*start)).sum();
    let (.., longest) = times.iter().max_by_key(|(start, end, _)| end.since(*start))?;
    let seconds = |time: Duration| format!("{:.1} s", time.as_secs_f64());
    Some(format!("beside {longest}: {}, not {}", seconds(ended.since(begun)), seconds(alone)))
}

/// The keys, for a person at a terminal.
pub(super) const KEYS: &str = "keys: p push, b break, f fix, o open, q quit";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::time::Timestamp;

    fn install(name: &str, start: i64, end: i64) -> Step {
        let mut step = Step::queued(name, StepKind::Install);
        step.outcome = Some(Outcome::Passed);
        step.started_at = Some(Timestamp(start));
        step.finished_at = Some(Timestamp(end));
        step
    }

    #[test]
    fn two_installs_beside_each_other() {
        let bundle = Step::queued("bundle", StepKind::Bundle);
        let steps = [install("npm", 1_000, 7_900), install("bower", 1_010, 4_810), bundle];
        assert_eq!(beside(&steps).as_deref(), Some("beside npm: 6.9 s, not 10.7 s"));
        assert_eq!(beside(&steps[..1]), None, "one alone is beside nothing");
        let mut stopped = steps.clone();
        stopped[1].outcome = Some(Outcome::Cancelled);
        assert_eq!(beside(&stopped), None);
        let mut restored = steps;
        restored[0].cache = CacheUse::Hit;
        assert_eq!(beside(&restored), None);
    }

    #[test]
    fn the_way_from_another_machine() {
        let way = |connection| from_elsewhere(["4665", "3000"], connection, Some("ada"), "box");
        assert_eq!(way(None), "from another machine: ssh -L 4665:127.0.0.1:4665 -L 3000:127.0.0.1:3000 ada@box");
        assert!(way(Some("10.0.0.9 50000 10.0.0.2 22")).ends_with("ada@10.0.0.2"));
    }
}

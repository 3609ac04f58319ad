//! Whose fault a failed step is, and the first useful line of what it printed.
//!
//! The exit status already decided *that* the step failed. This module reads what it printed to
//! decide between "theirs" (failed at once), and "ours or the registry's" (tried again, then
//! broken), and to find the line that a person needs. It never turns a failure into a pass, and
//! what it does not know is the repository's failure with the line that looks most like a cause.
//! The patterns were taken from real outputs, kept in `tests/data/outputs/`.

mod bower;
mod npm;
mod outage;
mod private;
mod siblings;
mod webpack;

use crate::config::server::Registry;
use crate::domain::build::StepKind;
use crate::domain::outcome::Outcome;
use crate::domain::sentence::one_line;
use crate::domain::spec::Network;
use crate::domain::trust::Trust;

/// How many bytes of the beginning of an output are worth keeping for a diagnosis.
pub const HEAD_BYTES: usize = 32 * 1024;
/// How many bytes of the end of an output are worth keeping for a diagnosis.
pub const TAIL_BYTES: usize = 64 * 1024;

/// How a step's process ended when it was not with status 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exit {
    /// It exited with this status.
    Code(i32),
    /// A signal ended it, named without `SIG`: `KILL`.
    Signal(String),
}

/// A step that did not succeed.
#[derive(Debug, Clone)]
pub struct Finished<'a> {
    /// The step's tool: `npm`, `bower`, `bundle`, a check's name.
    pub tool: &'a str,
    /// What it was doing.
    pub kind: StepKind,
    /// The program that was started.
    pub program: &'a str,
    /// What it could reach.
    pub network: Network,
    /// Whose code it was; a fork's bundle can't be given the network by its own file.
    pub trust: Trust,
    /// The tree's root as the step saw it (`/build`); taken off the paths in a reason.
    pub root: &'a str,
    /// How its process ended.
    pub exit: Exit,
    /// What it printed, lossily decoded: the first [`HEAD_BYTES`], a line break where something was
    /// left out, and the last [`TAIL_BYTES`].
    pub output: &'a str,
    /// Registries that have a token and gave none to this build, because it is a fork's.
    pub withheld: &'a [&'a Registry],
}

/// The word on a failed step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnosis {
    /// `Failed` or `Broken`.
    pub outcome: Outcome,
    /// True when another try may succeed: an outage, not a full disk.
    pub retry: bool,
    /// One line that completes "npm install failed: …" or "Not your commit: …".
    pub reason: String,
}

/// The longest reason. A sentence cuts it further; pages show it whole.
const MAX_REASON: usize = 300;

impl Diagnosis {
    fn theirs(reason: impl AsRef<str>) -> Self {
        Self { outcome: Outcome::Failed, retry: false, reason: one_line(reason.as_ref(), MAX_REASON) }
    }

    fn ours(reason: impl AsRef<str>) -> Self {
        Self { outcome: Outcome::Broken, retry: false, reason: one_line(reason.as_ref(), MAX_REASON) }
    }

    fn outage(reason: impl AsRef<str>) -> Self {
        Self { retry: true, ..Self::ours(reason) }
    }
}

/// Reads what a failed step printed.
pub fn diagnose(step: &Finished<'_>) -> Diagnosis {
    let plain = console::strip_ansi_codes(step.output).replace('\r', "\n");
    the_agents_fault(step, &plain)
        .or_else(|| out_of_memory(step, &plain))
        .or_else(|| private::diagnose(step, &plain))
        .or_else(|| match (step.kind, step.tool) {
            (StepKind::Install, "npm") => npm::diagnose(&plain),
            (StepKind::Install, "bower") => bower::diagnose(&plain),
            (StepKind::Install, "yarn") => siblings::yarn(&plain),
            (StepKind::Install, "pnpm") => siblings::pnpm(&plain),
            (StepKind::Install, "bun") => siblings::bun(&plain),
            (StepKind::Install | StepKind::Checkout, _) => None,
            (StepKind::Bundle | StepKind::Check, _) => webpack::diagnose(&plain, step.root)
                .or_else(|| closed_network(step, &plain))
                .or_else(|| npm::missing_script(&plain)),
        })
        .unwrap_or_else(|| anything_else(step, &plain))
}

/// Programs that come from the agent: that one of them is not there is not the commit's fault.
const AGENTS_PROGRAMS: [&str; 9] = ["node", "npm", "npx", "yarn", "pnpm", "bun", "bower", "git", "corepack"];

fn the_agents_fault(step: &Finished<'_>, output: &str) -> Option<Diagnosis> {
    if outage::disk_is_full(output) {
        return Some(Diagnosis::ours("no space left on the agent's disk"));
    }
    let missing = missing_program(step, output)?;
    if AGENTS_PROGRAMS.contains(&missing) && step.exit != Exit::Code(0) {
        return Some(Diagnosis::ours(format!("{missing} is not installed on the agent")));
    }
    let known = if missing == step.program { "not in node_modules/.bin or on PATH" } else { "command not found" };
    Some(Diagnosis::theirs(format!("{missing}: {known}; is it in package.json?")))
}

/// The program that a shell, env(1) or bubblewrap could not find.
fn missing_program<'a>(step: &Finished<'a>, output: &'a str) -> Option<&'a str> {
    for line in output.lines().rev() {
        if let Some(rest) = line.strip_prefix("bwrap: execvp ") {
            return rest.strip_suffix(": No such file or directory");
        }
        if step.exit != Exit::Code(127) {
            continue;
        }
        // dash: "sh: 1: x: not found"; bash: "sh: x: command not found", "sh: line 1: x: command not found".
        let shell = line.strip_prefix("sh: ").or_else(|| line.strip_prefix("/bin/sh: "));
        if let Some(found) = shell
            .and_then(|rest| rest.strip_suffix(": command not found").or_else(|| rest.strip_suffix(": not found")))
            .and_then(|rest| rest.rsplit(": ").next())
        {
            return Some(found);
        }
        // The first line of a script: "/usr/bin/env: 'node': No such file or directory".
        if let Some(rest) = line.strip_prefix("/usr/bin/env: ").or_else(|| line.strip_prefix("env: ")) {
            let name = rest.split(": No such file").next().unwrap_or(rest);
            return Some(name.trim_matches(['\'', '‘', '’', '"']));
        }
    }
    (step.exit == Exit::Code(127) && output.trim().is_empty()).then_some(step.program)
}

fn out_of_memory(step: &Finished<'_>, output: &str) -> Option<Diagnosis> {
    if output.contains("JavaScript heap out of memory") {
        return Some(Diagnosis::theirs(
            "out of memory, node's heap is full; raise it: NODE_OPTIONS = \"--max-old-space-size=4096\" under [env] in .hookmill.toml",
        ));
    }
    // 137 is what a shell or npm makes of a child that KILL ended.
    let killed = matches!(&step.exit, Exit::Signal(name) if name == "KILL") || step.exit == Exit::Code(137);
    killed.then(|| Diagnosis::theirs("killed by SIGKILL, perhaps out of memory (limits.memory)"))
}

/// The step had no network and asked for it: names the host and the line that opens it.
fn closed_network(step: &Finished<'_>, output: &str) -> Option<Diagnosis> {
    if step.network == Network::Open {
        return None;
    }
    let host = outage::unresolved_host(output)?;
    Some(Diagnosis::theirs(closed_to(host, step.kind, step.trust)))
}

/// What a person is told of a host that a step asked for and may not reach.
pub(super) fn closed_to(host: &str, kind: StepKind, trust: Trust) -> String {
    let allow = match (trust, kind) {
        (Trust::Fork, _) => "a fork's build has no network here",
        (_, StepKind::Bundle) => "allow it: bundle.network in .hookmill.toml",
        _ => "allow it: the check's network in .hookmill.toml",
    };
    format!("{host} is closed to this step; {allow}")
}

fn anything_else(step: &Finished<'_>, output: &str) -> Diagnosis {
    let ended = match &step.exit {
        Exit::Code(code) => format!("exit status {code}"),
        Exit::Signal(name) => format!("ended by SIG{name}"),
    };
    match telling_line(output) {
        Some(line) => Diagnosis::theirs(format!("{ended}, {line}")),
        None => Diagnosis::theirs(ended),
    }
}

/// The first line that speaks of an error, else the last one that says anything.
fn telling_line(output: &str) -> Option<&str> {
    let lines =
        || output.lines().map(npm::without_prefix).map(str::trim).filter(|line| !line.is_empty() && !is_noise(line));
    let speaks_of_an_error = |line: &&str| {
        let lower = line.to_lowercase();
        ["error", "fatal:", "failed", "cannot ", "exception"].iter().any(|word| lower.contains(word))
            && !lower.contains("0 errors")
            && !lower.contains("0 failed")
    };
    lines().find(speaks_of_an_error).or_else(|| lines().next_back())
}

/// Stack frames, npm's banners and pointers to files that nobody can open.
fn is_noise(line: &str) -> bool {
    line.starts_with("at ")
        || line.starts_with("> ")
        || line.starts_with("A complete log of this run")
        || line.starts_with("Node.js v")
        || !line.contains(char::is_alphanumeric)
}

#[cfg(test)]
mod tests;

//! Whose fault a failed step is, and the first useful line of what it printed.
//!
//! The exit status already decided *that* the step failed. This module reads what it printed to
//! decide between "theirs" (failed at once), and "ours or the registry's" (tried again, then
//! broken), and to find the line that a person needs. It never turns a failure into a pass, and
//! what it does not know is the repository's failure with the line that looks most like a cause.
//! Where the cause is a known one, the reason names it first and then the shortest line that mends it;
//! [`Diagnosis::mend`] has the lines whole.
//! The patterns were taken from real outputs, kept in `tests/data/outputs/`.

mod binary;
mod bower;
mod browser;
mod bundlers;
mod casing;
mod checkers;
mod closed;
mod history;
mod mend;
mod node;
mod npm;
mod outage;
mod private;
mod registry;
mod siblings;
mod webpack;

use std::path::Path;

use crate::config::server::Registry;
use crate::domain::outcome::Outcome;
use crate::domain::sentence::one_line;
use crate::domain::spec::Network;
use crate::domain::step::StepKind;
use crate::domain::trust::Trust;
use crate::egress::Visit;
use crate::process::Bound;

pub use closed::line_that_opens;

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
#[derive(Clone)]
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
    /// The names in a folder of the sources, which is given from the tree's root with `/`; the root is empty.
    pub names: &'a dyn Fn(&str) -> Vec<String>,
    /// How its process ended.
    pub exit: Exit,
    /// What it printed, lossily decoded: the first [`HEAD_BYTES`], a line break where something was
    /// left out, and the last [`TAIL_BYTES`].
    pub output: &'a str,
    /// Registries that have a token and gave none to this build, because it is a fork's.
    pub withheld: &'a [&'a Registry],
    /// What it asked for at its gate, if it had one.
    pub visits: &'a [Visit],
    /// `[sandbox] install_hosts` as it is written.
    pub install_hosts: &'a [String],
    /// A folder of this machine, built by hand: there is no server whose configuration could be changed.
    pub is_local: bool,
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
    /// What mends it, where the cause is a known one: lines to paste, with their file as a comment.
    pub mend: Option<String>,
}

/// The longest reason. A sentence cuts it further; pages show it whole.
const MAX_REASON: usize = 300;

impl Diagnosis {
    fn theirs(reason: impl AsRef<str>) -> Self {
        Self { outcome: Outcome::Failed, retry: false, reason: one_line(reason.as_ref(), MAX_REASON), mend: None }
    }

    fn ours(reason: impl AsRef<str>) -> Self {
        Self { outcome: Outcome::Broken, retry: false, reason: one_line(reason.as_ref(), MAX_REASON), mend: None }
    }

    fn outage(reason: impl AsRef<str>) -> Self {
        Self { retry: true, ..Self::ours(reason) }
    }

    fn mended_by(self, lines: impl Into<String>) -> Self {
        Self { mend: Some(lines.into()), ..self }
    }

    /// The same, of a step that sees another root: a program or library that it misses is missing there.
    pub fn in_root(self, root: &Path) -> Self {
        let root = root.display();
        let mut reason = self.reason;
        for what in ["is not installed", "is missing", "was found"] {
            reason = reason.replace(&format!("{what} on the agent"), &format!("{what} in the root {root}"));
        }
        let installing = |mend: String| mend.replace("# on the agent\napt-get", &format!("# chroot {root}\napt-get"));
        Self { reason, mend: self.mend.map(installing), ..self }
    }
}

/// Reads what a failed step printed.
pub fn diagnose(step: &Finished<'_>) -> Diagnosis {
    // grunt rings the terminal's bell in the middle of a sentence.
    let plain = console::strip_ansi_codes(step.output).replace('\r', "\n").replace('\u{7}', "");
    let found = the_agents_fault(step, &plain)
        .or_else(|| node::diagnose(&plain))
        .or_else(|| forbidden(step))
        .or_else(|| killed(step))
        .or_else(|| no_process_left(&plain))
        .or_else(|| private::diagnose(step, &plain))
        .or_else(|| not_executable(step, &plain))
        .or_else(|| match step.kind {
            StepKind::Install => {
                closed::named(step, &plain).or_else(|| closed::instead(step, of_an_install(step, &plain), &plain))
            }
            StepKind::Checkout => None,
            StepKind::Bundle | StepKind::Check => of_a_script(step, &plain),
        })
        .unwrap_or_else(|| anything_else(step, &plain));
    Diagnosis { mend: found.mend.map(|lines| mend::for_trust(lines, step.trust)), ..found }
}

/// What a package manager prints.
fn of_an_install(step: &Finished<'_>, output: &str) -> Option<Diagnosis> {
    match step.tool {
        "npm" => npm::diagnose(step, output),
        "bower" => bower::diagnose(output),
        "yarn" => siblings::yarn(step, output),
        "pnpm" => siblings::pnpm(step, output),
        "bun" => siblings::bun(step, output),
        _ => None,
    }
}

/// What the repository's own commands print, the surest signs first.
fn of_a_script(step: &Finished<'_>, output: &str) -> Option<Diagnosis> {
    casing::diagnose(step, output)
        .or_else(|| webpack::diagnose(output, step.root))
        .or_else(|| browser::diagnose(output))
        .or_else(|| bundlers::diagnose(step, output))
        .or_else(|| closed::network(step, output))
        .or_else(|| checkers::diagnose(step, output))
        .or_else(|| history::diagnose(output))
        .or_else(|| npm::missing_script(output))
}

/// Programs that come from the agent: that one of them is not there is not the commit's fault.
const AGENTS_PROGRAMS: [&str; 9] = ["node", "npm", "npx", "yarn", "pnpm", "bun", "bower", "git", "corepack"];

fn the_agents_fault(step: &Finished<'_>, output: &str) -> Option<Diagnosis> {
    if output.contains("System limit for number of file watchers reached") || output.contains("inotify_add_watch") {
        return Some(
            Diagnosis::ours(
                "no inotify watch is left on the agent; a watcher (--watch) runs in this step, or raise the limit",
            )
            .mended_by("# on the agent\nsysctl fs.inotify.max_user_watches=524288"),
        );
    }
    if outage::disk_is_full(output) {
        return Some(Diagnosis::ours("no space left on the agent's disk"));
    }
    if step.kind == StepKind::Install
        && let Some(found) = browser::library(output)
    {
        return Some(found);
    }
    let missing = missing_program(step, output)?;
    if AGENTS_PROGRAMS.contains(&missing) && step.exit != Exit::Code(0) {
        return Some(Diagnosis::ours(format!("{missing} is not installed on the agent")));
    }
    Some(no_dependency(step, missing, output))
}

/// A program that no dependency brought.
fn no_dependency(step: &Finished<'_>, missing: &str, output: &str) -> Diagnosis {
    let package = PACKAGE_OF.iter().find(|(program, _)| *program == missing).map_or(missing, |(_, package)| *package);
    let reason = match npm::running_script(output) {
        Some(script) => {
            format!("script \"{script}\" runs {missing}, which is not installed; is {package} in package.json?")
        }
        None if missing == step.program => {
            format!("{missing}: not in node_modules/.bin or on PATH; is {package} in package.json?")
        }
        None => format!("{missing}: command not found; is {package} in package.json?"),
    };
    Diagnosis::theirs(reason).mended_by(mend::by_hand(&format!("npm install --save-dev {package}")))
}

/// Programs whose package has another name.
const PACKAGE_OF: [(&str, &str); 12] = [
    ("ng", "@angular/cli"),
    ("tsc", "typescript"),
    ("vue-cli-service", "@vue/cli-service"),
    ("webpack-cli", "webpack-cli"),
    ("rspack", "@rspack/cli"),
    ("babel", "@babel/cli"),
    ("nest", "@nestjs/cli"),
    ("run-s", "npm-run-all"),
    ("run-p", "npm-run-all"),
    ("biome", "@biomejs/biome"),
    ("grunt", "grunt-cli"),
    ("storybook", "storybook"),
];

/// The program that a shell, env(1) or bubblewrap could not find.
fn missing_program<'a>(step: &Finished<'a>, output: &'a str) -> Option<&'a str> {
    for line in output.lines().rev() {
        if let Some(rest) = line.strip_prefix("bwrap: execvp ") {
            return rest.strip_suffix(": No such file or directory");
        }
        // pnpm makes 1 of the shell's 127, and says it in no other word.
        if step.exit != Exit::Code(127) && !output.contains(" ELIFECYCLE ") {
            continue;
        }
        // dash: "sh: 1: x: not found"; bash: "sh: x: command not found", "sh: line 1: x: command not found".
        let shell = ["sh: ", "/bin/sh: ", "/usr/bin/bash: "].iter().find_map(|shell| line.strip_prefix(shell));
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

/// A script that lost its mode on a file system without one. 126 is the shell's word for "found, and not to be run".
fn not_executable(step: &Finished<'_>, output: &str) -> Option<Diagnosis> {
    let line = output.lines().find(|line| step.exit == Exit::Code(126) && line.ends_with(": Permission denied"))?;
    let file = line.strip_suffix(": Permission denied")?.rsplit(": ").next()?.trim_start_matches("./");
    Some(
        Diagnosis::theirs(format!("{file} is not executable in the repository; git update-index --chmod=+x {file}"))
            .mended_by(mend::by_hand(&format!("git update-index --chmod=+x {file}"))),
    )
}

fn killed(step: &Finished<'_>) -> Option<Diagnosis> {
    // 137 is what a shell or npm makes of a child that KILL ended.
    let killed = matches!(&step.exit, Exit::Signal(name) if name == "KILL") || step.exit == Exit::Code(137);
    killed.then(|| {
        Diagnosis::theirs("killed by SIGKILL, perhaps out of memory (limits.memory)").mended_by(mend_of(Bound::Memory))
    })
}

/// What gives a step more of what it was ended for.
pub(super) fn mend_of(bound: Bound) -> String {
    mend::server(match bound {
        Bound::Memory => "[defaults]\nlimits = { memory = \"8GiB\" }",
        Bound::Processes => "[defaults]\nlimits = { processes = 1024 }",
    })
}

/// The one call that ends a process in the sandbox: that of a program for another kind of machine.
fn forbidden(step: &Finished<'_>) -> Option<Diagnosis> {
    // 159 is what a shell or npm makes of a child that SYS ended.
    let forbidden = matches!(&step.exit, Exit::Signal(name) if name == "SYS") || step.exit == Exit::Code(159);
    forbidden.then(|| Diagnosis::theirs("ended by SIGSYS: a 32-bit program, which the sandbox does not run"))
}

/// The kernel gave no further process, and who asked for one says so in its own way: shells, node, C libraries.
fn no_process_left(output: &str) -> Option<Diagnosis> {
    let line = output.lines().find(|line| {
        let is_refused = line.contains("Resource temporarily unavailable") || line.contains(" EAGAIN");
        line.contains("Cannot fork")
            || is_refused && ["fork: ", "pthread_create", "spawn "].iter().any(|asked| line.contains(asked))
    })?;
    let line = line.trim();
    Some(
        Diagnosis::theirs(format!("no further process was given (limits.processes): {line}"))
            .mended_by(mend_of(Bound::Processes)),
    )
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

/// What stands between the first mark and the end of its line.
fn after<'a>(text: &'a str, mark: &str) -> Option<&'a str> {
    text.split_once(mark)?.1.lines().next()
}

/// What stands between the first `from` and the next `to`.
fn between<'a>(text: &'a str, from: &str, to: &str) -> Option<&'a str> {
    text.split_once(from)?.1.split_once(to).map(|(inner, _)| inner)
}

#[cfg(test)]
mod tests;

//! The one line a forge shows beside a commit, and the contexts it stands under.
//!
//! Every function here answers with at most [`MAX_CHARS`] characters on one line: GitHub refuses a
//! longer description with 422, and what a step printed may hold line breaks, colours and worse.

use std::time::Duration;

use super::cache_note::Earlier;
use super::repo::CommitId;
use super::step::StepKind;
use super::time::brief;

/// The longest description that every forge takes, in characters (GitHub's limit).
pub const MAX_CHARS: usize = 140;

/// Makes one line of at most `max` characters from any text.
///
/// Escape sequences go, runs of white space and control characters become one space, characters
/// that turn the direction of what follows or show nothing go too, and a cut ends in `…`.
pub fn one_line(text: &str, max: usize) -> String {
    let plain = console::strip_ansi_codes(text);
    let visible = plain.chars().filter(|c| !is_invisible(*c));
    let spaced: String = visible.map(|c| if c.is_control() || c.is_whitespace() { ' ' } else { c }).collect();
    let line = spaced.split(' ').filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
    if line.chars().count() <= max {
        return line;
    }
    let mut cut: String = line.chars().take(max.saturating_sub(1)).collect();
    cut.truncate(cut.trim_end().len());
    cut.push('…');
    cut
}

/// Zero-width characters and Unicode's direction marks: a name made with them reads as another one.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}' | '\u{ad}')
}

fn line(text: impl AsRef<str>) -> String {
    one_line(text.as_ref(), MAX_CHARS)
}

/// A step that was good, as the sentence of a pass tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Good {
    /// Its name: `npm`, `3 bundles`.
    pub name: String,
    /// What it did.
    pub kind: StepKind,
    /// How long it ran; `None` for an install whose inputs were unchanged, so that nothing ran.
    pub took: Option<Duration>,
}

impl Good {
    fn spoken(&self) -> String {
        match self.took {
            Some(took) => format!("{} {}", self.name, brief(took)),
            None => format!("{} unchanged", self.name),
        }
    }
}

/// `Passed in 9s · npm 6s beside bower 3s · bundle 3s`, and `Passed in 9s · dependencies unchanged · bundle 7s` where no
/// install had to run.
///
/// Each element of `stages` holds steps that ran side by side. Stages that do not fit are left out whole, the last ones
/// first: half a figure would be a wrong figure.
pub fn passed(total: Duration, stages: &[Vec<Good>]) -> String {
    let mut sentence = line(format!("Passed in {}", brief(total)));
    let mut installs = stages.iter().flatten().filter(|step| step.kind == StepKind::Install).peekable();
    let unchanged = installs.peek().is_some() && installs.all(|step| step.took.is_none());
    let told = |step: &&Good| !unchanged || step.took.is_some();
    let stages = stages.iter().map(|stage| stage.iter().filter(told).map(Good::spoken).collect::<Vec<_>>());
    let dependencies = unchanged.then(|| vec!["dependencies unchanged".to_owned()]);
    for stage in dependencies.into_iter().chain(stages).filter(|stage| !stage.is_empty()) {
        let longer = format!("{sentence} · {}", one_line(&stage.join(" beside "), MAX_CHARS));
        if longer.chars().count() > MAX_CHARS {
            break;
        }
        sentence = longer;
    }
    sentence
}

/// `sentence` with `figure` behind it, where both fit on the line.
pub fn with_figure(sentence: &str, figure: &str) -> String {
    let longer = format!("{sentence} · {}", one_line(figure, MAX_CHARS));
    if longer.chars().count() <= MAX_CHARS { longer } else { line(sentence) }
}

/// `312 kB`, `1.2 MB`, as browsers and bundlers count: a kB is 1000 bytes. One decimal below ten.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["kB", "MB", "GB", "TB"];
    if bytes < 1000 {
        return format!("{bytes} B");
    }
    let mut amount = bytes as f64 / 1000.0;
    let mut units = UNITS.iter();
    let mut unit = units.next().unwrap_or(&"kB");
    // What would round to 1000 is shown in the next unit.
    while amount >= 999.5 {
        let Some(next) = units.next() else { break };
        amount /= 1000.0;
        unit = next;
    }
    let rounded = if amount < 9.95 { (amount * 10.0).round() / 10.0 } else { amount.round() };
    format!("{rounded} {unit}")
}

/// For a tree in which nothing is to be installed or bundled.
pub fn nothing_to_do() -> String {
    line("Passed: nothing to install or bundle (no package.json, bower.json or webpack configuration)")
}

/// `Passed without a build: only docs/** changed since 9f8e7d6`. The globs are hostile text.
pub fn needless(globs: &[String], since: &CommitId) -> String {
    let (begin, end) = ("Passed without a build: only ", format!(" changed since {}", since.short()));
    let shown = match globs {
        [first, second, _, ..] => format!("{first}, {second} and {} more", globs.len() - 2),
        few => few.join(" and "),
    };
    format!("{begin}{}{end}", one_line(&shown, MAX_CHARS.saturating_sub(begin.len() + end.len())))
}

/// `Passed: unchanged since build #12`, for the status of an install that did not have to run.
pub fn restored(note: Option<&str>) -> String {
    line(format!("Passed: {}", note.unwrap_or("unchanged")))
}

/// `Passed without a build: same files as 9f8e7d6`, for a commit whose tree, plan and environment passed before. A folder
/// has the files of an earlier run, which may be in no commit.
pub fn same_files(as_in: Earlier<'_>, commit: &CommitId) -> String {
    let those = match as_in {
        Earlier::Build(_) => commit.short().to_owned(),
        run @ Earlier::Run(_) => format!("in {run}"),
    };
    line(format!("Passed without a build: same files as {those}"))
}

/// `npm install failed: ERESOLVE, react@19.1.0 does not fit react-dom@18.3.1`. `step` is the step's name.
pub fn install_failed(step: &str, reason: &str) -> String {
    line(format!("{} failed: {reason}", spoken_install(step)))
}

/// `Bundle failed: 3 errors, first src/cart.js:14 Can't resolve './price'`.
pub fn bundle_failed(reason: &str) -> String {
    line(format!("Bundle failed: {reason}"))
}

/// `Check 'test' failed: 2 suites failed`.
pub fn check_failed(name: &str, reason: &str) -> String {
    line(format!("Check '{name}' failed: {reason}"))
}

/// The sentence of a step that failed by the repository's own fault.
pub fn step_failed(kind: StepKind, name: &str, reason: &str) -> String {
    match kind {
        StepKind::Checkout => line(format!("Checkout failed: {reason}")),
        StepKind::Install => install_failed(name, reason),
        StepKind::Bundle => bundle_failed(reason),
        StepKind::Check => check_failed(name, reason),
    }
}

/// `Not your commit: the npm registry answered 503 three times`. `attempts` counts from 1.
pub fn broken(reason: &str, attempts: u32) -> String {
    let times = match attempts {
        0 | 1 => String::new(),
        2 => " twice".to_owned(),
        3 => " three times".to_owned(),
        n => format!(" {n} times"),
    };
    // The count is the proof that it was tried again, so a long reason is cut before it.
    let room = MAX_CHARS.saturating_sub("Not your commit: ".len() + times.len());
    format!("Not your commit: {}{times}", one_line(reason, room))
}

/// `Not your commit: bower is not installed on the agent (npm install -g bower)`.
pub fn tool_missing(tool: &str, place: &str, mend: &str) -> String {
    broken(&format!("{tool} is not installed {place} ({mend})"), 1)
}

/// For a build of a fork that no maintainer has looked at.
pub fn waiting(commit: &CommitId) -> String {
    line(format!("Waiting for a maintainer: first build of a fork's commit {} needs approval", commit.short()))
}

/// `Superseded by a1b2c3d, pushed 40s later`.
pub fn superseded(by: &CommitId, later: Duration) -> String {
    line(format!("Superseded by {}, pushed {} later", by.short(), brief(later)))
}

/// `Cancelled by anna`. `who` is hostile text.
pub fn cancelled_by(who: &str) -> String {
    line(format!("Cancelled by {who}"))
}

/// `Timed out: check 'e2e' ran longer than 20m`.
pub fn timed_out(kind: StepKind, name: &str, limit: Duration) -> String {
    let what = match kind {
        StepKind::Checkout | StepKind::Bundle => name.to_owned(),
        StepKind::Install => spoken_install(name),
        StepKind::Check => format!("check '{name}'"),
    };
    let limit = humantime::format_duration(limit).to_string();
    let room = MAX_CHARS.saturating_sub("Timed out:  ran longer than ".len() + limit.len());
    format!("Timed out: {} ran longer than {limit}", one_line(&what, room))
}

/// For a build whose steps together took longer than `limits.build_timeout`.
pub fn build_timed_out(limit: Duration) -> String {
    line(format!("Timed out: the build ran longer than {}", humantime::format_duration(limit)))
}

/// `Out of memory: webpack passed 4 GiB (limits.memory)`. `limit` is in bytes.
pub fn out_of_memory(what: &str, limit: u64) -> String {
    line(format!("Out of memory: {what} passed {} (limits.memory)", gibibytes(limit)))
}

/// `Too many processes: webpack passed 512 (limits.processes)`.
pub fn too_many_processes(what: &str, limit: u64) -> String {
    line(format!("Too many processes: {what} passed {limit} (limits.processes)"))
}

/// A number of bytes as the configuration writes memory: `4 GiB`, `512 MiB`, `1.5 GiB`.
pub fn gibibytes(bytes: u64) -> String {
    const MIB: u64 = 1 << 20;
    const GIB: u64 = 1 << 30;
    match bytes {
        _ if bytes >= GIB && bytes.is_multiple_of(GIB) => format!("{} GiB", bytes / GIB),
        _ if bytes >= GIB => format!("{:.1} GiB", bytes as f64 / GIB as f64),
        _ if bytes >= MIB => format!("{} MiB", bytes / MIB),
        _ => format!("{bytes} B"),
    }
}

/// For a build that no agent has taken yet.
pub fn queued() -> String {
    "Queued".to_owned()
}

/// `Running: npm and bower`; `Running` before the first step.
pub fn running(steps: &[&str]) -> String {
    match steps {
        [] => "Running".to_owned(),
        [only] => line(format!("Running: {only}")),
        [most @ .., last] => line(format!("Running: {} and {last}", most.join(", "))),
    }
}

/// `npm install`, and `npm install in client` for the step `npm:client`.
fn spoken_install(step: &str) -> String {
    match step.split_once(':') {
        Some((tool, dir)) => format!("{tool} install in {dir}"),
        None => format!("{step} install"),
    }
}

/// The context of a step's own status (`mode = "steps"`), under the build's context `prefix`:
/// `hookmill/npm`, `hookmill/npm client` outside the root, `hookmill/bundle`, `hookmill/test`.
pub fn step_context(prefix: &str, kind: StepKind, name: &str) -> String {
    match (kind, name.split_once(':')) {
        (StepKind::Install, Some((tool, dir))) => format!("{prefix}/{tool} {dir}"),
        (StepKind::Bundle, _) => format!("{prefix}/bundle"),
        _ => format!("{prefix}/{name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::build::BuildId;
    use super::*;

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    fn install(name: &str, took: Option<u64>) -> Good {
        Good { name: name.to_owned(), kind: StepKind::Install, took: took.map(seconds) }
    }

    fn bundle(took: u64) -> Good {
        Good { name: "bundle".to_owned(), kind: StepKind::Bundle, took: Some(seconds(took)) }
    }

    fn commit() -> CommitId {
        "a1b2c3d".repeat(6)[..40].parse().expect("hex")
    }

    #[test]
    fn sizes_as_people_say_them() {
        let check = |bytes, said: &str| assert_eq!(size(bytes), said);
        check(0, "0 B");
        check(999, "999 B");
        check(1000, "1 kB");
        check(4_149, "4.1 kB");
        check(9_960, "10 kB");
        check(312_400, "312 kB");
        check(999_600, "1 MB");
        check(1_200_000, "1.2 MB");
        check(1 << 30, "1.1 GB");
        check(u64::MAX, "18446744 TB");
    }

    #[test]
    fn the_words_of_the_contract() {
        let check = |said: String, expected: &str| assert_eq!(said, expected);
        check(
            passed(seconds(9), &[vec![install("npm", Some(6)), install("bower", Some(3))], vec![bundle(3)]]),
            "Passed in 9s · npm 6s beside bower 3s · bundle 3s",
        );
        check(
            passed(seconds(9), &[vec![install("npm", None), install("bower", None)], vec![bundle(7)]]),
            "Passed in 9s · dependencies unchanged · bundle 7s",
        );
        check(
            passed(seconds(9), &[vec![install("npm", None), install("bower", Some(2))], vec![bundle(7)]]),
            "Passed in 9s · npm unchanged beside bower 2s · bundle 7s",
        );
        check(
            passed(seconds(9), &[vec![install("npm", None)], vec![install("bower", Some(2))], vec![bundle(7)]]),
            "Passed in 9s · npm unchanged · bower 2s · bundle 7s",
        );
        check(passed(seconds(1), &[vec![bundle(1)]]), "Passed in 1s · bundle 1s");
        check(restored(Some("unchanged since build #12")), "Passed: unchanged since build #12");
        let build = Earlier::Build(BuildId(12));
        check(same_files(build, &commit()), "Passed without a build: same files as a1b2c3d");
        let run = Earlier::Run(&commit());
        check(same_files(run, &commit()), "Passed without a build: same files as in the run at a1b2c3d");
        check(
            install_failed("npm", "ERESOLVE, react@19.1.0 does not fit react-dom@18.3.1"),
            "npm install failed: ERESOLVE, react@19.1.0 does not fit react-dom@18.3.1",
        );
        check(install_failed("npm:client", "no such package"), "npm install in client failed: no such package");
        check(
            bundle_failed("3 errors, first src/cart.js:14 Can't resolve './price'"),
            "Bundle failed: 3 errors, first src/cart.js:14 Can't resolve './price'",
        );
        check(broken("the npm registry answered 503", 3), "Not your commit: the npm registry answered 503 three times");
        check(waiting(&commit()), "Waiting for a maintainer: first build of a fork's commit a1b2c3d needs approval");
        check(superseded(&commit(), seconds(40)), "Superseded by a1b2c3d, pushed 40s later");
        check(timed_out(StepKind::Check, "e2e", seconds(1200)), "Timed out: check 'e2e' ran longer than 20m");
        check(out_of_memory("webpack", 4 << 30), "Out of memory: webpack passed 4 GiB (limits.memory)");
        check(too_many_processes("npm", 512), "Too many processes: npm passed 512 (limits.processes)");
        check(running(&["npm", "bower"]), "Running: npm and bower");
        check(running(&["a", "b", "c"]), "Running: a, b and c");
    }

    #[test]
    fn whatever_a_step_prints_becomes_one_short_line() {
        let hostile =
            "\u{1b}[31mERROR\u{1b}[0m\r\n\tin \u{202e}evil\0 \u{1b}]8;;javascript:alert(1)\u{7}link\u{1b}]8;;\u{7}";
        assert_eq!(one_line(hostile, 140), "ERROR in evil link");
        for sentence in [
            bundle_failed(&"é\n".repeat(4000)),
            broken(&"x".repeat(4000), 3),
            timed_out(StepKind::Check, &"x".repeat(4000), seconds(1)),
            check_failed(&"x".repeat(4000), "no"),
            cancelled_by(&"x".repeat(4000)),
            passed(seconds(1), &vec![vec![install("a-rather-long-step-name", Some(1))]; 40]),
            passed(seconds(1), &vec![vec![install("a-rather-long-step-name", None)]; 40]),
        ] {
            assert!(sentence.chars().count() <= MAX_CHARS, "{} characters: {sentence}", sentence.chars().count());
            assert!(!sentence.contains(char::is_control));
        }
        assert!(broken(&"x".repeat(4000), 3).ends_with("… three times"));
        assert_eq!(one_line("ab cd", 4), "ab…", "no space before the ellipsis");
        assert_eq!(one_line("日本語日本語", 4), "日本語…", "cut by characters, not bytes");
    }

    #[test]
    fn contexts() {
        let check = |kind, name, expected: &str| assert_eq!(step_context("hookmill", kind, name), expected);
        check(StepKind::Install, "npm", "hookmill/npm");
        check(StepKind::Install, "bower:client/old", "hookmill/bower client/old");
        check(StepKind::Bundle, "bundle", "hookmill/bundle");
        check(StepKind::Check, "test:unit", "hookmill/test:unit");
    }
}

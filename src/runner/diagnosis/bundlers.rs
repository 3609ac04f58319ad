//! Bundlers and task runners beside webpack: Vite and rollup, Angular, Next.js, gulp, grunt.

use super::{Diagnosis, Finished, after, between, closed, mend};
use crate::domain::spec::Network;

/// Reads what they print when they give up.
pub(super) fn diagnose(step: &Finished<'_>, output: &str) -> Option<Diagnosis> {
    let output = &output.replace(&format!("{}/", step.root), "");
    fonts(step, output)
        .or_else(|| angular(output))
        .or_else(|| rollup(output))
        .or_else(|| gulp(output))
        .or_else(|| grunt(output))
}

/// `Error: Failed to fetch `Inter` from Google Fonts.` of Next.js, whose builds fetch fonts.
fn fonts(step: &Finished<'_>, output: &str) -> Option<Diagnosis> {
    let font = between(output, "Failed to fetch `", "` from Google Fonts")
        .or_else(|| between(output, "Failed to fetch font `", "`"))?;
    if step.network == Network::Open {
        return Some(Diagnosis::theirs(format!("Next.js could not fetch the font {font} from Google Fonts")));
    }
    let addresses = ["fonts.googleapis.com:443", "fonts.gstatic.com:443"].map(str::to_owned);
    Some(closed::to(step, "fonts.googleapis.com", &addresses))
}

/// `bundle initial exceeded maximum budget. Budget 500.00 kB was not met by 12.00 kB with a total of 512.00 kB.`
fn angular(output: &str) -> Option<Diagnosis> {
    let line = output
        .lines()
        .find(|line| line.contains("exceeded maximum budget") && !line.to_lowercase().contains("warning"));
    if let Some(line) = line {
        let said = line
            .trim()
            .trim_start_matches(['✘', '▲', ' ', '\t'])
            .trim_start_matches("[ERROR] ")
            .trim_start_matches("Error: ");
        let what = said.split(" exceeded maximum budget").next().unwrap_or(said).trim();
        let figure = between(said, "with a total of ", " with").or_else(|| after(said, "with a total of "));
        let total = figure.map(|figure| format!(" with {}", figure.trim().trim_end_matches('.'))).unwrap_or_default();
        let budget = between(said, "Budget ", " was not met").unwrap_or("its budget");
        return Some(
            Diagnosis::theirs(format!("{what} is over its Angular budget of {budget}{total}; see budgets in angular.json"))
                .mended_by("# angular.json, under configurations.production\n\"budgets\": [{ \"type\": \"initial\", \"maximumError\": \"2mb\" }]"),
        );
    }
    output.contains("Would you like to share pseudonymous usage data").then(|| {
        Diagnosis::theirs("ng stopped to ask about its analytics; [env] NG_CLI_ANALYTICS = \"false\" answers it")
            .mended_by(mend::env("NG_CLI_ANALYTICS", "false"))
    })
}

/// Vite and rollup: `RollupError: main.js (1:8): Expression expected`, `Could not resolve "./price.js" from "main.js"`.
fn rollup(output: &str) -> Option<Diagnosis> {
    let (_, rest) = output.split_once("error during build:")?;
    let mut lines = rest.lines().map(str::trim).filter(|line| !line.is_empty());
    let first = lines.next()?;
    // `[vite:css] …` and `RollupError: …`: who says it matters less than what.
    let said = first.split_once("rror: ").map_or(first, |(_, said)| said);
    // `file: /build/main.js:1:8` follows where the message has no place of its own.
    let place = lines.take(3).find_map(|line| line.strip_prefix("file: "));
    let message = match said.split_once(" (").and_then(|(file, rest)| Some((file, rest.split_once("): ")?))) {
        Some((file, (at, said))) if at.starts_with(|c: char| c.is_ascii_digit()) => {
            format!("{file}:{} {said}", at.split(':').next().unwrap_or(at))
        }
        _ => match place.filter(|place| !said.contains(place.split(':').next().unwrap_or(place))) {
            Some(place) => format!("{} {said}", place.split('?').next().unwrap_or(place)),
            None => said.to_owned(),
        },
    };
    Some(Diagnosis::theirs(message))
}

/// gulp 3 and 4: `[21:02:15] 'build' errored after 1.99 ms`, its error in the next line.
fn gulp(output: &str) -> Option<Diagnosis> {
    let lines: Vec<&str> = output.lines().map(without_clock).collect();
    if let Some(task) = lines.iter().find_map(|line| line.strip_prefix("Task never defined: ")) {
        return Some(Diagnosis::theirs(format!("the gulpfile has no task {task}")));
    }
    if let Some(task) = lines.iter().find_map(|line| between(line, "Task '", "' is not in your gulpfile")) {
        return Some(Diagnosis::theirs(format!("the gulpfile has no task {task}")));
    }
    let at = lines.iter().position(|line| line.starts_with('\'') && line.contains("' errored after "))?;
    let task = lines[at].trim_start_matches('\'').split('\'').next()?;
    let said = lines[at + 1..].iter().map(|line| line.trim()).find(|line| !line.is_empty()).unwrap_or_default();
    Some(Diagnosis::theirs(format!("gulp {task}: {}", said.trim_start_matches("Error: "))))
}

/// A line without gulp's `[21:02:15] `.
fn without_clock(line: &str) -> &str {
    match line.strip_prefix('[').and_then(|rest| rest.split_once("] ")) {
        Some((clock, rest)) if clock.len() == 8 && clock.chars().all(|c| c.is_ascii_digit() || c == ':') => rest,
        _ => line,
    }
}

/// grunt: `Warning: … Use --force to continue.` or `Fatal error: …`; a plugin that is not there is told before it.
fn grunt(output: &str) -> Option<Diagnosis> {
    if let Some(plugin) = between(output, "Local Npm module \"", "\" not found")
        && output.contains(" not found. Use --force to continue.")
    {
        return Some(
            Diagnosis::theirs(format!("grunt: {plugin} is not installed; add it to devDependencies"))
                .mended_by(mend::by_hand(&format!("npm install --save-dev {plugin}"))),
        );
    }
    let warning = output.lines().find_map(|line| line.trim().strip_suffix(" Use --force to continue."));
    let fatal = || output.lines().find_map(|line| line.trim().strip_prefix("Fatal error: "));
    let said = warning.map(|line| line.trim_start_matches("Warning: ")).or_else(fatal)?;
    Some(Diagnosis::theirs(format!("grunt: {said}")))
}

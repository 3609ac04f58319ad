//! Checkers and test runners: the first failure by its name, and how many there are.

use super::{Diagnosis, Finished, after};

/// Reads TypeScript, `eslint`, mocha, jest, vitest, karma, jasmine and TAP.
pub(super) fn diagnose(step: &Finished<'_>, output: &str) -> Option<Diagnosis> {
    let output = &output.replace(&format!("{}/", step.root), "");
    let found = typescript(output)
        .or_else(|| eslint(output))
        .or_else(|| karma(output))
        .or_else(|| vitest(output))
        .or_else(|| jest(output))
        .or_else(|| mocha(output))
        .or_else(|| jasmine(output))
        .or_else(|| tap(output))?;
    Some(Diagnosis::theirs(found.to_string()))
}

/// The first failure and how many there are.
struct Found {
    /// `error` or `test`, said in the plural where there are more.
    what: &'static str,
    count: usize,
    first: String,
}

impl std::fmt::Display for Found {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.what, self.count) {
            ("error", 0 | 1) => write!(f, "1 error, {}", self.first),
            ("error", many) => write!(f, "{many} errors, first {}", self.first),
            (_, 0 | 1) => write!(f, "1 test failed: {}", self.first),
            (_, many) => write!(f, "{many} tests failed, first: {}", self.first),
        }
    }
}

fn tests(count: usize, first: impl Into<String>) -> Option<Found> {
    Some(Found { what: "test", count, first: first.into() })
}

fn errors(count: usize, first: impl Into<String>) -> Option<Found> {
    Some(Found { what: "error", count, first: first.into() })
}

/// The number right before a word: `2 failed` for `failed`.
fn number_before(line: &str, word: &str) -> Option<usize> {
    let before = &line[..line.find(word)?];
    before.split_whitespace().next_back()?.trim_start_matches('(').parse().ok()
}

/// `src/cart.ts(1,21): error TS2307: …`, and `src/cart.ts:1:21 - error TS2307: …` where it may be pretty.
fn typescript(output: &str) -> Option<Found> {
    let mut all = output.lines().filter_map(|line| {
        let (place, said) = line.split_once("error TS")?;
        let place = place.trim_end().trim_end_matches('-').trim_end().trim_end_matches(':');
        let (file, at) = place.split_once(['(', ':'])?;
        let row = at.split([',', ':']).next()?;
        Some(format!("{}:{row} TS{said}", file.trim()))
    });
    let first = all.next()?;
    errors(1 + all.count(), first)
}

/// The stylish format: a file's path, then `  1:9  error  Parsing error: …  rule-id`.
fn eslint(output: &str) -> Option<Found> {
    let count = output.lines().rev().find(|line| line.contains(" problem") && line.contains(" error"))?;
    let count = number_before(count, " error")?;
    let mut file = "";
    for line in output.lines() {
        let Some((row, said)) = problem(line) else {
            file = if line.starts_with(char::is_whitespace) || line.is_empty() { file } else { line };
            continue;
        };
        return errors(count, format!("{file}:{row} {said}"));
    }
    None
}

/// Row and words of an error of `eslint`; a warning is none.
fn problem(line: &str) -> Option<(&str, String)> {
    let (place, rest) = line.trim_start().split_once(' ')?;
    let (row, column) = place.split_once(':')?;
    let is_place = [row, column].iter().all(|part| !part.is_empty() && part.chars().all(|c| c.is_ascii_digit()));
    let said = rest.trim_start().strip_prefix("error ").filter(|_| is_place && line.starts_with(' '))?;
    Some((row, said.split_whitespace().collect::<Vec<_>>().join(" ")))
}

/// `Chrome Headless 156.0.0.0 (Linux 0.0.0) cart counts the price FAILED`.
fn karma(output: &str) -> Option<Found> {
    let first = output.lines().find_map(|line| {
        let (browser, test) = line.trim().strip_suffix(" FAILED")?.split_once(") ")?;
        (browser.contains(" (") && !test.contains("Executed ")).then(|| test.to_owned())
    })?;
    let total = output.lines().rev().find_map(|line| {
        number_before(line, " FAILED").filter(|_| line.contains("Executed ") || line.starts_with("TOTAL: "))
    });
    tests(total.unwrap_or(1), first)
}

/// ` FAIL  cart.test.js > cart > counts the price`, and the summary `Tests  2 failed | 1 passed (3)`.
fn vitest(output: &str) -> Option<Found> {
    let summary = output.lines().rev().find(|line| {
        let line = line.trim_start();
        (line.starts_with("Tests  ") || line.starts_with("Test Files  ")) && line.contains(" failed")
    })?;
    let first = output.lines().find_map(|line| line.trim_start().strip_prefix("FAIL  "))?;
    tests(number_before(summary, " failed").unwrap_or(1), first.trim())
}

/// `  ● cart › counts the price`, and the summary `Tests:       2 failed, 1 passed, 3 total`.
fn jest(output: &str) -> Option<Found> {
    let at = output.find("  ● ")?;
    let name = after(&output[at..], "● ")?.trim();
    if name == "Test suite failed to run" {
        let file = output[..at].lines().rev().find_map(|line| line.trim().strip_prefix("FAIL "))?;
        let said = output[at..].lines().skip(1).map(str::trim).find(|line| !line.is_empty())?;
        let place = file.trim_start_matches("./").split(" (").next().unwrap_or(file);
        return errors(1, format!("{place}: {said}"));
    }
    let summary = output.lines().rev().find(|line| line.starts_with("Tests: "))?;
    tests(number_before(summary, " failed").unwrap_or(1), name)
}

/// `  2 failing`, then `  1) cart` and, deeper, `counts the price:`.
fn mocha(output: &str) -> Option<Found> {
    let lines: Vec<&str> = output.lines().collect();
    let at = lines
        .iter()
        .position(|line| line.trim().strip_suffix(" failing").is_some_and(|count| count.parse::<usize>().is_ok()))?;
    let mut listed = lines[at + 1..].iter().map(|line| line.trim()).skip_while(|line| !line.starts_with("1) "));
    let suite = listed.next()?.trim_start_matches("1) ");
    let names = listed.take_while(|line| !line.is_empty()).take(4);
    let mut name = vec![suite];
    for part in names {
        if name.last().is_some_and(|last| last.ends_with(':')) {
            break;
        }
        name.push(part);
    }
    let name = name.join(" ");
    tests(number_before(lines[at], " failing").unwrap_or(1), name.trim_end_matches(':'))
}

/// `Failures:`, `1) cart counts the price`, and the summary `3 specs, 2 failures`.
fn jasmine(output: &str) -> Option<Found> {
    let (_, failures) = output.split_once("Failures:\n")?;
    let first = failures.lines().find_map(|line| line.strip_prefix("1) "))?;
    let summary = output.lines().rev().find(|line| line.contains(" spec") && line.contains(" failure"))?;
    tests(number_before(summary, " failure").unwrap_or(1), first.trim())
}

/// `not ok 3 - counts the price`, of node's own runner, tape and ava.
fn tap(output: &str) -> Option<Found> {
    let mut failed = output.lines().filter_map(|line| {
        let rest = line.trim_start().strip_prefix("not ok ")?;
        let (_, name) = rest.split_once(' ')?;
        (!name.contains("# TODO") && !name.contains("# SKIP")).then(|| name.trim_start_matches("- ").trim())
    });
    let first = failed.next()?;
    tests(1 + failed.count(), first)
}

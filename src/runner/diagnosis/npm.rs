//! npm, from version 6 (`npm ERR!`) to 11 (`npm error`).

use super::registry::Refusal;
use super::{Diagnosis, Finished, MAX_REASON, after, binary, closed, mend, node, outage};
use crate::domain::sentence::one_line;

const REGISTRY: &str = "the npm registry";

/// Reads npm's own error report, which ends every failed run.
pub(super) fn diagnose(step: &Finished<'_>, output: &str) -> Option<Diagnosis> {
    let report: Vec<&str> = output.lines().filter(|line| is_report(line)).map(without_prefix).collect();
    let text = report.join("\n");
    let code = report.iter().rev().find_map(|line| line.strip_prefix("code "))?.trim();
    Some(match code {
        "ERESOLVE" => Diagnosis::theirs(conflict(&report)),
        "EUSAGE" => {
            Diagnosis::theirs(lockfile(&report)).mended_by(mend::by_hand("npm install && git add package-lock.json"))
        }
        "E404" | "E401" | "E403" => refused(step, code, &text),
        "ETARGET" | "ENOVERSIONS" => {
            let wanted = after(&text, "No matching version found for ").unwrap_or("a package");
            Diagnosis::theirs(format!("{code}, there is no {}", wanted.trim_end_matches('.')))
        }
        "ENEEDAUTH" => refused(step, code, &text),
        "EINTEGRITY" => Diagnosis::theirs("EINTEGRITY, a package is not the one that the lockfile was written for"),
        "EBADENGINE" => engine(&report).unwrap_or_else(|| Diagnosis::theirs(format!("{code}, {}", refusal(&report)))),
        "EBADPLATFORM" => Diagnosis::theirs(format!("{code}, {}", refusal(&report))),
        "EJSONPARSE" => Diagnosis::theirs("package.json is not JSON"),
        "EMFILE" | "ENFILE" => Diagnosis::ours("too many open files on the agent"),
        "ENOENT" if text.contains("spawn git") => Diagnosis::ours("git is not installed on the agent"),
        _ if text.contains("command git") || text.contains("git error") => git(&text),
        _ => match script(step, output, &report, code) {
            Some(of_a_script) => of_a_script,
            None => outage::of_registry(REGISTRY, &text)
                .unwrap_or_else(|| Diagnosis::theirs(format!("{code}, {}", first_words(&report)))),
        },
    })
}

/// A registry's no, with the package and the address that npm names.
fn refused(step: &Finished<'_>, code: &str, text: &str) -> Diagnosis {
    let url = after(text, "GET ").and_then(Refusal::url_in);
    let package = quoted(text).map(str::to_owned).or_else(|| Refusal::package_of(url?));
    let status = code.trim_start_matches('E').parse().unwrap_or(401);
    Refusal { code, status, package, url }.diagnosis(step)
}

/// `Required: {"node":">=22"}` and `Actual:   {"node":"v20.20.2"}` below the package that asks.
fn engine(report: &[&str]) -> Option<Diagnosis> {
    let who = refusal(report).strip_prefix("Not compatible with your version of node/npm: ")?;
    let field = |name: &str| {
        let json = report.iter().find_map(|line| line.strip_prefix("notsup ")?.strip_prefix(name))?;
        let versions: serde_json::Value = serde_json::from_str(json.trim()).ok()?;
        Some(versions["node"].as_str()?.to_owned())
    };
    Some(node::engine(who, &field("Required:")?, field("Actual:").as_deref()))
}

/// The script of package.json that runs last: npm and pnpm announce it as `> shop@1.0.0 build`.
pub(super) fn running_script(output: &str) -> Option<&str> {
    output.lines().rev().find_map(|line| {
        let mut words = line.strip_prefix("> ")?.split_whitespace();
        words.next().filter(|name| name.contains('@'))?;
        words.next()
    })
}

/// `npm run x` where package.json has no x.
pub(super) fn missing_script(output: &str) -> Option<Diagnosis> {
    let name = output.lines().map(without_prefix).find_map(|line| line.trim().strip_prefix("Missing script: "))?;
    Some(Diagnosis::theirs(format!("package.json has no script {name}")))
}

fn is_report(line: &str) -> bool {
    line.starts_with("npm error") || line.starts_with("npm ERR!")
}

/// The line without npm's prefix.
pub(super) fn without_prefix(line: &str) -> &str {
    let rest = line.strip_prefix("npm error").or_else(|| line.strip_prefix("npm ERR!"));
    rest.map_or(line, |rest| rest.strip_prefix(' ').unwrap_or(rest))
}

/// `Found: react@19.1.0` and `peer react@"^18.3.1" from react-dom@18.3.1` make one sentence.
fn conflict(report: &[&str]) -> String {
    let found = report.iter().find_map(|line| line.strip_prefix("Found: "));
    let could_not = report.iter().position(|line| line.starts_with("Could not resolve dependency"));
    let asking = could_not.and_then(|at| report.get(at + 1)).and_then(|line| line.rsplit_once(" from "));
    match (found, asking) {
        (Some(found), Some((_, asking))) => format!("ERESOLVE, {} does not fit {}", found.trim(), asking.trim()),
        (Some(found), None) => format!("ERESOLVE, {} does not fit the other dependencies", found.trim()),
        _ => "ERESOLVE, the dependencies do not fit each other".to_owned(),
    }
}

fn lockfile(report: &[&str]) -> String {
    if report.iter().any(|line| line.contains("existing package-lock.json")) {
        return "npm ci needs a package-lock.json; run npm install and commit it".to_owned();
    }
    let first = report.iter().find(|line| line.starts_with("Missing: ") || line.starts_with("Invalid: "));
    match first {
        Some(line) => {
            format!("package-lock.json is out of date: {}; run npm install and commit it", uncapitalised(line))
        }
        None if report.iter().any(|line| line.contains("are in sync")) => {
            "package-lock.json is out of date; run npm install and commit it".to_owned()
        }
        None => format!("EUSAGE, {}", first_words(report)),
    }
}

fn uncapitalised(line: &str) -> String {
    line.replacen("Missing: ", "missing ", 1).replacen("Invalid: lock file's ", "", 1)
}

/// The scripts of package.json that an install runs.
const LIFECYCLE: [&str; 8] =
    ["preinstall", "install", "postinstall", "prepublish", "preprepare", "prepare", "postprepare", "dependencies"];

/// A failed install script: npm names its folder, then what it printed.
fn script(step: &Finished<'_>, output: &str, report: &[&str], code: &str) -> Option<Diagnosis> {
    let at = report.iter().position(|line| line.trim() == "command failed")?;
    let path = report.iter().find_map(|line| line.strip_prefix("path "))?;
    let printed: Vec<&str> = report[at + 1..]
        .iter()
        .copied()
        .filter(|line| !line.starts_with("command ") && !super::is_noise(line.trim()) && !line.trim().is_empty())
        .collect();
    let said = super::telling_line(&printed.join("\n")).map(|line| format!(": {}", line.trim())).unwrap_or_default();
    let Some((_, package)) = path.rsplit_once("/node_modules/") else {
        // npm announces each: "> shop@1.0.0 postinstall".
        let announced = output.lines().rev().filter_map(|line| line.strip_prefix("> ")?.split_whitespace().last());
        let name = announced.into_iter().find(|word| LIFECYCLE.contains(word)).unwrap_or("install");
        let of_package = format!("the {name} script of package.json");
        // Often a build: what a bundle dies of, it dies of too.
        return Some(match super::of_a_script(step, &printed.join("\n")) {
            Some(found) => {
                Diagnosis { reason: one_line(&format!("{of_package}: {}", found.reason), MAX_REASON), ..found }
            }
            // Its own words stand above npm's.
            None => closed::past_the_gate(step, output)
                .unwrap_or_else(|| Diagnosis::theirs(format!("{of_package} ended with {code}{said}"))),
        });
    };
    Some(
        binary::diagnose(package, &printed.join("\n"))
            .unwrap_or_else(|| Diagnosis::theirs(format!("the install script of {package} ended with {code}{said}"))),
    )
}

fn git(text: &str) -> Diagnosis {
    if outage::git_server_is_away(text) {
        return Diagnosis::outage("the git server of a dependency did not answer");
    }
    let said = after(text, "fatal: ").or_else(|| after(text, "ERROR: ")).unwrap_or("git could not fetch it");
    Diagnosis::theirs(format!("a dependency from git: {said}"))
}

fn refusal<'a>(report: &[&'a str]) -> &'a str {
    let lines = report.iter().filter_map(|line| line.strip_prefix("notsup "));
    lines.map(str::trim).find(|line| !line.is_empty()).unwrap_or_else(|| first_words(report))
}

/// The first line of the report that is not a field.
fn first_words<'a>(report: &[&'a str]) -> &'a str {
    let fields = ["code ", "syscall ", "errno ", "path ", "command ", "A complete log"];
    let mut said = report.iter().map(|line| line.trim());
    said.find(|line| !line.is_empty() && !fields.iter().any(|field| line.starts_with(field)))
        .unwrap_or("npm says no more")
}

/// The first `'name@version'`.
fn quoted(text: &str) -> Option<&str> {
    text.split('\'').skip(1).step_by(2).find(|inner| inner.contains('@') && !inner.contains(char::is_whitespace))
}

//! npm, from version 6 (`npm ERR!`) to 11 (`npm error`).

use super::{Diagnosis, outage};

const REGISTRY: &str = "the npm registry";

/// Reads npm's own error report, which ends every failed run.
pub(super) fn diagnose(output: &str) -> Option<Diagnosis> {
    let report: Vec<&str> = output.lines().filter(|line| is_report(line)).map(without_prefix).collect();
    let text = report.join("\n");
    let code = report.iter().rev().find_map(|line| line.strip_prefix("code "))?.trim();
    Some(match code {
        "ERESOLVE" => Diagnosis::theirs(conflict(&report)),
        "EUSAGE" => Diagnosis::theirs(lockfile(&report)),
        "E404" => match quoted(&text) {
            Some(package) => Diagnosis::theirs(format!("E404, {package} is not in the registry")),
            None => Diagnosis::theirs("E404, a package is not in the registry"),
        },
        "ETARGET" | "ENOVERSIONS" => {
            let wanted = after(&text, "No matching version found for ").unwrap_or("a package");
            Diagnosis::theirs(format!("{code}, there is no {}", wanted.trim_end_matches('.')))
        }
        "E401" | "ENEEDAUTH" => Diagnosis::theirs(format!(
            "{code}, the registry wants a token; the server's configuration names it: [[registry]]"
        )),
        "E403" => {
            Diagnosis::theirs(format!("E403, the registry refuses {}", last_of_url(&text).unwrap_or("a package")))
        }
        "EINTEGRITY" => Diagnosis::theirs("EINTEGRITY, a package is not the one that the lockfile was written for"),
        "EBADENGINE" | "EBADPLATFORM" => Diagnosis::theirs(format!("{code}, {}", refusal(&report))),
        "EJSONPARSE" => Diagnosis::theirs("package.json is not JSON"),
        "EMFILE" | "ENFILE" => Diagnosis::ours("too many open files on the agent"),
        "ENOENT" if text.contains("spawn git") => Diagnosis::ours("git is not installed on the agent"),
        _ if text.contains("command git") || text.contains("git error") => git(&text),
        _ => match script(output, &report, code) {
            Some(of_a_script) => of_a_script,
            None => outage::of_registry(REGISTRY, &text)
                .unwrap_or_else(|| Diagnosis::theirs(format!("{code}, {}", first_words(&report)))),
        },
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
fn script(output: &str, report: &[&str], code: &str) -> Option<Diagnosis> {
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
        return Some(Diagnosis::theirs(format!("the {name} script of package.json ended with {code}{said}")));
    };
    // Scripts of packages fetch binaries from places of their own; when those are away it is nobody's commit.
    if outage::of_registry("", &printed.join("\n")).is_some_and(|found| found.retry) {
        return Some(Diagnosis::outage(format!("the install script of {package} could not download{said}")));
    }
    Some(Diagnosis::theirs(format!("the install script of {package} ended with {code}{said}")))
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

/// What stands between the first mark and the end of its line.
fn after<'a>(text: &'a str, mark: &str) -> Option<&'a str> {
    text.split_once(mark)?.1.lines().next()
}

/// The first `'name@version'`.
fn quoted(text: &str) -> Option<&str> {
    text.split('\'').skip(1).step_by(2).find(|inner| inner.contains('@') && !inner.contains(char::is_whitespace))
}

/// The package in `GET https://registry/left-pad`, for messages that name only an address.
fn last_of_url(text: &str) -> Option<&str> {
    let url = after(text, "GET ")?.split_whitespace().next()?;
    url.rsplit('/').next().filter(|name| !name.is_empty())
}

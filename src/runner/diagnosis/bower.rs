//! bower 1.8: one line `bower <package#target>   CODE message` ends a failed run.

use super::{Diagnosis, outage};

const REGISTRY: &str = "the bower registry";

/// Reads bower's error line, which may be followed by details.
pub(super) fn diagnose(output: &str) -> Option<Diagnosis> {
    let (package, code, message) = output.lines().rev().find_map(error_line)?;
    let details = output.split_once(message).map_or("", |(_, rest)| rest);
    Some(match code {
        "ENOTFOUND" if message.starts_with("Package ") => {
            Diagnosis::theirs(format!("{} is not in the bower registry", package.unwrap_or(message)))
        }
        "EINVRES" => outage::of_registry(REGISTRY, message).unwrap_or_else(|| {
            Diagnosis::theirs(format!("the bower registry refused {}", package.unwrap_or("a package")))
        }),
        "ECMDERR" => git(package, message, details),
        "ECONFLICT" => match message.rsplit_once(' ') {
            Some((_, name)) => {
                Diagnosis::theirs(format!("ECONFLICT, no version of {name} suits everything that asks for it"))
            }
            None => Diagnosis::theirs("ECONFLICT, the components do not fit each other"),
        },
        "EMALFORMED" => {
            Diagnosis::theirs(format!("{} is not JSON", message.rsplit('/').next().unwrap_or("bower.json")))
        }
        "ENOGIT" => Diagnosis::ours("git is not installed on the agent"),
        "ESUDO" => Diagnosis::ours("bower refuses to run as root (--allow-root)"),
        _ => outage::of_registry(REGISTRY, &format!("{code} {message}")).unwrap_or_else(|| {
            Diagnosis::theirs(match package {
                Some(package) => format!("{code}, {package}: {message}"),
                None => format!("{code}, {message}"),
            })
        }),
    })
}

/// Package (if the line has one), code and message.
fn error_line(line: &str) -> Option<(Option<&str>, &str, &str)> {
    let rest = line.strip_prefix("bower ")?;
    let code = rest.split_whitespace().take(2).find(|word| {
        word.len() > 3
            && word.starts_with('E')
            && word.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
    })?;
    let (before, message) = rest.split_once(code)?;
    Some((Some(before.trim()).filter(|package| !package.is_empty()), code, message.trim()))
}

fn git(package: Option<&str>, message: &str, details: &str) -> Diagnosis {
    let package = package.unwrap_or("a component");
    if outage::git_server_is_away(message) || outage::git_server_is_away(details) {
        return Diagnosis::outage(format!("the git server of {package} did not answer"));
    }
    let fatal = |text: &str| text.split_once("fatal: ").and_then(|(_, rest)| rest.lines().next()).map(str::to_owned);
    let said = fatal(message).or_else(|| fatal(details)).unwrap_or_else(|| message.to_owned());
    Diagnosis::theirs(format!("{package}: {said}"))
}

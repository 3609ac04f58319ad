//! npm's siblings: yarn (1 and later), pnpm, bun.

use super::{Diagnosis, outage};

const REGISTRY: &str = "the npm registry";

/// yarn 1 prints `error …`, later versions `YN0028: …`.
pub(super) fn yarn(output: &str) -> Option<Diagnosis> {
    let stale = ["Your lockfile needs to be updated", "The lockfile would have been modified by this install"];
    if stale.iter().any(|words| output.contains(words)) {
        return Some(out_of_date("yarn.lock", "yarn install"));
    }
    if let Some(package) = between(output, "Couldn't find package \"", "\"") {
        return Some(Diagnosis::theirs(format!("{package} is not in the registry")));
    }
    if let Some(rest) = between(output, "Couldn't find any versions for \"", "\n") {
        return Some(Diagnosis::theirs(format!(
            "there is no {}",
            rest.replace("\" that matches \"", "@").trim_end_matches('"')
        )));
    }
    let yarn_modern =
        |said: &str| output.lines().find_map(|line| line.split_once("│ ")?.1.trim_end().strip_suffix(said));
    if let Some(package) = yarn_modern(": Package not found") {
        return Some(Diagnosis::theirs(format!("{} is not in the registry", package.replacen("@npm:", "@", 1))));
    }
    if let Some(package) = yarn_modern(": No candidates found") {
        return Some(Diagnosis::theirs(format!("there is no {}", package.replacen("@npm:", "@", 1))));
    }
    if let Some(path) = output.lines().find_map(|line| line.strip_prefix("error ")?.strip_suffix(": Command failed.")) {
        let package = path.rsplit_once("/node_modules/").map_or("package.json", |(_, package)| package);
        return Some(Diagnosis::theirs(format!("the install script of {package} failed")));
    }
    outage::of_registry(REGISTRY, output)
}

/// pnpm ends with `ERR_PNPM_CODE  message`.
pub(super) fn pnpm(output: &str) -> Option<Diagnosis> {
    let line = output.lines().rev().find(|line| line.trim_start().starts_with("ERR_PNPM_"));
    // pnpm puts a thin space after the code.
    let (code, message) = line?.trim().split_once(char::is_whitespace)?;
    let message = message.trim();
    let name = code.trim_start_matches("ERR_PNPM_");
    Some(match name {
        "OUTDATED_LOCKFILE" | "NO_LOCKFILE" | "LOCKFILE_CONFIG_MISMATCH" => {
            out_of_date("pnpm-lock.yaml", "pnpm install")
        }
        "FETCH_404" => {
            Diagnosis::theirs(format!("{} is not in the registry", package_of(message).unwrap_or("a package")))
        }
        "NO_MATCHING_VERSION" => {
            let wanted = between(message, "No matching version found for ", " ").unwrap_or("a package");
            Diagnosis::theirs(format!("there is no {wanted}"))
        }
        _ => outage::of_registry(REGISTRY, &format!("{code} {message}"))
            .unwrap_or_else(|| Diagnosis::theirs(format!("{name}, {message}"))),
    })
}

/// bun prints `error: …` lines, the cause first.
pub(super) fn bun(output: &str) -> Option<Diagnosis> {
    if output.contains("lockfile is frozen") {
        return Some(out_of_date("bun.lock", "bun install"));
    }
    let cause = output.lines().find_map(|line| line.strip_prefix("error: "))?;
    if outage::http_status(cause) == Some(404) {
        let package = package_of(cause).unwrap_or("a package");
        return Some(Diagnosis::theirs(format!("{package} is not in the registry")));
    }
    Some(outage::of_registry(REGISTRY, cause).unwrap_or_else(|| Diagnosis::theirs(cause)))
}

fn out_of_date(lockfile: &str, mend: &str) -> Diagnosis {
    Diagnosis::theirs(format!("{lockfile} is out of date; run {mend} and commit it"))
}

/// The package in `GET https://registry/left-pad…`.
fn package_of(message: &str) -> Option<&str> {
    let url = message.split_once("GET ")?.1.split([' ', '\n']).next()?.trim_end_matches(':');
    url.rsplit('/').next().filter(|name| !name.is_empty())
}

fn between<'a>(text: &'a str, from: &str, to: &str) -> Option<&'a str> {
    text.split_once(from)?.1.split(to).next()
}

//! npm's siblings: yarn (1 and later), pnpm, bun.

use super::registry::Refusal;
use super::{Diagnosis, Finished, between, binary, mend, node, outage};

const REGISTRY: &str = "the npm registry";

/// yarn 1 prints `error …`, later versions `YN0028: …`.
pub(super) fn yarn(step: &Finished<'_>, output: &str) -> Option<Diagnosis> {
    let stale = ["Your lockfile needs to be updated", "The lockfile would have been modified by this install"];
    if stale.iter().any(|words| output.contains(words)) {
        return Some(out_of_date("yarn.lock", "yarn install"));
    }
    if let Some(refused) = yarn_refused(step, output) {
        return Some(refused);
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
    if let Some(package) = yarn_modern(": The remote archive doesn't match the expected checksum") {
        return Some(
            Diagnosis::theirs(format!("YN0018, {} is not the one that yarn.lock was written for", plain(package)))
                .mended_by(mend::by_hand(
                    "# when the new archive is the right one\nYARN_CHECKSUM_BEHAVIOR=update yarn install",
                )),
        );
    }
    if let Some(package) = yarn_modern(": No candidates found") {
        return Some(Diagnosis::theirs(format!("there is no {}", plain(package))));
    }
    if let Some(path) = output.lines().find_map(|line| line.strip_prefix("error ")?.strip_suffix(": Command failed.")) {
        let package = path.rsplit_once("/node_modules/").map_or("package.json", |(_, package)| package);
        let printed = output.split_once("\nOutput:\n").map_or("", |(_, printed)| printed);
        return Some(of_script(package, printed));
    }
    // `YN0009: │ cypress@npm:13.6.0 couldn't be built successfully (…)`; what it printed stands above, marked STDERR.
    if let Some(line) = output.lines().find(|line| line.contains("YN0009: │ ") && line.contains(" couldn't be built"))
    {
        let package = line.split_once("│ ").and_then(|(_, rest)| rest.split_whitespace().next()).unwrap_or_default();
        let printed: Vec<&str> =
            output.lines().filter_map(|line| line.split_once(" STDERR ").map(|(_, said)| said)).collect();
        return Some(of_script(without_version(&plain(package)), &printed.join("\n")));
    }
    outage::of_registry(REGISTRY, output)
}

/// A failed install script of `package` and what it printed.
fn of_script(package: &str, printed: &str) -> Diagnosis {
    binary::diagnose(package, printed).unwrap_or_else(|| {
        let said = super::telling_line(printed).map(|line| format!(": {line}")).unwrap_or_default();
        Diagnosis::theirs(format!("the install script of {package} failed{said}"))
    })
}

/// `is-number@npm:7.0.0` as everybody else writes it.
fn plain(package: &str) -> String {
    package.replacen("@npm:", "@", 1)
}

/// yarn 1 says `error Error: https://registry/@acme%2fui: Not found`, or `Request failed "401 Unauthorized"`; later ones
/// `YN0041: … Invalid authentication` or `YN0035` with `Response Code: 403`.
fn yarn_refused(step: &Finished<'_>, output: &str) -> Option<Diagnosis> {
    let line = |signs: &[&str]| output.lines().find(|line| signs.iter().any(|sign| line.contains(sign)));
    if let Some(line) = line(&["YN0041: │ "]) {
        let package = line.split_once("│ ")?.1.split(": ").next().map(plain);
        return Some(Refusal { code: "YN0041", status: 401, package, url: None }.diagnosis(step));
    }
    if let Some(line) = line(&["YN0035: │ "]) {
        let status = outage::http_status(output).filter(|status| matches!(status, 401 | 403 | 404))?;
        let package = line.split_once("│ ")?.1.split(": ").next().map(plain);
        let url = between(output, "Request URL: ", "\n");
        return Some(Refusal { code: "YN0035", status, package, url }.diagnosis(step));
    }
    let line = line(&["error Error: http", "error An unexpected error occurred: \"http"])?;
    let url = Refusal::url_in(line)?;
    let said = line.split_once(url)?.1.to_lowercase();
    let status = match outage::http_status(line) {
        Some(status @ (401 | 403 | 404)) => status,
        Some(_) => return None,
        None if said.contains("not found") => 404,
        None if said.contains("auth") || said.contains("forbidden") || said.contains("permission") => 401,
        None => return None,
    };
    let code = status.to_string();
    Some(Refusal { code: &code, status, package: Refusal::package_of(url), url: Some(url) }.diagnosis(step))
}

/// pnpm ends with `ERR_PNPM_CODE  message`.
pub(super) fn pnpm(step: &Finished<'_>, output: &str) -> Option<Diagnosis> {
    // `.../node_modules/cypress postinstall: Failed`, below what the script printed in lines that begin alike.
    if let Some(mark) = output.lines().find_map(|line| line.strip_suffix(": Failed")) {
        let printed: Vec<&str> =
            output.lines().filter_map(|line| line.strip_prefix(mark)?.strip_prefix(": ")).collect();
        let folder = mark.rsplit_once(' ').map_or(mark, |(folder, _)| folder);
        let package = folder.rsplit_once("node_modules/").map_or("package.json", |(_, package)| package);
        return Some(of_script(package, &printed.join("\n")));
    }
    let (code, message) = pnpm_error(output)?;
    let message = message.as_str();
    let name = code.trim_start_matches("ERR_PNPM_");
    Some(match name {
        "OUTDATED_LOCKFILE" | "NO_LOCKFILE" | "LOCKFILE_CONFIG_MISMATCH" => {
            out_of_date("pnpm-lock.yaml", "pnpm install")
        }
        "FETCH_401" | "FETCH_403" | "FETCH_404" => refused(step, name, name, message),
        "UNSUPPORTED_ENGINE" => {
            let wanted = between(output, "Expected version: ", "\n").map(str::trim);
            let got = between(output, "\nGot: ", "\n").map(str::trim);
            match (output.contains("Your Node version is incompatible"), wanted) {
                (true, Some(wanted)) => node::engine("package.json", wanted, got),
                _ => Diagnosis::theirs(format!("{name}, {}", message)),
            }
        }
        "IGNORED_BUILDS" => {
            let packages = message.trim_start_matches("Ignored build scripts: ").trim_end_matches('.');
            // A name with a scope is a YAML key only in quotes.
            let list = packages.split(", ").map(|package| format!("\n  {:?}: true", without_version(package)));
            let settings =
                format!("# pnpm-workspace.yaml, of pnpm 10.26 or newer\nallowBuilds:{}", list.collect::<String>());
            Diagnosis::theirs(format!(
                "nobody approved the install scripts of {packages}; run pnpm approve-builds and commit pnpm-workspace.yaml"
            ))
            .mended_by(mend::or(&mend::by_hand("pnpm approve-builds"), &settings))
        }
        "NO_MATCHING_VERSION" => {
            let wanted = between(message, "No matching version found for ", " ").unwrap_or("a package");
            Diagnosis::theirs(format!("there is no {wanted}"))
        }
        _ => outage::of_registry(REGISTRY, &format!("{code} {message}"))
            .unwrap_or_else(|| Diagnosis::theirs(format!("{name}, {message}"))),
    })
}

/// The code and the message of pnpm's last error. Up to 11 they are one line, with a thin space between; pnpm 12 writes
/// the code alone and draws the causes below it, of which the last says most.
fn pnpm_error(output: &str) -> Option<(&str, String)> {
    const CAUSES: [&str; 3] = ["× ", "├─▶ ", "╰─▶ "];
    let lines: Vec<&str> = output.lines().map(|line| line.trim().trim_start_matches("Error: ")).collect();
    let at = lines.iter().rposition(|line| line.starts_with("ERR_PNPM_"))?;
    if let Some((code, message)) = lines[at].split_once(char::is_whitespace) {
        return Some((code, message.trim().to_owned()));
    }
    let mut message = String::new();
    for line in lines[at + 1..].iter().take_while(|line| !line.is_empty() && !line.starts_with("help:")) {
        match CAUSES.iter().find_map(|mark| line.strip_prefix(mark)) {
            Some(cause) => cause.clone_into(&mut message),
            // A long cause goes on in the next line.
            None => message = format!("{message} {}", line.trim_start_matches(['│', ' '])),
        }
    }
    (!message.is_empty()).then_some((lines[at], message))
}

/// bun prints `error: …` lines, the cause first.
pub(super) fn bun(step: &Finished<'_>, output: &str) -> Option<Diagnosis> {
    if output.contains("lockfile is frozen") {
        return Some(out_of_date("bun.lock", "bun install"));
    }
    let cause = output.lines().find_map(|line| line.strip_prefix("error: "))?;
    if let Some(status @ (401 | 403 | 404)) = outage::http_status(cause) {
        return Some(refused(step, &status.to_string(), &format!("FETCH_{status}"), cause));
    }
    Some(outage::of_registry(REGISTRY, cause).unwrap_or_else(|| Diagnosis::theirs(cause)))
}

fn out_of_date(lockfile: &str, command: &str) -> Diagnosis {
    Diagnosis::theirs(format!("{lockfile} is out of date; run {command} and commit it"))
        .mended_by(mend::by_hand(&format!("{command} && git add {lockfile}")))
}

/// `GET https://registry/@acme%2fui: Not Found - 404`.
fn refused(step: &Finished<'_>, code: &str, fetch: &str, message: &str) -> Diagnosis {
    let url = Refusal::url_in(message);
    let status = fetch.trim_start_matches("FETCH_").parse().unwrap_or(404);
    Refusal { code, status, package: url.and_then(Refusal::package_of), url }.diagnosis(step)
}

/// `tool@1.0.0` without its version; a scope's `@` stays.
fn without_version(package: &str) -> &str {
    let end = package.char_indices().skip(1).find(|(_, c)| *c == '@').map_or(package.len(), |(at, _)| at);
    &package[..end]
}

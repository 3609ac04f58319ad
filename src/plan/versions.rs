//! Which node and which package manager a folder's steps need, and who said so.
//!
//! The nearest folder's word goes first, then that of the folders above it. Sources: the documentation of nvm
//! (`.nvmrc`), nodenv (`.node-version`), asdf (`.tool-versions`), volta and corepack, and npm's of `package.json`.

use nodejs_semver::{Range, Version};
use serde_json::Value;

use super::account::Account;
use super::javascript::{Choice, Manager};
use super::manifest::Manifest;
use super::{BadPlan, Steps, inside};
use crate::domain::listing::Listing;
use crate::domain::lockfile::Format;
use crate::domain::spec::{NOBODY, Wanted};

/// What a project's steps find on their `PATH`: node, npm beside it, and the project's own manager.
pub(super) fn of_project(
    listing: &Listing,
    steps: &Steps<'_>,
    dir: &str,
    choice: &Choice,
    account: &mut Account,
) -> Result<Vec<Wanted>, BadPlan> {
    let mut wanted = vec![node(listing, steps, dir, account)?];
    // Scripts start `npm` and `npx` whatever manager installed them.
    if choice.manager != Manager::Npm {
        wanted.push(wish(steps, "npm")?.unwrap_or_else(|| any("npm", "scripts")));
    }
    wanted.push(manager(listing, steps, dir, choice, account)?);
    Ok(wanted)
}

/// A tool in the version that fits the node beside it.
pub(super) fn any(tool: &str, asked_by: &str) -> Wanted {
    Wanted { tool: tool.to_owned(), version: "*".to_owned(), asked_by: asked_by.to_owned(), hash: None }
}

/// The node of a folder.
pub(super) fn node(listing: &Listing, steps: &Steps<'_>, dir: &str, account: &mut Account) -> Result<Wanted, BadPlan> {
    if let Some(wanted) = wish(steps, "node")? {
        return Ok(wanted);
    }
    for folder in upward(dir) {
        for (file, read) in NODE_FILES {
            let path = inside(folder, file);
            let Some((line, text)) =
                listing.manifests.get(&path).and_then(|bytes| read(&String::from_utf8_lossy(bytes)))
            else {
                continue;
            };
            match node_version(&text) {
                Node::Agents => account.decide_once(&path, "the agent's own node", format!("it says {text}")),
                Node::Unknown => return Err(bad(&format!("{path}:{line}"), "node", &text)),
                Node::Version(version) => {
                    account.decide_once(&path, format!("node {version}"), format!("it says {text}"));
                    return Ok(Wanted { version, ..any("node", &path) });
                }
            }
        }
        let path = inside(folder, "package.json");
        // A manifest that can't be read stops its own project, with its own words.
        let Ok(Some(package)) = Manifest::read(listing, folder, "package.json") else { continue };
        let runtime = named(package.at(&["devEngines", "runtime"]), "node");
        let fields = [
            ("volta.node", package.text_at(&["volta", "node"])),
            ("devEngines.runtime", runtime.as_ref().map(|runtime| runtime.1.as_str())),
            ("engines.node", package.text_at(&["engines", "node"])),
        ];
        for (field, text) in fields {
            let (Some(text), place) = (text, format!("{path} {field}")) else { continue };
            match node_version(text) {
                Node::Version(version) => {
                    account.decide_once(&place, format!("node {version}"), format!("it says {text}"));
                    return Ok(Wanted { version, ..any("node", &place) });
                }
                // npm only warns about engines that nobody has, so a build does not end by it.
                _ => account.notice_once(format!(
                    "{place} = {text:?} is no version of node and is not heeded; write one like \">=20\""
                )),
            }
        }
    }
    Ok(steps.settings.node.clone())
}

/// A file that says which node, and how its version is read: the line and the text.
type NodeFile = (&'static str, fn(&str) -> Option<(usize, String)>);

const NODE_FILES: [NodeFile; 3] =
    [(".nvmrc", first_line), (".node-version", first_line), (".tool-versions", tool_versions)];

fn first_line(text: &str) -> Option<(usize, String)> {
    let lines = text.trim_start_matches('\u{feff}').lines().enumerate();
    let mut said = lines.map(|(at, line)| (at + 1, line.split('#').next().unwrap_or_default().trim().to_owned()));
    said.find(|(_, line)| !line.is_empty())
}

/// asdf's `nodejs 20.1.0 18.2.0`: the first one counts. mise calls it `node`.
fn tool_versions(text: &str) -> Option<(usize, String)> {
    text.lines().enumerate().find_map(|(at, line)| {
        let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
        matches!(words.next(), Some("nodejs" | "node")).then(|| Some((at + 1, words.next()?.to_owned())))?
    })
}

/// What a word for a node version means.
#[derive(Debug, PartialEq, Eq)]
enum Node {
    Version(String),
    /// Whichever the machine has.
    Agents,
    Unknown,
}

fn node_version(text: &str) -> Node {
    let text = text.trim();
    let lower = text.to_ascii_lowercase();
    let version = match lower.as_str() {
        "system" => return Node::Agents,
        "node" | "stable" | "current" | "latest" => "latest".to_owned(),
        "lts" | "lts/*" | "lts-*" | "lts-latest" | "lts-current" => "lts/*".to_owned(),
        name => match name.strip_prefix("lts/").or_else(|| name.strip_prefix("lts-")) {
            Some(release) if release.chars().all(|c| c.is_ascii_alphabetic()) => format!("lts/{release}"),
            Some(_) => return Node::Unknown,
            // `node-v20.1.0`, as download folders are called, is nodenv's other spelling.
            None => match range(name.strip_prefix("node-").unwrap_or(name)) {
                Some(range) => range,
                None => return Node::Unknown,
            },
        },
    };
    Node::Version(version)
}

/// A range as npm reads it, without the `v` of a version alone; an empty one is any.
fn range(text: &str) -> Option<String> {
    let text = text.trim();
    let plain = text.strip_prefix('v').filter(|rest| rest.starts_with(|c: char| c.is_ascii_digit())).unwrap_or(text);
    if plain.is_empty() {
        return Some("*".to_owned());
    }
    // The parser skips words that it does not know.
    let known = |word: &str| word.starts_with(|c: char| c.is_ascii_digit() || "<>=~^vxX*|-".contains(c));
    (plain.split_whitespace().all(known) && Range::parse(plain).is_ok()).then(|| plain.to_owned())
}

/// A project's own manager, in the version that is asked for or that its lockfile needs.
pub(super) fn manager(
    listing: &Listing,
    steps: &Steps<'_>,
    dir: &str,
    choice: &Choice,
    account: &mut Account,
) -> Result<Wanted, BadPlan> {
    let tool = choice.manager.tool();
    if let Some(wanted) = wish(steps, tool)? {
        return Ok(wanted);
    }
    let lockfile = choice.lockfile.as_ref();
    let format = lockfile.and_then(|path| Some((path, listing.lockfiles.get(path)?.format)));
    for folder in upward(dir) {
        let Ok(Some(package)) = Manifest::read(listing, folder, "package.json") else { continue };
        let path = inside(folder, "package.json");
        if let Some(wanted) = exact(&package, &path, tool)? {
            return Ok(wanted);
        }
        let named = named(package.at(&["devEngines", "packageManager"]), tool);
        let fields = [
            ("devEngines.packageManager", named.as_ref().map(|named| named.1.as_str())),
            ("volta", package.text_at(&["volta", tool])),
            ("engines", package.text_at(&["engines", tool])),
        ];
        for (field, text) in fields {
            let Some(text) = text else { continue };
            let place = if field.contains('.') { format!("{path} {field}") } else { format!("{path} {field}.{tool}") };
            match range(text) {
                // `*` says nothing, and the lockfile may.
                Some(version) if version != "*" => {
                    // Of what is allowed, what reads the lockfile.
                    let needed = format.and_then(|(_, format)| Range::parse(written_by(format)?).ok());
                    let both = needed.and_then(|needed| Range::parse(&version).ok()?.intersect(&needed));
                    let version = both.map_or(version, |both| both.to_string());
                    return Ok(Wanted { version, ..any(tool, &place) });
                }
                Some(_) => {}
                None => account.notice_once(format!("{place} = {text:?} is no version of {tool} and is not heeded")),
            }
        }
    }
    let by_format = format.and_then(|(path, format)| Some((path, written_by(format)?)));
    // A yarn that was recognised by its settings alone is at least not the first.
    let modern = (choice.manager == Manager::YarnModern).then_some(">=2");
    Ok(match (by_format, modern) {
        (Some((path, version)), _) => Wanted { version: version.to_owned(), ..any(tool, path) },
        (None, Some(version)) => Wanted { version: version.to_owned(), ..any(tool, &inside(dir, ".yarnrc.yml")) },
        (None, None) if choice.manager == Manager::Yarn => Wanted { version: "1".to_owned(), ..any(tool, "yarn.lock") },
        // A format that every version reads asks for none.
        (None, None) => any(tool, lockfile.map_or(NOBODY, String::as_str)),
    })
}

/// The versions of its program that read a format and write it back unchanged.
fn written_by(format: Format) -> Option<&'static str> {
    Some(match format {
        Format::Npm(0 | 1) | Format::BunBinary => return None,
        Format::Npm(_) => ">=7",
        Format::YarnClassic => "1",
        // A later yarn writes its own version into the file, which `--immutable` refuses.
        Format::YarnModern(0..=4) => "2",
        Format::YarnModern(5) => ">=3.0 <3.2",
        Format::YarnModern(6) => ">=3.2 <4",
        Format::YarnModern(7 | 8) => "4",
        Format::YarnModern(_) => ">=4",
        Format::Pnpm(..=4, _) => "4",
        Format::Pnpm(5, 0..=2) => ">=5 <7",
        Format::Pnpm(5, _) => "7",
        Format::Pnpm(6..=8, _) => "8",
        // 11 and later refuse a dependency with an install script that nobody approved, which is news to a repository
        // of 9 or 10. One that needs 11 can say so in `packageManager`, `devEngines` or `engines`.
        Format::Pnpm(_, _) => ">=9 <11",
        Format::Bun => ">=1.2",
    })
}

/// Why no version that is wanted can install a lockfile of this format as it is, in words.
pub(super) fn unreadable(format: Format, wanted: &Wanted) -> Option<String> {
    let readers = match format {
        // npm reads everything that is older than it is.
        Format::Npm(2) => return None,
        Format::Pnpm(5, _) => ">=3 <8",
        Format::Pnpm(6..=8, _) => ">=7.24 <9",
        Format::Pnpm(9.., _) => ">=9",
        format => written_by(format)?,
    };
    let (asked, readers) = (Range::parse(&wanted.version).ok()?, Range::parse(readers).ok()?);
    if asked.allows_any(&readers) {
        return None;
    }
    Some(format!(
        "{} asks for {} {}, and {} {readers} wrote it",
        wanted.asked_by, wanted.tool, wanted.version, wanted.tool
    ))
}

/// `packageManager`: `pnpm@9.1.0+sha512.…`, as corepack reads it.
fn exact(package: &Manifest, path: &str, tool: &str) -> Result<Option<Wanted>, BadPlan> {
    let Some((name, rest)) = package.text("packageManager").and_then(|text| text.trim().split_once('@')) else {
        return Ok(None);
    };
    // An address in place of a version is corepack's for archives of one's own.
    if name != tool || rest.contains("://") {
        return Ok(None);
    }
    let place = format!("{path} packageManager");
    let (version, hash) = match rest.split_once('+') {
        Some((version, hash)) => (version, Some(hash.to_owned())),
        None => (rest, None),
    };
    match range(version) {
        Some(version) => Ok(Some(Wanted { version, hash, ..any(tool, &place) })),
        None => Err(bad(&place, tool, version)),
    }
}

/// The entry of `devEngines` for a tool, which is one or a list: name and version.
pub(super) fn named(field: Option<&Value>, tool: &str) -> Option<(String, String)> {
    let entries = match field? {
        Value::Array(entries) => entries.as_slice(),
        entry => std::slice::from_ref(entry),
    };
    let text = |entry: &Value, key: &str| entry.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let mut pairs = entries.iter().map(|entry| (text(entry, "name"), text(entry, "version")));
    pairs.find(|(name, _)| name == tool || tool.is_empty())
}

/// `[toolchain]` of the repository file.
fn wish(steps: &Steps<'_>, tool: &str) -> Result<Option<Wanted>, BadPlan> {
    let Some(text) = steps.wishes.toolchain.get(tool) else { return Ok(None) };
    let place = format!("[toolchain] {tool}");
    let version = match tool {
        "node" => match node_version(text) {
            Node::Version(version) => Some(version),
            Node::Agents => Some(steps.settings.node.version.clone()),
            Node::Unknown => None,
        },
        _ => range(text),
    };
    let version = version.ok_or_else(|| bad(&format!(".hookmill.toml {place}"), tool, text))?;
    Ok(Some(Wanted { version, ..any(tool, &place) }))
}

fn bad(place: &str, tool: &str, version: &str) -> BadPlan {
    let example = if tool == "node" { "20.11.1, >=18 or lts/*" } else { "9.1.0 or >=9" };
    BadPlan::BadVersion { place: place.to_owned(), tool: tool.to_owned(), version: version.to_owned(), example }
}

/// A folder and those above it, up to the tree's root.
fn upward(dir: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(dir), |dir| match dir.rsplit_once('/') {
        Some((above, _)) => Some(above),
        None => (*dir != ".").then_some("."),
    })
}

/// True when an exact version lies in a range; `None` when either is none (a tag, a git address).
pub(super) fn satisfies(version: &str, range: &str) -> Option<bool> {
    Some(Range::parse(range).ok()?.satisfies(&Version::parse(version).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_for_a_node() {
        let check = |text: &str, expected: &str| {
            let told = match node_version(text) {
                Node::Version(version) => version,
                Node::Agents => "agent".to_owned(),
                Node::Unknown => "unknown".to_owned(),
            };
            assert_eq!(told, expected, "{text}");
        };
        for same in ["20.11.1", "18", "18.x", ">=16", "^18.0.0 || >=20", "16 - 18", "*", "lts/hydrogen", ">=14 <21"] {
            check(same, same);
        }
        check("v18", "18");
        check("v20.11.1\n", "20.11.1");
        check("node-v20.11.1", "20.11.1");
        check("lts/*", "lts/*");
        check("lts", "lts/*");
        check("lts/Hydrogen", "lts/hydrogen");
        check("lts-hydrogen", "lts/hydrogen");
        check("node", "latest");
        check("stable", "latest");
        check("", "*");
        check("system", "agent");
        check("lts/-1", "unknown");
        check("iojs-v3.1.0", "unknown");
        check("please use 18", "unknown");
    }

    #[test]
    fn files_that_say_which_node() {
        assert_eq!(first_line("# comment\n\nv18 # old\n"), Some((3, "v18".to_owned())));
        assert_eq!(first_line("\n"), None);
        let text = "ruby 3.2.0\nnodejs 20.1.0 18.0.0\n";
        assert_eq!(tool_versions(text), Some((2, "20.1.0".to_owned())));
        assert_eq!(tool_versions("ruby 3.2.0\n"), None);
    }

    #[test]
    fn folders_upward() {
        assert_eq!(upward("a/b/c").collect::<Vec<_>>(), ["a/b/c", "a/b", "a", "."]);
        assert_eq!(upward(".").collect::<Vec<_>>(), ["."]);
    }
}

//! npm, yarn, pnpm, bun and bower in the version that is wanted.
//!
//! They come from the registry, one way for all, and not through corepack: the same digests are checked, a step
//! needs no network before its manager runs, and it works for every node; those before 16.9 and since 25 have no
//! corepack.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};

use nodejs_semver::{Range, Version};
use serde::Deserialize;
use serde_json::Value;

use super::digest::Digests;
use super::node::{open, wish_of};
use super::registry::{Document, Release, runs_on};
use super::resolver;
use super::shelf::Patience;
use super::supply::Supply;
use super::unmet::Unmet;
use super::wish::{Wish, nearest, npm_major};
use crate::domain::spec::Wanted;

/// Where a kept manager's programs are linked: a folder for `PATH` that has nothing else in it.
const PROGRAMS: &str = ".bin";

/// Digits of a hash that a message shows.
const SHOWN: usize = 12;

/// A manager, ready to run.
pub(super) struct Manager {
    /// The folder for `PATH`, or for `NODE_PATH` if it is a resolver of bower's.
    pub(super) folder: PathBuf,
    pub(super) version: Version,
}

/// What of a `package.json` matters here.
#[derive(Debug, Deserialize)]
struct Manifest {
    #[serde(default)]
    bin: Value,
    #[serde(default)]
    engines: Value,
}

/// Finds a kept manager that fits, else fetches one. `node` is what it will run on.
pub(super) fn ensure(
    supply: &Supply,
    wanted: &Wanted,
    node: Option<&Version>,
    patience: &Patience,
) -> Result<Manager, Unmet> {
    let wish = narrowed(wanted, node)?;
    let exact = Version::parse(&wanted.version).is_ok();
    let shelf = supply.shelf();
    let fits = |version: &Version| {
        wish.is_met_by(version) && (exact || kept_runs_on(&shelf.home(&wanted.tool, version), node))
    };
    let kept: Vec<Version> = shelf.kept(&wanted.tool).into_iter().filter(fits).collect();
    let version = match newest(&wish, &kept) {
        Some(version) => {
            shelf.take(&shelf.home(&wanted.tool, &version), patience, |_| {
                Err(Unmet::Outage { what: wanted.tool.clone(), why: "it was taken away".to_owned() })
            })?;
            version
        }
        None => fetch(supply, wanted, &wish, node.filter(|_| !exact), patience)?,
    };
    let home = shelf.home(&wanted.tool, &version);
    check_hash(wanted, &version, &home)?;
    let folder = if resolver::is_one(&wanted.tool) { resolver::MODULES } else { PROGRAMS };
    Ok(Manager { folder: home.join(folder), version })
}

/// `*` for npm is the one that node itself would bring, or an older one; for yarn it is version 1, which reads
/// what every other yarn wrote about itself and goes on with that.
/// The newest `bower-npm-resolver` has modules that a node before 10 can't read.
fn narrowed(wanted: &Wanted, node: Option<&Version>) -> Result<Wish, Unmet> {
    let range = match (wanted.tool.as_str(), wanted.version.trim(), node) {
        ("npm", "*", Some(node)) => format!("<={}", npm_major(node)),
        ("yarn", "*", _) => "1".to_owned(),
        ("bower-npm-resolver", "*", Some(node)) if node.major() < 10 => "<0.11".to_owned(),
        (_, other, _) => return wish_of(&Wanted { version: other.to_owned(), ..wanted.clone() }),
    };
    wish_of(&Wanted { version: range, ..wanted.clone() })
}

/// Unlike node's, a manager's newest line is not one to be wary of.
fn newest(wish: &Wish, versions: &[Version]) -> Option<Version> {
    match wish {
        Wish::Range(range) => versions.iter().filter(|version| range.satisfies(version)).max().cloned(),
        other => other.best(versions),
    }
}

fn kept_runs_on(home: &Path, node: Option<&Version>) -> bool {
    manifest(home).is_some_and(|manifest| node.is_none_or(|node| runs_on(&manifest.engines, node)))
}

fn manifest(home: &Path) -> Option<Manifest> {
    serde_json::from_slice(&fs::read(home.join("package.json")).ok()?).ok()
}

/// The package that carries a tool in a version that the wish means.
fn package(supply: &Supply, wanted: &Wanted, wish: &Wish) -> Option<String> {
    Some(match wanted.tool.as_str() {
        "bun" => supply.platform().bun_package()?,
        // Since version 2 yarn publishes its releases there. The package `yarn` has a few of 2 that fetch another.
        "yarn" if !reaches_into(wish, "<2") => "@yarnpkg/cli-dist".to_owned(),
        other => other.to_owned(),
    })
}

fn reaches_into(wish: &Wish, range: &str) -> bool {
    match (wish, Range::parse(range)) {
        (Wish::Range(wish), Ok(range)) => wish.allows_any(&range),
        _ => false,
    }
}

fn fetch(
    supply: &Supply,
    wanted: &Wanted,
    wish: &Wish,
    node: Option<&Version>,
    patience: &Patience,
) -> Result<Version, Unmet> {
    let registry = supply.registry(wanted)?;
    let package = package(supply, wanted, wish).ok_or_else(|| Unmet::Platform {
        tool: wanted.tool.clone(),
        version: wanted.version.clone(),
        asked_by: wanted.asked_by.clone(),
        platform: supply.platform().to_string(),
        mend: format!("install it {}", supply.toolchain().place),
    })?;
    let document = registry.document(&package, patience)?;
    let version = document.as_ref().and_then(|document| choose(&package, document, wish, node));
    let (Some(document), Some(version)) = (&document, version) else {
        let versions = document.map(|document| document.versions()).unwrap_or_default();
        return Err(Unmet::NoSuchVersion {
            tool: wanted.tool.clone(),
            version: wanted.version.clone(),
            asked_by: wanted.asked_by.clone(),
            there_is: format!("the registry's {package} {}", nearest(wish, &versions)),
        });
    };
    let release = document.release(&version).ok_or(Unmet::Stopped)?;
    supply.shelf().take(&supply.shelf().home(&wanted.tool, &version), patience, |staging| {
        match resolver::is_one(&wanted.tool) {
            true => resolver::install(supply, wanted, release, staging, patience),
            false => make(supply, wanted, release, staging, patience),
        }
    })?;
    Ok(version)
}

/// The newest that runs on the node; where none says that it does, the newest.
fn choose(package: &str, document: &Document, wish: &Wish, node: Option<&Version>) -> Option<Version> {
    let mut versions = document.versions();
    if package == "yarn" {
        versions.retain(|version| version.major() < 2);
    }
    let runs = |version: &&Version| {
        let release = document.release(version);
        node.is_none_or(|node| release.is_some_and(|release| release.runs_on(node)))
    };
    let running: Vec<Version> = versions.iter().filter(runs).cloned().collect();
    newest(wish, &running).or_else(|| newest(wish, &versions))
}

fn make(supply: &Supply, wanted: &Wanted, release: &Release, staging: &Path, patience: &Patience) -> Result<(), Unmet> {
    let registry = supply.registry(wanted)?;
    let archive = staging.join(".archive");
    let of_archive = registry.tarball(release, &archive, patience)?;
    open(&archive, staging, &wanted.tool)?;
    let broken = || registry.0.refused(&wanted.tool, "it has no package.json that names its programs");
    let programs = programs(&wanted.tool, manifest(staging).ok_or_else(broken)?).ok_or_else(broken)?;
    if wanted.tool == "pnpm" && programs.get("pnpm").is_some_and(|file| file.extension().is_none()) {
        native_pnpm(supply, wanted, release, staging, patience)?;
    }
    link(staging, &programs)?;
    // What corepack hashes, and so `packageManager` says: the archive, but for yarn since 2 its one file.
    let hashed = match programs.get("yarn").filter(|_| release.is_of("@yarnpkg/cli-dist")) {
        Some(file) => Digests::of(&staging.join(file)).map_err(Unmet::disk(staging))?,
        None => of_archive,
    };
    hashed.write(staging).map_err(Unmet::disk(staging))
}

/// Since version 12 pnpm is a program of its own, in a package for each platform; an install script would put it in
/// the place of a file that says so. We run no install scripts.
fn native_pnpm(
    supply: &Supply,
    wanted: &Wanted,
    release: &Release,
    staging: &Path,
    patience: &Patience,
) -> Result<(), Unmet> {
    let registry = supply.registry(wanted)?;
    let missing = || registry.0.refused("pnpm", "it has no program for this platform");
    let package = supply.platform().pnpm_package().ok_or_else(missing)?;
    let document = registry.document(&package, patience)?.ok_or_else(missing)?;
    let program = Version::parse(release.version()).ok().and_then(|version| document.release(&version).cloned());
    let archive = staging.join(".archive");
    let own = staging.join(".native");
    registry.tarball(&program.ok_or_else(missing)?, &archive, patience)?;
    fs::create_dir(&own).map_err(Unmet::disk(&own))?;
    open(&archive, &own, &package)?;
    fs::rename(own.join("pnpm"), staging.join("pnpm")).map_err(Unmet::disk(staging))
}

/// Programs by name, as `bin` of the manifest says.
fn programs(tool: &str, manifest: Manifest) -> Option<BTreeMap<String, PathBuf>> {
    let named: BTreeMap<String, PathBuf> = match manifest.bin {
        // bun's packages for platforms name none: the package `bun` does, and runs an install script for it.
        _ if tool == "bun" => ["bun", "bunx"].map(|name| (name.to_owned(), PathBuf::from("bin/bun"))).into(),
        Value::String(file) => BTreeMap::from([(tool.to_owned(), PathBuf::from(file))]),
        Value::Object(files) => {
            files.into_iter().filter_map(|(name, file)| Some((name, PathBuf::from(file.as_str()?)))).collect()
        }
        _ => return None,
    };
    let inside = |path: &Path| path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    let plain = |name: &str| !name.is_empty() && !name.contains('/') && name != "node" && !name.starts_with('.');
    (named.contains_key(tool) && named.iter().all(|(name, file)| plain(name) && inside(file))).then_some(named)
}

/// Links as npm makes them: a program begins with `#!/usr/bin/env node`, and so runs on the node of its step.
fn link(staging: &Path, programs: &BTreeMap<String, PathBuf>) -> Result<(), Unmet> {
    let folder = staging.join(PROGRAMS);
    fs::create_dir_all(&folder).map_err(Unmet::disk(&folder))?;
    for (name, file) in programs {
        let program = staging.join(file);
        if !program.is_file() {
            continue;
        }
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).map_err(Unmet::disk(&program))?;
        symlink(Path::new("..").join(file), folder.join(name)).map_err(Unmet::disk(&folder))?;
    }
    Ok(())
}

fn check_hash(wanted: &Wanted, version: &Version, home: &Path) -> Result<(), Unmet> {
    let Some(hash) = &wanted.hash else { return Ok(()) };
    let digests = Digests::read(home).map_err(Unmet::disk(home))?;
    let unreadable = || Unmet::Unreadable {
        tool: wanted.tool.clone(),
        version: format!("{version}+{hash}"),
        asked_by: wanted.asked_by.clone(),
    };
    let (algorithm, hex) = hash.split_once('.').ok_or_else(unreadable)?;
    let found = digests.get(&algorithm.to_ascii_lowercase()).ok_or_else(unreadable)?;
    if found.eq_ignore_ascii_case(hex) {
        return Ok(());
    }
    let beginning = |hex: &str| format!("{algorithm}.{}", hex.chars().take(SHOWN).collect::<String>());
    Err(Unmet::WrongHash {
        tool: wanted.tool.clone(),
        version: version.to_string(),
        asked_by: wanted.asked_by.clone(),
        wanted: beginning(hex),
        found: beginning(found),
    })
}

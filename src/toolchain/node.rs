//! Which node a wish gets, and where it comes from.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use nodejs_semver::Version;
use serde::Deserialize;

use super::download::Source;
use super::registry::{Document, Registry};
use super::shelf::Patience;
use super::supply::Supply;
use super::unmet::Unmet;
use super::unpack::unpack;
use super::wish::{self, Wish};
use crate::domain::spec::Wanted;

/// A node that was chosen and may still have to be fetched.
pub(super) struct Chosen {
    pub(super) version: Version,
    origin: Origin,
}

impl Chosen {
    /// Node's own archives have npm in them, the registry's packages have not.
    pub(super) fn brings_npm(&self, supply: &Supply) -> bool {
        match self.origin {
            Origin::Kept => supply.shelf().home("node", &self.version).join("bin/npm").exists(),
            Origin::Registry(..) => false,
            Origin::Mirror(..) => true,
        }
    }
}

enum Origin {
    Kept,
    Registry(Registry, Document),
    Mirror(Source, String),
}

/// A version in `index.json` of a mirror of <https://nodejs.org/dist>.
#[derive(Debug, Deserialize)]
struct Listed {
    version: String,
    #[serde(default)]
    files: Vec<String>,
}

/// Chooses among the kept ones, else among those that the mirror or the registry has.
pub(super) fn choose(supply: &Supply, wanted: &Wanted, patience: &Patience) -> Result<Chosen, Unmet> {
    let wish = wish_of(wanted)?;
    let kept: Vec<Version> =
        supply.shelf().kept("node").into_iter().filter(|version| wish.is_met_by(version)).collect();
    if let Some(version) = wish.best(&kept) {
        return Ok(Chosen { version, origin: Origin::Kept });
    }
    let platform = supply.platform();
    let (who, versions, origin) = match supply.mirror() {
        Some(mirror) => {
            let name = platform.of_node().ok_or_else(|| no_binaries(supply, wanted))?;
            let versions = listed(&mirror, &name, patience)?;
            (format!("{} for {name}", mirror.origin()), versions, Origin::Mirror(mirror, name))
        }
        None => {
            let package = platform.node_package().ok_or_else(|| no_binaries(supply, wanted))?;
            let registry = supply.registry(wanted)?;
            let document = registry.document(&package, patience)?.ok_or_else(|| no_binaries(supply, wanted))?;
            (format!("the registry's {package}"), document.versions(), Origin::Registry(registry, document))
        }
    };
    let version = wish.best(&versions).ok_or_else(|| Unmet::NoSuchVersion {
        tool: "node".to_owned(),
        version: wanted.version.clone(),
        asked_by: wanted.asked_by.clone(),
        there_is: format!("{who} {}", wish::nearest(&wish, &versions)),
    })?;
    Ok(Chosen { version, origin })
}

pub(super) fn wish_of(wanted: &Wanted) -> Result<Wish, Unmet> {
    Wish::parse(&wanted.version).ok_or_else(|| Unmet::Unreadable {
        tool: wanted.tool.clone(),
        version: wanted.version.clone(),
        asked_by: wanted.asked_by.clone(),
    })
}

fn no_binaries(supply: &Supply, wanted: &Wanted) -> Unmet {
    Unmet::Platform {
        tool: wanted.tool.clone(),
        version: wanted.version.clone(),
        asked_by: wanted.asked_by.clone(),
        platform: supply.platform().to_string(),
        mend: format!(
            "install it {}, or name a place that has them as toolchain.node_mirror",
            supply.toolchain().place
        ),
    }
}

/// The versions that a mirror has for a platform.
fn listed(mirror: &Source, platform: &str, patience: &Patience) -> Result<Vec<Version>, Unmet> {
    let what = "node's index.json";
    let missing = || mirror.refused(what, "it is not there; correct toolchain.node_mirror");
    let url = mirror.base.join("index.json").map_err(|_| missing())?;
    let index: Vec<Listed> = mirror.document(&url, what, patience)?.ok_or_else(missing)?;
    // macOS is called osx there and nowhere else.
    let other = platform.strip_prefix("darwin").map(|arch| format!("osx{arch}-tar"));
    let has = |listed: &&Listed| listed.files.iter().any(|file| file == platform || Some(file) == other.as_ref());
    Ok(index.iter().filter(has).filter_map(|listed| Version::parse(&listed.version).ok()).collect())
}

/// Puts the chosen node on the shelf, unless it is there.
pub(super) fn fetch(supply: &Supply, chosen: &Chosen, patience: &Patience) -> Result<(), Unmet> {
    let home = supply.shelf().home("node", &chosen.version);
    supply.shelf().take(&home, patience, |staging| {
        let archive = staging.join(".archive");
        match &chosen.origin {
            // It was there a moment ago: its name is free again only when somebody took it away by hand.
            Origin::Kept => return Err(Unmet::Outage { what: "node".to_owned(), why: "it was taken away".to_owned() }),
            Origin::Registry(registry, document) => {
                let release = document.release(&chosen.version).ok_or(Unmet::Stopped)?;
                registry.tarball(release, &archive, patience)?;
            }
            Origin::Mirror(mirror, platform) => from_mirror(mirror, platform, &chosen.version, &archive, patience)?,
        }
        open(&archive, staging, &format!("node {}", chosen.version))
    })
}

/// Unpacks a checked archive into the folder that it is in, and removes it.
pub(super) fn open(archive: &Path, staging: &Path, what: &str) -> Result<(), Unmet> {
    let file = File::open(archive).map_err(Unmet::disk(archive))?;
    unpack(file, staging).map_err(|error| match error.kind() {
        std::io::ErrorKind::InvalidData | std::io::ErrorKind::InvalidInput | std::io::ErrorKind::UnexpectedEof => {
            Unmet::Refused { what: what.to_owned(), origin: "its publisher".to_owned(), why: error.to_string() }
        }
        _ => Unmet::disk(staging)(error),
    })?;
    std::fs::remove_file(archive).map_err(Unmet::disk(archive))
}

/// `v22.11.0/node-v22.11.0-linux-x64.tar.gz`, checked against `SHASUMS256.txt` beside it.
fn from_mirror(
    mirror: &Source,
    platform: &str,
    version: &Version,
    archive: &Path,
    patience: &Patience,
) -> Result<(), Unmet> {
    let name = format!("node-v{version}-{platform}.tar.gz");
    let refused = |why: &str| mirror.refused(&name, why);
    let at = |file: &str| mirror.base.join(&format!("v{version}/{file}")).map_err(|_| refused("its address is none"));
    let sums = mirror.text(&at("SHASUMS256.txt")?, "SHASUMS256.txt", patience)?;
    let sums = sums.ok_or_else(|| refused("there is no SHASUMS256.txt beside it"))?;
    let sums: BTreeMap<&str, &str> = sums
        .lines()
        .filter_map(|line| line.split_once(char::is_whitespace))
        .map(|(hash, file)| (file.trim(), hash))
        .collect();
    let sum = sums.get(name.as_str()).ok_or_else(|| refused("SHASUMS256.txt does not name it"))?;
    let digests = mirror.file(&at(&name)?, archive, &name, patience)?.ok_or_else(|| refused("it is not there"))?;
    match digests.get("sha256").is_some_and(|found| found.eq_ignore_ascii_case(sum)) {
        true => Ok(()),
        false => Err(refused("it does not have the digest in SHASUMS256.txt")),
    }
}

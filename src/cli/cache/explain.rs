//! `hookmill cache explain`: of which inputs snapshots are, and in which of them the last miss differed.

use std::collections::BTreeMap;
use std::time::SystemTime;

use serde_json::{Value, json};

use super::super::output::Out;
use super::super::table::age;
use super::list::KEY;
use super::{Kept, Refusal, is_meant, ref_of};
use crate::cache::{Listed, Miss};
use crate::domain::cache_note::{self, Earlier};
use crate::domain::sentence::{one_line, size};
use crate::domain::snapshot::{Level, Record, Scope};
use crate::domain::time::Timestamp;
use crate::domain::trust::Trust;

/// The longest line of an input.
const LINE: usize = 200;

/// What is known of a level in one scope.
struct Known<'a> {
    newest: Option<&'a Listed>,
    miss: Option<&'a Miss>,
    /// What the miss is compared with.
    before: Option<&'a Record>,
}

pub(super) fn run(kept: &Kept, repo: &str, git_ref: Option<&str>, json: bool, out: &mut Out) -> Result<bool, Refusal> {
    let repo = kept.repo(repo)?;
    let mut listed = kept.cache.list();
    listed.retain(|listed| listed.record.scope.repo == repo);
    listed.sort_by_key(|listed| std::cmp::Reverse(listed.record.kept_at));
    let mut misses = kept.cache.last_misses();
    misses.retain(|miss| miss.scope.repo == repo);

    let mut scopes: BTreeMap<(String, &str), &Scope> = BTreeMap::new();
    let of_records = listed.iter().map(|listed| &listed.record.scope);
    for scope in of_records.chain(misses.iter().map(|miss| &miss.scope)) {
        if git_ref.is_none_or(|text| is_meant(&scope.git_ref, text)) {
            scopes.insert((scope.git_ref.to_string(), scope.trust.as_str()), scope);
        }
    }
    if scopes.is_empty() {
        let text = git_ref.unwrap_or_default();
        return Err(Refusal::Unknown { repo: format!("{text} of {repo}"), known: String::new() });
    }
    let levels = |scope: &Scope| -> Vec<(Level, Known<'_>)> {
        let known = Level::ALL.map(|level| (level, known(&listed, &misses, scope, level)));
        known.into_iter().filter(|(_, known)| known.newest.is_some() || known.miss.is_some()).collect()
    };
    if json {
        let scopes: Vec<Value> = scopes.values().map(|scope| document(scope, &levels(scope))).collect();
        out.line(json!({ "repo": repo.to_string(), "scopes": scopes }));
        return Ok(true);
    }
    for (index, scope) in scopes.into_values().enumerate() {
        if index > 0 {
            out.line("");
        }
        out.line(one_line(&format!("{repo} {}", ref_of(scope)), LINE));
        for line in levels(scope).iter().flat_map(|(level, known)| lines(*level, known)) {
            out.line(format_args!("  {line}"));
        }
    }
    Ok(true)
}

/// `listed` is sorted, the last kept first.
fn known<'a>(listed: &'a [Listed], misses: &'a [Miss], scope: &Scope, level: Level) -> Known<'a> {
    let of_level = || listed.iter().filter(|listed| listed.record.level == level);
    let miss = misses.iter().find(|miss| miss.scope == *scope && miss.level == level);
    let before = miss.and_then(|miss| {
        // What the build could have used, had its inputs been the same: its own scope's first, then a branch's.
        let other = |listed: &&Listed| listed.record.kept_at <= miss.at && listed.record.inputs != miss.inputs;
        let of_own = of_level().filter(other).find(|listed| listed.record.scope == *scope);
        let of_branch = || of_level().filter(other).find(|listed| listed.record.scope.trust == Trust::Trusted);
        of_own.or_else(of_branch).map(|listed| &listed.record)
    });
    Known { newest: of_level().find(|listed| listed.record.scope == *scope), miss, before }
}

fn lines(level: Level, known: &Known<'_>) -> Vec<String> {
    let now = Timestamp::from(SystemTime::now());
    let mut lines = Vec::new();
    match known.newest {
        Some(Listed { record, used, bytes, .. }) => {
            let room = if *bytes == 0 { String::new() } else { format!(", {}", size(*bytes)) };
            let key: String = record.inputs.key().chars().take(KEY).collect();
            lines.push(format!(
                "{}: left by build {} ({}) {} ago, used {} ago{room}, key {key}",
                level.as_str(),
                record.build,
                record.sha.short(),
                age(record.kept_at, now),
                age(*used, now),
            ));
            lines.extend(record.note.as_ref().map(|note| format!("  {}", one_line(note, LINE))));
            let longest = record.inputs.0.iter().map(|input| input.name.chars().count()).max().unwrap_or(0).min(40);
            lines.extend(
                record
                    .inputs
                    .0
                    .iter()
                    .map(|input| {
                        one_line(&format!("{:<longest$}", input.name), LINE) + "  " + &one_line(&input.value, LINE)
                    })
                    .map(|line| format!("  {}", line.trim_end())),
            );
        }
        None => lines.push(format!("{}: nothing is kept", level.as_str())),
    }
    if let Some(miss) = known.miss {
        let why = match known.before {
            Some(before) => miss.inputs.first_difference(&before.inputs).map_or_else(
                || "in the order of its inputs".to_owned(),
                |first| cache_note::changed(&first, Earlier::Build(before.build)),
            ),
            None => "nothing is known that was kept before".to_owned(),
        };
        lines.push(format!("  last miss, build {} {} ago: {why}", miss.build, age(miss.at, now)));
    }
    lines
}

fn document(scope: &Scope, levels: &[(Level, Known<'_>)]) -> Value {
    let levels: Vec<Value> = levels
        .iter()
        .map(|(level, known)| {
            json!({
                "level": level,
                "newest": known.newest.map(|listed| json!({
                    "key": listed.record.inputs.key(),
                    "inputs": listed.record.inputs,
                    "build": listed.record.build,
                    "sha": listed.record.sha,
                    "kept_at": listed.record.kept_at,
                    "used_at": listed.used,
                    "bytes": listed.bytes,
                    "note": listed.record.note,
                })),
                "last_miss": known.miss.map(|miss| json!({
                    "key": miss.inputs.key(),
                    "inputs": miss.inputs,
                    "build": miss.build,
                    "at": miss.at,
                    "compared_with_build": known.before.map(|before| before.build),
                    "first_difference": known.before.and_then(|before| miss.inputs.first_difference(&before.inputs))
                        .map(|first| json!({ "name": first.name, "then": first.then, "now": first.now })),
                })),
            })
        })
        .collect();
    json!({ "ref": scope.git_ref, "trust": scope.trust, "levels": levels })
}

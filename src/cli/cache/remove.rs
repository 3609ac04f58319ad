//! `hookmill cache rm` and `gc`.

use super::super::output::Out;
use super::{Kept, Refusal, RmArgs, is_meant, ref_of};
use crate::cache::{Listed, Selection};
use crate::domain::sentence::{one_line, size};
use crate::domain::snapshot::Level;
use crate::sweeper::UNUSED_SNAPSHOT;

pub(super) fn run(kept: &Kept, args: &RmArgs, out: &mut Out) -> Result<bool, Refusal> {
    let level = args.level.map(Level::from);
    let repo = args.repo.as_deref().map(|text| kept.repo(text)).transpose()?;
    let mut selections = vec![Selection { repo: repo.clone(), git_ref: None, level }];
    if let Some(text) = &args.git_ref {
        // A person's word may mean a branch and a pull request's branch: each is its own ref.
        let all = kept.cache.list().into_iter().filter(|listed| selections[0].has(listed));
        let mut refs: Vec<_> =
            all.map(|listed| listed.record.scope.git_ref).filter(|git_ref| is_meant(git_ref, text)).collect();
        refs.sort();
        refs.dedup();
        selections =
            refs.into_iter().map(|git_ref| Selection { repo: repo.clone(), git_ref: Some(git_ref), level }).collect();
    }
    let (mut removed, mut in_use, mut bytes) = (Vec::new(), Vec::new(), 0);
    for selection in &selections {
        let done = kept.cache.remove(selection)?;
        removed.extend(done.removed);
        in_use.extend(done.in_use);
        bytes += done.bytes;
    }
    kept.empty_trash()?;
    for listed in &removed {
        out.line(format_args!("removed: {}", name(listed)));
    }
    for listed in &in_use {
        eprintln!("hookmill: a build is using {}; it stays", name(listed));
    }
    if removed.is_empty() && in_use.is_empty() {
        match (&args.repo, &repo) {
            (Some(_), Some(repo)) => eprintln!("hookmill: nothing of that is kept of {repo}"),
            _ => eprintln!("hookmill: {}", kept.nothing()),
        }
        // Who wants all of nothing removed has it.
        return Ok(args.all);
    }
    out.line(format_args!("{} free", size(bytes)));
    Ok(in_use.is_empty())
}

pub(super) fn collect(kept: &Kept, out: &mut Out) -> Result<bool, Refusal> {
    let collected = kept.cache.collect(kept.quota, UNUSED_SNAPSHOT)?;
    kept.empty_trash()?;
    for listed in &collected.old {
        out.line(format_args!("removed, unused for 30 days: {}", name(listed)));
    }
    for listed in &collected.over_quota {
        out.line(format_args!("removed, for room: {}", name(listed)));
    }
    out.line(format_args!(
        "{} free; {} kept, of {} ([retention] snapshots)",
        size(collected.bytes),
        size(collected.kept_bytes),
        size(kept.quota)
    ));
    if collected.kept_bytes > kept.quota {
        eprintln!("hookmill: the rest is in use, and goes when its builds have ended");
    }
    Ok(true)
}

fn name(listed: &Listed) -> String {
    let record = &listed.record;
    let text =
        format!("{} of {} {}, build {}", record.level.as_str(), record.scope.repo, ref_of(&record.scope), record.build);
    one_line(&text, 300)
}

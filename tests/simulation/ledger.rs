//! The promises, looked at from outside: what was handed out, what was written, what was heard.

use std::collections::{BTreeMap, BTreeSet};

use hookmill::domain::build::{BuildId, State};
use hookmill::domain::outcome::Outcome;
use hookmill::domain::status::StatusState;
use hookmill::store::{Accepted, Claim};

use super::forge::Forge;
use super::tables::{Key, Tables};

/// A promise that was broken, in words.
pub(crate) type Broken = String;

/// What was seen while it happened.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// The highest fence that was handed out, of each build.
    fences: BTreeMap<BuildId, i64>,
    /// Who runs a build's steps now.
    running: BTreeMap<BuildId, BTreeSet<usize>>,
    /// What each delivery was answered.
    pub(crate) answered: BTreeMap<String, Accepted>,
}

impl Ledger {
    /// A claim was handed out.
    pub(crate) fn claimed(&mut self, claim: Claim) -> Result<(), Broken> {
        let earlier = self.fences.insert(claim.build, claim.fence);
        if earlier.is_some_and(|earlier| earlier >= claim.fence) {
            return Err(format!("fence {} of build {} was handed out twice", claim.fence, claim.build));
        }
        Ok(())
    }

    /// A holder's write was taken.
    pub(crate) fn wrote(&self, claim: Claim) -> Result<(), Broken> {
        match self.fences.get(&claim.build) {
            Some(newest) if *newest > claim.fence => {
                Err(format!("build {} took a write under fence {}, and {newest} holds", claim.build, claim.fence))
            }
            _ => Ok(()),
        }
    }

    /// A holder's steps begin. `excused`: somebody among those who run it was stopped, and cannot know.
    pub(crate) fn began(&mut self, build: BuildId, who: usize, excused: impl Fn(usize) -> bool) -> Result<(), Broken> {
        let running = self.running.entry(build).or_default();
        running.insert(who);
        let awake = running.iter().filter(|who| !excused(**who)).count();
        if awake > 1 { Err(format!("{awake} agents run build {build} at once")) } else { Ok(()) }
    }

    /// A holder's steps have ended.
    pub(crate) fn ended(&mut self, build: BuildId, who: usize) {
        if let Some(running) = self.running.get_mut(&build) {
            running.remove(&who);
        }
    }

    /// The forge heard 2xx.
    pub(crate) fn acknowledged(&mut self, answer: &Accepted) -> Result<(), Broken> {
        let first = self.answered.entry(answer.delivery.clone()).or_insert_with(|| answer.clone());
        if first.builds != answer.builds {
            let (delivery, first, now) = (&answer.delivery, &first.builds, &answer.builds);
            return Err(format!("delivery {delivery} was answered with builds {first:?}, and then with {now:?}"));
        }
        Ok(())
    }

    /// What must hold once everything has come to rest.
    pub(crate) fn at_rest(&self, tables: &Tables, forge: &Forge) -> Result<(), Broken> {
        self.every_acknowledged_build_has_ended(tables)?;
        every_build_says_one_final_word(tables)?;
        the_forge_heard_the_newest_builds_verdict(tables, forge)?;
        superseded_builds_yield(tables)
    }

    fn every_acknowledged_build_has_ended(&self, tables: &Tables) -> Result<(), Broken> {
        for answer in self.answered.values() {
            for build in &answer.builds {
                let row = tables.builds.get(build);
                if row.is_none_or(|row| row.state != State::Finished) {
                    let delivery = &answer.delivery;
                    return Err(format!("delivery {delivery} was acknowledged with build {build}, which never ended"));
                }
            }
        }
        Ok(())
    }
}

/// A build that is done has said one final word in each context, and nothing after it. What it left pending in a step's
/// context which a newer build took over meanwhile is that build's to end.
fn every_build_says_one_final_word(tables: &Tables) -> Result<(), Broken> {
    let mut words: BTreeMap<(BuildId, &str), Vec<StatusState>> = BTreeMap::new();
    for (build, context, state) in &tables.words {
        words.entry((*build, context)).or_default().push(*state);
    }
    let owners = owners(tables);
    for ((build, context), words) in words {
        let row = &tables.builds[&build];
        let key = Key { sha: row.new.sha.clone(), context: context.to_owned() };
        let taken_over = context != row.new.status.context && owners[&key] > build;
        let finals = words.iter().filter(|state| **state != StatusState::Pending).count();
        let ends = words.last() != Some(&StatusState::Pending);
        if finals > 1 || (finals == 1 && !ends) || (finals == 0 && !taken_over) {
            return Err(format!("build {build} said {words:?} as {context}: not one final word at the end"));
        }
    }
    Ok(())
}

/// The newest build that spoke of each commit in each context.
fn owners(tables: &Tables) -> BTreeMap<Key, BuildId> {
    let mut owners: BTreeMap<Key, BuildId> = BTreeMap::new();
    for (build, context, _) in &tables.words {
        let key = Key { sha: tables.builds[build].new.sha.clone(), context: context.clone() };
        let owner = owners.entry(key).or_insert(*build);
        *owner = (*owner).max(*build);
    }
    owners
}

/// Pending is never last, and no build has the last word over a newer one of the same commit.
fn the_forge_heard_the_newest_builds_verdict(tables: &Tables, forge: &Forge) -> Result<(), Broken> {
    for (key, newest) in owners(tables) {
        let (sha, context) = (key.sha.as_str().trim_start_matches('0'), &key.context);
        let row = &tables.builds[&newest];
        let Some(last) = forge.listed.get(&key).and_then(|listed| listed.last()) else {
            return Err(format!("the forge was never told of {sha} as {context}, build {newest}"));
        };
        if last.build != newest {
            return Err(format!("build {} has the last word on {sha} as {context} over build {newest}", last.build));
        }
        if last.state == StatusState::Pending {
            return Err(format!("the forge's last word on {sha} as {context} is build {newest}'s pending"));
        }
        if *context == row.new.status.context && Some(last.state) != row.outcome.map(StatusState::from) {
            let (said, outcome) = (last.state, row.outcome);
            return Err(format!("the forge heard {said:?} of build {newest}, which ended as {outcome:?}"));
        }
    }
    Ok(())
}

fn superseded_builds_yield(tables: &Tables) -> Result<(), Broken> {
    for row in tables.builds.values() {
        let Some(newer) = row.superseded_by else { continue };
        let successor = tables.builds.get(&newer).filter(|newer| newer.new.git_ref == row.new.git_ref);
        if newer <= row.id || successor.is_none() {
            return Err(format!(
                "build {} says that {newer} superseded it, which is no later build of its ref",
                row.id
            ));
        }
        if row.outcome != Some(Outcome::Cancelled) {
            return Err(format!("build {} was superseded by {newer} and ended as {:?}", row.id, row.outcome));
        }
    }
    Ok(())
}

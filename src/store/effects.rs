//! What the decisions on deliveries lead to: gathered for a whole round, then written in few statements.

use super::clock::Now;
use super::deletions::{self, Gone};
use super::deliveries::{Accepted, Decision, NewBuild, Pending, Superseded};
use super::facts::Facts;
use super::sql::Connection;
use super::{StoreError, builds, outbox, requests, rulings, scopes};
use crate::domain::build::BuildId;
use crate::domain::repo::RepoId;
use crate::domain::rule::Ruling;
use crate::domain::snapshot::Scope;
use crate::domain::time::Timestamp;

/// What the decisions of a round lead to, gathered so that it is written in few statements.
#[derive(Default)]
pub(super) struct Effects<'d> {
    next_id: BuildId,
    made: Vec<builds::Numbered<'d>>,
    pushed: Vec<BuildId>,
    ends: Vec<requests::End>,
    dropped: Vec<(&'d Scope, Timestamp)>,
    gone: Vec<(&'d RepoId, &'d Gone, Timestamp)>,
    told: Vec<(BuildId, Ruling)>,
}

impl<'d> Effects<'d> {
    /// Nothing yet; the first build that is made has that number, which was reserved with those after it.
    pub(super) fn from(next_id: BuildId) -> Self {
        Self { next_id, ..Self::default() }
    }

    /// Adds what one decision leads to; what its delivery is answered.
    pub(super) fn of(&mut self, one: &'d Pending, decision: &'d Decision, facts: &Facts) -> Accepted {
        let mut answer = Accepted {
            delivery: one.delivery.id.clone(),
            builds: Vec::new(),
            ignored: None,
            cancelled: Vec::new(),
            superseded: Vec::new(),
            made: false,
            rule: Some(decision.rule()),
        };
        match decision {
            Decision::Repeat { because, first } => {
                answer.ignored = Some(because.clone());
                answer.builds.clone_from(&first.builds);
            }
            Decision::Outrun { because } => answer.ignored = Some(because.clone()),
            Decision::Ignore { because, instead, .. } | Decision::Behind { because, instead, .. } => {
                answer.ignored = Some(because.clone());
                if let Some(instead) = instead {
                    self.tell(*instead, one, decision, format!("{} was not built: {because}", asked(one)), None);
                }
            }
            Decision::Already { build, because, pushed, .. } => {
                answer.ignored = Some(because.clone());
                answer.builds.push(*build);
                self.tell(*build, one, decision, format!("{} asks for it too: {because}", asked(one)), None);
                self.pushed.extend(pushed.then_some(*build));
            }
            Decision::Make { build, supersedes, .. } => {
                self.make(one, decision, (build, supersedes), facts, &mut answer)
            }
            Decision::Cancel { rule, because, endings, drops, gone } => {
                answer.ignored = Some(because.clone());
                answer.cancelled = endings.iter().map(|ending| ending.build).collect();
                let delivery = Some(one.delivery.id.as_str());
                self.ends.extend(endings.iter().map(|ending| requests::End::of(ending, *rule, delivery)));
                let at = one.delivery.received_at;
                self.dropped.extend(drops.iter().map(|scope| (scope, at)));
                let repo = one.about.as_ref().map(|about| &about.repo);
                self.gone.extend(repo.zip(gone.as_ref()).map(|(repo, gone)| (repo, gone, at)));
            }
        }
        answer
    }

    fn make(
        &mut self,
        one: &Pending,
        decision: &Decision,
        (build, supersedes): (&'d NewBuild, &'d [Superseded]),
        facts: &Facts,
        answer: &mut Accepted,
    ) {
        let id = self.next_id;
        self.next_id = BuildId(id.0 + 1);
        let attempt = facts.same.as_ref().map_or(1, |same| same.attempt.saturating_add(1));
        self.made.push(builds::Numbered { id, attempt, created_at: one.delivery.received_at, build });
        self.tell(id, one, decision, asked(one), facts.same.as_ref().map(|same| same.id));
        self.ends.extend(supersedes.iter().map(|older| requests::End {
            build: older.build,
            reason: format!("superseded by #{id}"),
            sentence: older.sentence.clone(),
            superseded_by: Some(id),
            rule: older.rule,
            delivery: Some(one.delivery.id.clone()),
        }));
        answer.builds.push(id);
        answer.superseded = supersedes.iter().map(|older| older.build).collect();
        answer.made = true;
    }

    fn tell(&mut self, build: BuildId, one: &Pending, decision: &Decision, because: String, other: Option<BuildId>) {
        let delivery = Some(one.delivery.id.clone());
        let (at, rule) = (one.delivery.received_at, decision.rule());
        self.told.push((build, Ruling { at, rule, because, other_build: other, delivery }));
    }

    /// Writes all of it.
    pub(super) async fn write(&self, connection: &mut Connection, now: Now) -> Result<(), StoreError> {
        builds::insert(connection, &self.made).await?;
        outbox::insert_first(connection, &self.made, now.steady).await?;
        for build in &self.pushed {
            builds::mark_pushed(connection, *build).await?;
        }
        rulings::write(connection, &self.told).await?;
        for end in &self.ends {
            requests::end(connection, end, now).await?;
        }
        scopes::drop(connection, &self.dropped).await?;
        deletions::remember(connection, &self.gone).await
    }
}

/// What a delivery is about, for the history of a build: `push of topic to a1b2c3d`. What none told of says so.
fn asked(one: &Pending) -> String {
    let about = one.about.as_ref();
    if let Some(about) = about.filter(|about| !about.stands_on.is_empty()) {
        let at = about.sha.as_ref().map(|sha| format!(" at {}", sha.short())).unwrap_or_default();
        return format!("{}{at} (found by the sweep)", about.head.short());
    }
    let git_ref = about.map(|about| format!(" of {}", about.git_ref.short())).unwrap_or_default();
    let sha = about.and_then(|about| about.sha.as_ref()).map(|sha| format!(" to {}", sha.short())).unwrap_or_default();
    format!("{}{git_ref}{sha}", one.delivery.event)
}

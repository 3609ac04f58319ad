//! Taking deliveries: what is known is looked up, the real rules decide, what follows is written.

use hookmill::domain::build::{BuildId, State};
use hookmill::intake::{self, Arrival};
use hookmill::store::{Accepted, Decision, Deletion, Facts, Known, NewBuild};

use super::requests::End;
use super::{Now, Row, Tables, Without};

/// So many builds of a ref are looked at when a push's place among others is decided.
const RECENT: usize = 20;

impl Tables {
    pub(crate) fn accept(&mut self, arrival: &Arrival, now: Now) -> Accepted {
        let facts = self.facts(arrival);
        let delivery = &arrival.delivery;
        let decision = intake::decide(arrival, &facts);
        let late = matches!(decision, Decision::Repeat { .. } | Decision::Behind { .. } | Decision::Outrun { .. });
        if let Some(about) = intake::about(arrival).filter(|_| !late) {
            self.heads.insert(about.head.to_string(), about.sha);
        }
        let mut answer = Accepted {
            delivery: delivery.id.clone(),
            builds: Vec::new(),
            ignored: None,
            cancelled: Vec::new(),
            superseded: Vec::new(),
            made: false,
            rule: Some(decision.rule()),
        };
        match decision {
            Decision::Repeat { because, first, .. } => {
                answer.ignored = Some(because);
                answer.builds = first.builds;
                return answer;
            }
            Decision::Already { build, because, pushed, .. } => {
                answer.ignored = Some(because);
                answer.builds.push(build);
                if pushed && let Some(row) = self.builds.get_mut(&build) {
                    row.new.pushed = true;
                }
            }
            Decision::Make { build, supersedes, .. } => {
                let attempt = facts.same.as_ref().map_or(1, |same| same.attempt + 1);
                let made = self.insert(*build, attempt, delivery.received_at, now);
                for older in &supersedes {
                    let (build, sentence) = (older.build, older.sentence.clone());
                    let reason = format!("superseded by #{made}");
                    self.end(End { build, reason, sentence, superseded_by: Some(made) }, now);
                }
                answer.builds.push(made);
                answer.superseded = supersedes.into_iter().map(|older| older.build).collect();
                answer.made = true;
            }
            Decision::Cancel { because, endings, gone, .. } => {
                answer.ignored = Some(because);
                if let Some(gone) = gone {
                    let deletion = Deletion { tip: gone.tip, pushed_at: gone.pushed_at, at: delivery.received_at };
                    self.deletions.entry(gone.git_ref.to_string()).or_default().push(deletion);
                }
                for ending in endings {
                    answer.cancelled.push(ending.build);
                    let (reason, sentence) = (ending.reason, ending.sentence);
                    self.end(End { build: ending.build, reason, sentence, superseded_by: None }, now);
                }
            }
            Decision::Ignore { because, .. } | Decision::Behind { because, .. } | Decision::Outrun { because, .. } => {
                answer.ignored = Some(because)
            }
        }
        if self.without != Without::UniqueDeliveries {
            self.deliveries.insert(key(arrival), answer.clone());
        }
        answer
    }

    /// No decision here asks where the refs stand: only what a sweep finds does, and nothing here is found by one.
    fn facts(&self, arrival: &Arrival) -> Facts {
        let about = intake::about(arrival);
        let about = about.as_ref();
        let unfinished = about.filter(|about| about.unfinished).map(|about| {
            self.of_ref(&about.git_ref).filter(|row| row.state != State::Finished).map(known).collect::<Vec<_>>()
        });
        let same = about.and_then(|about| {
            let sha = about.sha.as_ref()?;
            self.of_commit(&about.git_ref, sha).last().map(known)
        });
        let ordered = about.filter(|about| about.order);
        let recent = ordered.filter(|about| about.unfinished).map(|about| {
            let mut recent: Vec<Known> = self.of_ref(&about.git_ref).map(known).collect();
            recent.drain(..recent.len().saturating_sub(RECENT));
            recent
        });
        let deletions = ordered.and_then(|about| self.deletions.get(about.git_ref.as_str()).cloned());
        Facts {
            first_answer: self.deliveries.get(&key(arrival)).cloned(),
            unfinished: unfinished.unwrap_or_default(),
            same,
            recent: recent.unwrap_or_default(),
            deletions: deletions.unwrap_or_default(),
            ..Facts::default()
        }
    }

    pub(super) fn insert(
        &mut self,
        new: NewBuild,
        attempt: u32,
        created_at: hookmill::domain::time::Timestamp,
        now: Now,
    ) -> BuildId {
        self.last_build += 1;
        let id = BuildId(self.last_build);
        let row = Row {
            id,
            attempt,
            created_at,
            state: new.state,
            outcome: None,
            reason: new.reason.clone(),
            superseded_by: None,
            started_at: None,
            finished_at: None,
            lease_until: None,
            fence: 0,
            claims: 0,
            cancel: None,
            new,
        };
        let first = row.new.status.clone();
        self.builds.insert(id, row);
        self.say(id, &first, now.steady);
        id
    }
}

fn key(arrival: &Arrival) -> (String, String, String) {
    let delivery = &arrival.delivery;
    let repo = delivery.repo.as_ref().map(|repo| repo.folded()).unwrap_or_default();
    (delivery.forge.to_string(), repo, delivery.id.clone())
}

fn known(row: &Row) -> Known {
    Known {
        id: row.id,
        sha: row.new.sha.clone(),
        before: row.new.before.clone(),
        pushed_at: row.new.pushed_at,
        state: row.state,
        outcome: row.outcome,
        cause: row.new.cause,
        pushed: row.new.pushed,
        pull_request: row.new.pull_request,
        superseded_by: row.superseded_by,
        attempt: row.attempt,
        ending: row.cancel.is_some(),
        created_at: row.created_at,
    }
}

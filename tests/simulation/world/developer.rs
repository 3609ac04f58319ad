//! The people: they push, open, close and delete, ask for builds to end or to be repeated; and the forge tells of it, more
//! or less.

use std::collections::BTreeMap;
use std::sync::Arc;

use hookmill::config::server::{RepoRules, Supersede};
use hookmill::domain::build::BuildId;
use hookmill::domain::event::Event as Heard;
use hookmill::domain::repo::RefName;
use hookmill::domain::time::Timestamp;

use super::super::payloads::{arrival, branch, push, request, rules};
use super::database::Op;
use super::{Event, MORNING, SERVERS, Sent, World, to_i64};

/// The state of the repository, as its developers left it.
pub(super) struct Developer {
    rules: Arc<RepoRules>,
    commits: u64,
    /// Where each branch stands.
    heads: BTreeMap<String, u64>,
    /// Open pull requests: number and branch; of a fork, its head.
    requests: BTreeMap<u64, Result<String, u64>>,
    last_request: u64,
    last_delivery: u64,
}

impl Developer {
    pub(super) fn new(supersede: Supersede) -> Self {
        Self {
            rules: rules(supersede),
            commits: 0,
            heads: BTreeMap::new(),
            requests: BTreeMap::new(),
            last_request: 0,
            last_delivery: 0,
        }
    }

    fn commit(&mut self) -> u64 {
        self.commits += 1;
        self.commits
    }
}

impl World {
    pub(super) fn develop(&mut self) {
        if !self.is_troubled() {
            // Half of them tidy up.
            for number in self.developer.requests.keys().copied().collect::<Vec<_>>() {
                if self.rng.bool() {
                    self.close(number);
                }
            }
            return;
        }
        match self.rng.u8(..20) {
            0..8 => self.push(false),
            8 => self.push(true),
            9 => self.push_same_commit(),
            10 => self.tag(),
            11 => self.delete_branch(),
            12..14 => self.open(),
            14 => self.push_to_fork(),
            15 => self.close_one(),
            16 => self.tell_again(),
            17..19 => self.ask_of_a_build(true),
            _ => self.ask_of_a_build(false),
        }
        let pause = if self.rng.u8(..3) == 0 { self.rng.u64(1..500) } else { self.rng.u64(500..60_000) };
        self.later(pause, Event::Develop);
    }

    fn some_branch(&mut self) -> String {
        let n = self.rng.usize(..4);
        if n == 0 { "main".to_owned() } else { format!("topic-{n}") }
    }

    fn push(&mut self, forced: bool) {
        let name = self.some_branch();
        let (before, after) = (self.developer.heads.get(&name).copied(), self.developer.commit());
        self.developer.heads.insert(name.clone(), after);
        self.deliver(push(branch(&name), before, after, forced && before.is_some()));
        let numbers: Vec<u64> =
            self.developer.requests.iter().filter(|(_, of)| **of == Ok(name.clone())).map(|(n, _)| *n).collect();
        for number in numbers {
            self.deliver(request(number, branch(&name), after, false));
        }
    }

    /// A commit that stands on one branch is pushed to another: two builds, one status.
    fn push_same_commit(&mut self) {
        let (from, to) = (self.some_branch(), self.some_branch());
        let Some(&head) = self.developer.heads.get(&from) else { return };
        let before = self.developer.heads.insert(to.clone(), head);
        self.deliver(push(branch(&to), before, head, false));
    }

    fn tag(&mut self) {
        let name = self.some_branch();
        let Some(&head) = self.developer.heads.get(&name) else { return };
        let tag = RefName::tag(&format!("v{}", self.developer.last_delivery)).expect("legal");
        self.deliver(push(tag, None, head, false));
    }

    fn delete_branch(&mut self) {
        let name = self.some_branch();
        if self.developer.heads.remove(&name).is_some() {
            self.deliver(Heard::Deleted { git_ref: branch(&name), tip: None, pushed_at: None });
        }
    }

    fn open(&mut self) {
        self.developer.last_request += 1;
        let number = self.developer.last_request;
        let name = self.some_branch();
        if self.rng.u8(..3) == 0 {
            let head = self.developer.commit();
            self.developer.requests.insert(number, Err(head));
            self.deliver(request(number, RefName::pull_request(number), head, true));
        } else if let Some(&head) = self.developer.heads.get(&name) {
            self.developer.requests.insert(number, Ok(name.clone()));
            self.deliver(request(number, branch(&name), head, false));
        }
    }

    fn push_to_fork(&mut self) {
        let forks = self.developer.requests.iter().find(|(_, of)| of.is_err()).map(|(number, _)| *number);
        let Some(number) = forks else { return };
        let head = self.developer.commit();
        self.developer.requests.insert(number, Err(head));
        self.deliver(request(number, RefName::pull_request(number), head, true));
    }

    fn close_one(&mut self) {
        let numbers: Vec<u64> = self.developer.requests.keys().copied().collect();
        if let Some(number) = self.rng.choice(numbers) {
            self.close(number);
        }
    }

    fn close(&mut self, number: u64) {
        let Some(of) = self.developer.requests.remove(&number) else { return };
        let fork = of.is_err();
        let git_ref = of.map_or_else(|_| RefName::pull_request(number), |name| branch(&name));
        self.deliver(Heard::PullRequestClosed { number, git_ref, fork });
    }

    /// The forge sends a delivery: soon or late, once or twice.
    fn deliver(&mut self, event: Heard) {
        self.developer.last_delivery += 1;
        let id = format!("d{}", self.developer.last_delivery);
        let received = Timestamp(MORNING + to_i64(self.time) + self.wall_turned);
        let arrival = arrival(&id, received, event, &self.developer.rules);
        self.tell(|| format!("forge sends {id}: {:?}", arrival.heard.event));
        self.deliveries.push(Sent { arrival, acknowledged: false });
        let delivery = self.deliveries.len() - 1;
        let way = if self.rng.u8(..6) == 0 { self.rng.u64(1..30_000) } else { self.rng.u64(1..300) };
        self.later(way, Event::Knock { delivery });
        if self.rng.u8(..8) == 0 {
            let again = self.rng.u64(1..5_000);
            self.later(again, Event::Knock { delivery });
        }
    }

    /// Somebody has the forge send a delivery again, first of all one that was not taken.
    fn tell_again(&mut self) {
        let missed = self.deliveries.iter().position(|sent| !sent.acknowledged);
        let any = (!self.deliveries.is_empty()).then(|| self.rng.usize(..self.deliveries.len()));
        if let Some(delivery) = missed.or(any) {
            self.later(10, Event::Knock { delivery });
        }
    }

    fn ask_of_a_build(&mut self, again: bool) {
        let builds: Vec<BuildId> = self.tables.builds.keys().copied().collect();
        if let Some(build) = self.rng.choice(builds) {
            let who = self.rng.usize(..SERVERS);
            self.ask(who, if again { Op::Rerun(build) } else { Op::Cancel(build) }, 10_000);
        }
    }
}

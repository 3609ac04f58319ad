//! Deliveries of one repository, as they are when a signature held and the payload was read.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use hookmill::config::server::{Forks, RepoRules, Supersede};
use hookmill::domain::event::{Event, Heard, PullRequest, Push};
use hookmill::domain::repo::{CommitId, RefName};
use hookmill::domain::spec::Limits;
use hookmill::domain::time::Timestamp;
use hookmill::intake::Arrival;
use hookmill::store::Delivery;

/// The only forge.
pub(crate) const FORGE: &str = "github";
/// The context of builds' own statuses.
pub(crate) const CONTEXT: &str = "hookmill";

pub(crate) fn commit(n: u64) -> CommitId {
    format!("{n:040x}").parse().expect("hex")
}

pub(crate) fn branch(name: &str) -> RefName {
    RefName::branch(name).expect("legal")
}

pub(crate) fn rules(supersede: Supersede) -> Arc<RepoRules> {
    let minute = Duration::from_secs(60);
    Arc::new(RepoRules {
        hook_secrets: Vec::new(),
        clone_url: url::Url::parse("http://127.0.0.1/acme/shop.git").expect("legal"),
        branches: vec!["**".into()],
        tags: true,
        forks: Forks::Approve,
        supersede,
        cache: true,
        network: false,
        scripts: Default::default(),
        git_dependencies: false,
        poll: None,
        registries: Vec::new(),
        secrets: Vec::new(),
        env: BTreeMap::new(),
        root: None,
        limits: Limits {
            step_timeout: minute,
            build_timeout: minute,
            memory: 1 << 30,
            processes: 512,
            cpus: None,
            log_per_step: 1 << 20,
            checkout_files: 1000,
            checkout_bytes: 1 << 30,
        },
    })
}

pub(crate) fn arrival(id: &str, at: Timestamp, event: Event, rules: &Arc<RepoRules>) -> Arrival {
    Arrival {
        delivery: Delivery {
            forge: FORGE.parse().expect("legal"),
            repo: Some("acme/shop".parse().expect("legal")),
            id: id.into(),
            event: "push".into(),
            received_at: at,
            body_bytes: 20_000,
            body_sha256: [7; 32],
        },
        heard: Heard { repo: None, default_branch: Some("main".into()), event },
        rules: Some(Arc::clone(rules)),
        context: CONTEXT.into(),
        found: None,
    }
}

pub(crate) fn push(git_ref: RefName, before: Option<u64>, after: u64, forced: bool) -> Event {
    Event::Push(Push {
        git_ref,
        before: before.map(commit),
        after: commit(after),
        forced,
        skip_ci: false,
        title: None,
        author: Some("jane".into()),
        pushed_at: None,
    })
}

pub(crate) fn request(number: u64, git_ref: RefName, head: u64, fork: bool) -> Event {
    Event::PullRequest(PullRequest {
        number,
        head: commit(head),
        git_ref,
        fork,
        base_branch: "main".into(),
        base: None,
        title: None,
        author: None,
    })
}

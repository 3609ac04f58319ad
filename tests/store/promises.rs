//! The store's promises: what was answered is on disk, one commit is one build, a stale holder writes nothing, and
//! every build ends in exactly one final word. On SQLite as `promises`, on PostgreSQL as `promises_on_postgres`.

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use hookmill::config::server::{Forks, PostgresUrl, RepoRules, StoreUrl};
use hookmill::domain::agent::Order;
use hookmill::domain::audit::{Act, Actor, Deed, Via};
use hookmill::domain::build::{BuildId, KeptLevel, State};
use hookmill::domain::event::{Event, Heard, PullRequest, Push};
use hookmill::domain::lease::Lease;
use hookmill::domain::outcome::{Outcome, Verdict};
use hookmill::domain::repo::{CommitId, ForgeName, RefName};
use hookmill::domain::rule::{Rule, Ruling};
use hookmill::domain::snapshot::{Level, Scope};
use hookmill::domain::spec::{self, Explanation};
use hookmill::domain::status::{Status, StatusState};
use hookmill::domain::step::{CacheUse, Reached, Step, StepKind, StepState};
use hookmill::domain::time::Timestamp;
use hookmill::domain::trust::{APPROVAL_HOLDS, Trust};
use hookmill::intake::{self, Arrival};
use hookmill::store::{
    Accepted, AgentCard, ApproveAnswer, AuditFilter, CancelAnswer, Claimed, Decision, Delivery, Facts, Filter,
    ForgeNews, HeadMoved, OpenError, Options, OutboxItem, Rerun, RerunAnswer, Returned, RowNews, Settled, Store,
    StoreError, WallClock,
};

use crate::support::postgres::Cluster;

const LEASE: Duration = Duration::from_secs(60);
const DAY: i64 = 86_400_000;

/// A place for one database, gone with the test.
struct Place {
    folder: tempfile::TempDir,
    database: Option<(Arc<Cluster>, String)>,
}

impl Place {
    async fn new() -> Place {
        let folder = tempfile::tempdir().expect("a folder");
        if !module_path!().ends_with("::promises_on_postgres") {
            return Place { folder, database: None };
        }
        let cluster = Cluster::shared();
        let database = cluster.make_database().await;
        Place { folder, database: Some((cluster, database)) }
    }

    fn url(&self) -> StoreUrl {
        match &self.database {
            None => StoreUrl::from(&self.file()),
            Some((cluster, database)) => StoreUrl::Postgres(cluster.url(database).parse().expect("legal")),
        }
    }

    /// As text, to be handed to another process.
    fn text(&self) -> String {
        match self.url() {
            StoreUrl::Sqlite(path) => path.display().to_string(),
            StoreUrl::Postgres(url) => url.expose().to_owned(),
        }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("data/hookmill.db")
    }

    /// Waits until a server has ended what a killed process had begun.
    async fn wait_until_left(&self) {
        let Some((cluster, database)) = &self.database else { return };
        let mut connection = cluster.connect(database).await;
        let others =
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()";
        let deadline = Instant::now() + Duration::from_secs(60);
        while sqlx::query_scalar::<_, i64>(others).fetch_one(&mut connection).await.expect("a number") > 0 {
            assert!(Instant::now() < deadline, "somebody is connected still");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

async fn open(place: &Place) -> Store {
    Store::open(place.url(), Options::default()).await.expect("opens")
}

async fn fresh() -> (Place, Store) {
    let place = Place::new().await;
    let store = open(&place).await;
    (place, store)
}

/// As everybody asks who asks for nothing else.
const AGAIN: Rerun = Rerun { use_cache: true, forks: Forks::Approve };

fn jane() -> Actor {
    Actor { who: "jane".into(), via: Via::Session, from: Some("10.0.0.7".into()) }
}

fn commit(n: u64) -> CommitId {
    // As scattered as real ones, so that measurements meet the indexes as they will be.
    format!("{:016x}{n:024x}", n.wrapping_mul(0x9E37_79B9_7F4A_7C15)).parse().expect("hex")
}

fn rules() -> RepoRules {
    let text = "[[forge]]\nname = 'github'\nkind = 'github'\ntoken = 'a-token-of-the-tests'\nhook_secret = 'a secret of the tests'\n\
                [[repo]]\nforge = 'github'\nname = 'acme/shop'\ntags = true\n";
    let loaded = hookmill::config::load::from_text(text, std::path::Path::new("/")).expect("legal");
    loaded.server.forges.rules(&"github/acme/shop".parse().expect("legal")).expect("configured")
}

fn delivery(id: &str) -> Delivery {
    Delivery {
        forge: "github".parse().expect("legal"),
        repo: Some("Acme/Shop".parse().expect("legal")),
        id: id.into(),
        event: "push".into(),
        received_at: Timestamp(1_763_820_000_000),
        body_bytes: 20_000,
        body_sha256: [7; 32],
    }
}

fn arrival(id: &str, event: Event) -> Arrival {
    Arrival {
        delivery: delivery(id),
        heard: Heard { repo: None, default_branch: Some("main".into()), event },
        rules: Some(Arc::new(rules())),
        context: "hookmill".into(),
        found: None,
    }
}

fn push(branch: &str, after: u64) -> Event {
    Event::Push(Push {
        git_ref: format!("refs/heads/{branch}").parse().expect("legal"),
        before: None,
        after: commit(after),
        pushed_at: None,
        forced: false,
        skip_ci: false,
        title: Some("<b>title</b>".into()),
        author: Some("jane".into()),
    })
}

fn deleted(git_ref: RefName) -> Event {
    Event::Deleted { git_ref, tip: None, pushed_at: None }
}

fn request(fork: bool, head: u64) -> Event {
    let git_ref = if fork { "refs/pull/7/head" } else { "refs/heads/topic" };
    Event::PullRequest(PullRequest {
        number: 7,
        head: commit(head),
        git_ref: git_ref.parse().expect("legal"),
        fork,
        base_branch: "main".into(),
        base: Some(commit(99)),
        title: None,
        author: None,
    })
}

fn why() -> Explanation {
    let seen = spec::Decision { seen: "bower.json".into(), decided: "bower install".into(), because: "a rule".into() };
    Explanation { notices: vec!["two lockfiles".into()], decisions: vec![seen] }
}

async fn take(store: &Store, id: &str, event: Event) -> Accepted {
    intake::take(store, arrival(id, event)).await.expect("taken")
}

/// A push to the default branch, where nothing is superseded.
async fn queue(store: &Store, n: u64) -> BuildId {
    take(store, &format!("queue-{n}"), push("main", n)).await.builds[0]
}

async fn claim(store: &Store) -> Claimed {
    store.claim("agent", LEASE).await.expect("store").expect("something is queued")
}

fn passed() -> Verdict {
    Verdict::new(Outcome::Passed, "Passed in 1s")
}

fn status(context: &str, state: StatusState, sentence: &str) -> Status {
    Status { context: context.into(), state, sentence: sentence.into() }
}

async fn due(store: &Store) -> Vec<OutboxItem> {
    store.due(1000).await.expect("store")
}

fn github() -> ForgeName {
    "github".parse().expect("legal")
}

fn news(row: RowNews, why: &str) -> Settled {
    Settled { row, forge: ForgeNews::Nothing, why: why.to_owned(), give_up: Duration::from_secs(86_400) }
}

/// Takes one status, as a sender would.
async fn take_one(store: &Store, sender: &str) -> Option<OutboxItem> {
    store.take(&github(), sender, 1, LEASE, None).await.expect("store").items.pop()
}

/// Takes one status and says what became of it.
async fn settle_one(store: &Store, row: RowNews, why: &str) {
    let item = take_one(store, "sender").await.expect("something is due");
    store.settle("sender", &item, news(row, why)).await.expect("store");
}

async fn said(store: &Store) -> Vec<(i64, String, StatusState, String)> {
    let items = due(store).await.into_iter();
    items.map(|item| (item.build.0, item.status.context, item.status.state, item.status.sentence)).collect()
}

async fn state(store: &Store, id: BuildId) -> (State, Option<Outcome>, Option<String>) {
    let build = store.build(id).await.expect("store").expect("there");
    (build.state, build.outcome, build.reason)
}

/// Waits until at least one lease has run out. The steady clock counts milliseconds, so a lease of none needs one more.
async fn expire(store: &Store) -> Vec<Returned> {
    loop {
        let returned = store.expire_leases().await.expect("store");
        if !returned.is_empty() {
            return returned;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn ten_repeats_at_once_make_one_build() {
    let (_folder, store) = fresh().await;
    let tasks: Vec<_> = (0..10)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move { take(&store, "same", push("main", 1)).await })
        })
        .collect();
    let mut made = 0;
    for task in tasks {
        let answer = task.await.expect("no panic");
        assert_eq!(answer.builds, [BuildId(1)]);
        made += u32::from(answer.made);
        assert!(answer.made || answer.ignored.as_deref() == Some("repeat of delivery same"), "{answer:?}");
    }
    assert_eq!(made, 1);
    assert_eq!(store.builds(&Filter { limit: 50, ..Filter::default() }).await.expect("store").len(), 1);
    assert_eq!(store.deliveries(50).await.expect("store").len(), 1);
    assert_eq!(said(&store).await, [(1, "hookmill".into(), StatusState::Pending, "Queued".into())]);
}

#[tokio::test]
async fn a_push_heard_by_two_hooks_and_its_pull_request_are_one_build() {
    let (_folder, store) = fresh().await;
    let answers = tokio::join!(
        take(&store, "a", push("topic", 1)),
        take(&store, "b", push("topic", 1)),
        take(&store, "c", request(false, 1)),
    );
    let answers = [answers.0, answers.1, answers.2];
    assert_eq!(answers.iter().filter(|answer| answer.made).count(), 1);
    for answer in answers {
        assert_eq!(answer.builds, [BuildId(1)]);
        assert!(answer.made || answer.ignored.as_deref() == Some("already building"), "{answer:?}");
    }
    let build = store.build(BuildId(1)).await.expect("store").expect("there");
    assert_eq!(build.repo.to_string(), "github/Acme/Shop");
    assert_eq!((build.attempt, build.branch.as_deref()), (1, Some("topic")));
}

#[tokio::test]
async fn names_compare_without_case() {
    let (_folder, store) = fresh().await;
    take(&store, "a", push("main", 1)).await;
    let mut shouted = arrival("a", push("main", 1));
    shouted.delivery.repo = Some("ACME/SHOP".parse().expect("legal"));
    let answer = intake::take(&store, shouted).await.expect("taken");
    assert_eq!((answer.made, answer.ignored.as_deref()), (false, Some("repeat of delivery a")));
}

#[tokio::test]
async fn the_end_of_a_pull_request_spares_what_a_push_wants() {
    let (_folder, store) = fresh().await;
    let closed =
        || Event::PullRequestClosed { number: 7, git_ref: "refs/heads/topic".parse().expect("legal"), fork: false };
    take(&store, "a", request(false, 1)).await;
    assert_eq!(take(&store, "b", closed()).await.cancelled, [BuildId(1)]);
    take(&store, "c", request(false, 2)).await;
    take(&store, "d", push("topic", 2)).await;
    assert_eq!(take(&store, "e", closed()).await.cancelled, []);
    assert_eq!(state(&store, BuildId(2)).await.0, State::Queued);
}

#[tokio::test]
async fn a_new_push_ends_the_queued_build_and_asks_the_running_one_to_end() {
    let (_folder, store) = fresh().await;
    take(&store, "a", push("topic", 1)).await;
    let running = claim(&store).await;
    let mut later = arrival("b", push("topic", 2));
    later.delivery.received_at.0 += 40_000;
    let second = intake::take(&store, later).await.expect("taken");
    assert_eq!(second.superseded, [BuildId(1)]);
    let asked = Lease::CancelRequested {
        reason: "superseded by #2".into(),
        sentence: format!("Superseded by {}, pushed 40s later", commit(2).short()),
        superseded_by: Some(BuildId(2)),
    };
    assert_eq!(store.renew(&running.claim, LEASE).await, Ok(asked.clone()));
    assert_eq!(store.lease(&running.claim).await, Ok(asked));

    take(&store, "c", push("topic", 3)).await;
    let queued = store.build(BuildId(2)).await.expect("store").expect("there");
    assert_eq!((queued.state, queued.outcome), (State::Finished, Some(Outcome::Cancelled)));
    assert_eq!((queued.reason.as_deref(), queued.superseded_by), (Some("superseded by #3"), Some(BuildId(3))));

    let verdict = Verdict::new(Outcome::Cancelled, "superseded by #2");
    assert_eq!(store.finish(&running.claim, &verdict, &[]).await, Ok(true));
    let mut finals: Vec<_> = said(&store).await.into_iter().map(|(build, _, state, _)| (build, state)).collect();
    finals.sort_by_key(|(build, _)| *build);
    assert_eq!(finals, [(1, StatusState::Error), (2, StatusState::Error), (3, StatusState::Pending)]);
}

/// The history of a build: each rule with the other build that it names, and the delivery.
async fn history(store: &Store, id: BuildId) -> Vec<(Rule, Option<i64>, Option<String>)> {
    let lines = store.rulings(id).await.expect("store").into_iter();
    lines.map(|Ruling { rule, other_build, delivery, .. }| (rule, other_build.map(|id| id.0), delivery)).collect()
}

#[tokio::test]
async fn each_move_of_a_build_is_told_with_its_rule() {
    let (_folder, store) = fresh().await;
    let by = |rule, other, delivery: &str| (rule, other, Some(delivery.to_owned()));
    take(&store, "a", push("topic", 1)).await;
    take(&store, "b", request(false, 1)).await;
    let claimed = claim(&store).await;
    assert!(store.release(&claimed.claim).await.expect("store").is_some());
    let claimed = store.claim("agent", Duration::ZERO).await.expect("store").expect("queued");
    expire(&store).await;
    assert_eq!(store.renew(&claimed.claim, LEASE).await, Ok(Lease::Lost));
    take(&store, "c", push("topic", 2)).await;
    let first = [
        by(Rule::PushIsBuilt, None, "a"),
        by(Rule::OneBuildNotTwo, None, "b"),
        (Rule::AgentDrains, None, None),
        (Rule::AgentLost, None, None),
        by(Rule::NewestPushWins, Some(2), "c"),
    ];
    assert_eq!(history(&store, BuildId(1)).await, first);

    store.cancel(BuildId(2), &jane()).await.expect("store");
    let RerunAnswer::Made(again) = store.rerun(BuildId(2), AGAIN, &jane()).await.expect("store") else {
        panic!("a new build")
    };
    let second = [
        by(Rule::PushIsBuilt, None, "c"),
        (Rule::CancelledByPerson, None, None),
        (Rule::RerunIsANewBuild, Some(again.0), None),
    ];
    assert_eq!(history(&store, BuildId(2)).await, second);
    let claimed = claim(&store).await;
    for _ in 0..2 {
        assert_eq!(store.cancel(again, &jane()).await, Ok(CancelAnswer::Requested));
    }
    store.finish(&claimed.claim, &Verdict::new(Outcome::Cancelled, "cancelled by jane"), &[]).await.expect("store");
    let third = [(Rule::RerunIsANewBuild, Some(2), None), (Rule::CancelledByPerson, None, None)];
    assert_eq!(history(&store, again).await, third, "who asked first, once");

    let lost = queue(&store, 9).await;
    for _ in 0..3 {
        store.claim("agent", Duration::ZERO).await.expect("store").expect("queued");
        expire(&store).await;
    }
    let rules: Vec<_> = history(&store, lost).await.into_iter().map(|(rule, ..)| rule).collect();
    assert_eq!(rules, [Rule::PushIsBuilt, Rule::AgentLost, Rule::AgentLost, Rule::AgentLostTooOften]);
    let because = store.rulings(lost).await.expect("store").remove(0).because;
    assert_eq!(because, format!("push of main to {}", commit(9).short()));

    let end = Timestamp(i64::MAX);
    while !due(&store).await.is_empty() {
        settle_one(&store, RowNews::Sent, "").await;
    }
    store.forget(end, end).await.expect("store");
    assert_eq!(history(&store, BuildId(1)).await, [], "it goes with its build");
}

#[tokio::test]
async fn what_is_delivered_after_its_end_or_its_successor_is_not_built() {
    let (_folder, store) = fresh().await;
    let moved = |before: u64, after| match push("topic", after) {
        Event::Push(push) => Event::Push(Push { before: (before > 0).then(|| commit(before)), ..push }),
        other => other,
    };
    let gone = |tip| Event::Deleted {
        git_ref: "refs/heads/topic".parse().expect("legal"),
        tip: Some(commit(tip)),
        pushed_at: None,
    };
    // The later push was built to its end before the earlier one was delivered.
    let later = take(&store, "b", moved(1, 2)).await.builds[0];
    let claimed = claim(&store).await;
    store.finish(&claimed.claim, &passed(), &[]).await.expect("store");
    let late = take(&store, "a", moved(0, 1)).await;
    assert_eq!((late.made, late.rule), (false, Some(Rule::LatePushYields)), "{late:?}");
    assert_eq!(history(&store, later).await[1], (Rule::LatePushYields, None, Some("a".to_owned())));

    // Made and deleted within a moment, and delivered the other way round; the same push again does not change that.
    take(&store, "d", gone(3)).await;
    for id in ["c", "c-again"] {
        let late = take(&store, id, moved(0, 3)).await;
        assert_eq!((late.made, late.rule), (false, Some(Rule::DeletedBeforePush)), "{late:?}");
    }
    // The branch is made again.
    assert!(take(&store, "e", moved(0, 4)).await.made);
    take(&store, "f", gone(4)).await;
    let again = take(&store, "g", moved(0, 4)).await;
    assert_eq!((again.made, again.rule), (true, Some(Rule::AskedAgain)), "its push was heard before its end");
    let kept = store.deliveries(1).await.expect("store").remove(0);
    assert_eq!(kept.answer.rule, Some(Rule::AskedAgain), "the delivery's record says it");
}

#[tokio::test]
async fn on_the_default_branch_every_push_is_built() {
    let (_folder, store) = fresh().await;
    for n in 1..=3 {
        queue(&store, n).await;
    }
    assert_eq!(store.counts().await.expect("store").queued, 3);
}

#[tokio::test]
async fn a_fork_waits_and_lapses() {
    let (_folder, store) = fresh().await;
    assert!(take(&store, "a", request(true, 1)).await.made);
    assert!(store.claim("agent", LEASE).await.expect("store").is_none(), "a waiting build is never claimed");
    take(&store, "b", request(true, 2)).await;
    assert_eq!(state(&store, BuildId(1)).await.2.as_deref(), Some("superseded by #2"));
    let git_ref = "refs/pull/7/head".parse().expect("legal");
    let closed = take(&store, "c", Event::PullRequestClosed { number: 7, git_ref, fork: true }).await;
    assert_eq!((closed.made, closed.cancelled), (false, vec![BuildId(2)]));

    take(&store, "d", request(true, 3)).await;
    assert_eq!(store.lapse_waiting(Duration::from_secs(14 * 86_400)).await, Ok(vec![BuildId(3)]));
    assert_eq!(state(&store, BuildId(3)).await.2.as_deref(), Some("nobody approved it within 14 days"));
    let RerunAnswer::Made(again) = store.rerun(BuildId(3), AGAIN, &jane()).await.expect("store") else {
        panic!("a new build");
    };
    assert_eq!(state(&store, again).await.0, State::Waiting, "a repetition is no approval");
}

#[tokio::test]
async fn an_approval_is_for_one_commit_while_that_is_the_head() {
    let place = Place::new().await;
    let wall = Arc::new(AtomicI64::new(20_000 * DAY));
    let turned = Arc::clone(&wall);
    let wall_clock = WallClock::new(move || Timestamp(turned.load(Ordering::SeqCst)));
    let store = Store::open(place.url(), Options { wall_clock, ..Options::default() }).await.expect("opens");
    let approve =
        async |id: i64, sha: Option<u64>| store.approve(BuildId(id), sha.map(commit), &jane()).await.expect("store");
    let again = async |id: BuildId, asked: Rerun| match store.rerun(id, asked, &jane()).await {
        Ok(RerunAnswer::Made(made)) => made,
        other => panic!("{other:?}"),
    };
    let end = async |id: BuildId| {
        let claimed = claim(&store).await;
        assert_eq!(claimed.build.id, id);
        assert!(store.finish(&claimed.claim, &passed(), &[]).await.expect("store"));
    };
    let last_rule = async |id: BuildId| history(&store, id).await.last().map(|line| line.0);
    assert_eq!(approve(1, None).await, ApproveAnswer::NotFound);
    take(&store, "a", request(true, 1)).await;
    assert_eq!(approve(1, Some(2)).await, ApproveAnswer::OtherCommit(commit(1)));
    let (first, second) = tokio::join!(approve(1, Some(1)), approve(1, None));
    let once = [ApproveAnswer::Approved(commit(1)), ApproveAnswer::NotNeeded];
    assert!(once.iter().all(|answer| [&first, &second].contains(&answer)), "{first:?} {second:?}");
    let build = store.build(BuildId(1)).await.expect("store").expect("there");
    assert_eq!((build.state, build.approved_by.as_deref(), build.reason), (State::Queued, Some("jane"), None));
    assert_eq!(last_rule(BuildId(1)).await, Some(Rule::ForkApproved));
    let pending = due(&store).await.remove(0).status;
    assert_eq!((pending.state, &*pending.sentence), (StatusState::Pending, "Queued, approved by jane"));
    let done = store.audit(&AuditFilter { limit: 9, ..AuditFilter::default() }).await.expect("store").remove(0).deed;
    let act = Act::Approved { sha: commit(1), pull_request: Some(7) };
    let repo = Some("github/acme/shop".parse().expect("legal"));
    assert_eq!(done, Deed { actor: jane(), act, build: Some(BuildId(1)), repo });
    end(BuildId(1)).await;

    // The same commit again: the word that was given holds, for a fortnight.
    let second = again(BuildId(1), AGAIN).await;
    assert_eq!((state(&store, second).await.0, last_rule(second).await), (State::Queued, Some(Rule::ApprovalHolds)));
    end(second).await;
    wall.fetch_add(i64::try_from(APPROVAL_HOLDS.as_millis()).expect("days"), Ordering::SeqCst);
    let late = again(second, AGAIN).await;
    assert_eq!((state(&store, late).await.0, last_rule(late).await), (State::Waiting, Some(Rule::ForkWaits)));

    // The next push: what waited lapsed, and what was approved is not built again.
    let newest = take(&store, "b", request(true, 2)).await.builds[0];
    let moved = || HeadMoved::To(commit(2));
    assert_eq!(approve(late.0, None).await, ApproveAnswer::HeadMoved(moved()));
    assert_eq!(approve(1, None).await, ApproveAnswer::NotNeeded, "it was built");
    assert_eq!(store.rerun(BuildId(1), AGAIN, &jane()).await, Ok(RerunAnswer::HeadMoved(moved())));
    let free = again(late, Rerun { forks: Forks::Build, ..AGAIN }).await;
    assert_eq!((state(&store, free).await.0, last_rule(free).await), (State::Queued, Some(Rule::ForkIsBuilt)));
    end(free).await;
    assert_eq!(approve(newest.0, Some(2)).await, ApproveAnswer::Approved(commit(2)), "the head is approved");

    // With the pull request everything ends, also what was approved; opened again, it is asked again.
    let git_ref = "refs/pull/7/head".parse().expect("legal");
    take(&store, "c", Event::PullRequestClosed { number: 7, git_ref, fork: true }).await;
    assert_eq!(state(&store, newest).await.2.as_deref(), Some("pull request 7 was closed"));
    assert_eq!(store.rerun(newest, AGAIN, &jane()).await, Ok(RerunAnswer::HeadMoved(HeadMoved::Closed)));
    let reopened = take(&store, "d", request(true, 2)).await.builds[0];
    assert_eq!(state(&store, reopened).await.0, State::Waiting);

    // A branch's build needs no word, whoever gives one.
    let trusted = queue(&store, 9).await;
    assert_eq!(approve(trusted.0, None).await, ApproveAnswer::NotNeeded);
}

#[tokio::test]
async fn what_people_do_is_written_with_what_they_change() {
    let (_folder, store) = fresh().await;
    let done = async || -> Vec<(String, Option<i64>)> {
        let entries = store.audit(&AuditFilter { limit: 50, ..AuditFilter::default() }).await.expect("store");
        assert!(entries.iter().all(|entry| entry.deed.actor == jane()));
        entries.into_iter().map(|entry| (entry.deed.says(), entry.deed.build.map(|id| id.0))).collect()
    };
    let id = queue(&store, 1).await;
    assert_eq!(store.rerun(id, AGAIN, &jane()).await, Ok(RerunAnswer::NotFinished));
    assert_eq!(store.order_agent("nobody", Order::Pause, &jane()).await, Ok(false));
    assert_eq!(store.resend(id, &jane()).await, Ok(0));
    assert_eq!(store.approve(id, None, &jane()).await, Ok(ApproveAnswer::NotNeeded));
    assert_eq!(done().await, [], "what was refused changed nothing");

    for _ in 0..2 {
        store.cancel(id, &jane()).await.expect("store");
    }
    let twice = [store.rerun(id, AGAIN, &jane()).await, store.rerun(id, AGAIN, &jane()).await];
    assert_eq!(twice[0], twice[1]);
    let card = AgentCard {
        name: "build-2".into(),
        identity: "x".into(),
        version: "0".into(),
        sandbox: String::new(),
        slots: 1,
    };
    store.register_agent(&card, LEASE).await.expect("store");
    assert_eq!(store.order_agent("build-2", Order::Drain, &jane()).await, Ok(true));
    let expected = [("let agent build-2 drain", None), ("had #1 built again", Some(2)), ("cancelled #1", Some(1))];
    assert_eq!(done().await, expected.map(|(says, build)| (says.to_owned(), build)));
    store.forget(Timestamp(i64::MAX), Timestamp(0)).await.expect("store");
    assert_eq!(done().await.len(), 3, "it outlives the builds");
}

#[tokio::test]
async fn a_deleted_branch_cancels_its_builds() {
    let (_folder, store) = fresh().await;
    take(&store, "a", push("topic", 1)).await;
    let git_ref = "refs/heads/topic".parse().expect("legal");
    let answer = take(&store, "b", deleted(git_ref)).await;
    assert_eq!(answer.cancelled, [BuildId(1)]);
    assert_eq!(answer.ignored.as_deref(), Some("branch topic was deleted"));
    let last = (1, "hookmill".into(), StatusState::Error, "Cancelled: branch topic was deleted".into());
    assert_eq!(said(&store).await, [last]);
}

#[tokio::test]
async fn a_closed_pull_request_and_a_deleted_branch_end_their_scopes() {
    let (_folder, store) = fresh().await;
    let topic = || "refs/heads/topic".parse().expect("legal");
    let scope = |trust, git_ref: &str| Scope {
        repo: "github/acme/shop".parse().expect("legal"),
        trust,
        git_ref: git_ref.parse().expect("legal"),
    };
    let (trusted, member) = (scope(Trust::Trusted, "refs/heads/topic"), scope(Trust::Member, "refs/heads/topic"));
    let fork = scope(Trust::Fork, "refs/pull/7/head");
    let closed = |fork: bool| Event::PullRequestClosed {
        number: 7,
        git_ref: if fork { "refs/pull/7/head".parse().expect("legal") } else { topic() },
        fork,
    };
    let dropped = async |since: i64| -> Vec<(String, i64)> {
        let dropped = store.dropped_scopes(Timestamp(since)).await.expect("store");
        dropped.iter().map(|one| (one.scope.to_string(), one.last_build.0)).collect()
    };
    let is_dropped = async |scope: &Scope, build| store.is_dropped(scope, BuildId(build)).await.expect("store");
    let heard = delivery("").received_at.0;

    take(&store, "1", push("topic", 1)).await;
    assert!(dropped(0).await.is_empty());
    take(&store, "2", closed(false)).await;
    assert!(!is_dropped(&trusted, 1).await, "the branch lives on");
    assert!(is_dropped(&member, 1).await);
    take(&store, "3", deleted(topic())).await;
    take(&store, "3", deleted(topic())).await;
    assert!(is_dropped(&trusted, 1).await);
    let told = |trust: &str, build| (format!("github/Acme/Shop topic ({trust})"), build);
    let three = vec![told("member", 1), told("trusted", 1), told("member", 1)];
    assert_eq!(dropped(heard).await, three, "a repeated delivery ends nothing again");
    assert!(dropped(heard + 1).await.is_empty());

    // What comes back is not lost again.
    take(&store, "4", push("topic", 2)).await;
    assert!(is_dropped(&trusted, 1).await && !is_dropped(&trusted, 2).await);

    take(&store, "5", request(true, 3)).await;
    take(&store, "6", closed(true)).await;
    assert!(is_dropped(&fork, 3).await && !is_dropped(&trusted, 2).await);
    let forks_are_built = Rerun { forks: Forks::Build, ..AGAIN };
    let RerunAnswer::Made(again) = store.rerun(BuildId(3), forks_are_built, &jane()).await.expect("store") else {
        panic!("a new build");
    };
    assert!(is_dropped(&fork, again.0).await, "a repetition brings no pull request back");
    let reopened = take(&store, "7", request(true, 4)).await.builds[0];
    assert!(!is_dropped(&fork, reopened.0).await);

    let tag = "refs/tags/v1".parse().expect("legal");
    take(&store, "8", deleted(tag)).await;
    assert_eq!(dropped(0).await.len(), 4, "a tag's builds keep nothing");
    store.forget(Timestamp(0), Timestamp(0)).await.expect("store");
    assert!(dropped(0).await.is_empty(), "all of it was heard more than 30 days ago");
}

#[tokio::test]
async fn whose_verdict_was_taken_and_what_was_kept_are_written_by_the_holder() {
    let (_folder, store) = fresh().await;
    let id = queue(&store, 1).await;
    let kept = [KeptLevel { level: Level::Packages, bytes: 81_000_000 }, KeptLevel { level: Level::Verdict, bytes: 0 }];
    let lost = store.claim("agent", Duration::ZERO).await.expect("store").expect("queued").claim;
    assert_eq!(store.set_same_as(&lost, BuildId(7)).await, Ok(true));
    assert_eq!(expire(&store).await, [Returned::Queued(id)]);
    assert_eq!(store.build(id).await.expect("store").expect("there").same_as, None, "the next try may not find it");

    let claim = claim(&store).await.claim;
    assert_eq!(store.set_same_as(&lost, BuildId(7)).await, Ok(false));
    assert_eq!(store.set_same_as(&claim, BuildId(8)).await, Ok(true));
    assert_eq!(store.set_kept(&claim, &kept).await, Ok(false), "nothing is kept of a build that may still fail");
    assert_eq!(store.finish(&claim, &passed(), &[]).await, Ok(true));
    assert_eq!(store.set_kept(&lost, &kept).await, Ok(false));
    assert_eq!(store.set_kept(&claim, &kept).await, Ok(true));
    let build = store.build(id).await.expect("store").expect("there");
    assert_eq!((build.same_as, build.kept_in_words()), (Some(BuildId(8)), "packages 81 MB, verdict".to_owned()));
    assert_eq!(build.kept, kept);
}

#[tokio::test]
async fn a_zero_byte_in_a_title_loses_no_push() {
    let (_place, store) = fresh().await;
    let Event::Push(mut pushed) = push("main", 1) else { unreachable!() };
    pushed.title = Some("nothing\0 at all".into());
    let id = take(&store, "a", Event::Push(pushed)).await.builds[0];
    let title = store.build(id).await.expect("store").expect("there").title;
    assert_eq!(title.as_deref(), Some("nothing\u{fffd} at all"));
}

/// On this runtime of one thread, both requests are in the channel before the writing task runs: one transaction.
#[tokio::test]
async fn a_bad_row_fails_alone() {
    let (_folder, store) = fresh().await;
    let impossible = move |facts: &Facts| match intake::decide(&arrival("bad", push("main", 1)), facts) {
        Decision::Make { rule, mut build, supersedes } => {
            build.state = State::Finished;
            Decision::Make { rule, build, supersedes }
        }
        other => other,
    };
    let (bad, good) = tokio::join!(
        store.accept(delivery("bad"), None, Box::new(impossible)),
        intake::take(&store, arrival("good", push("main", 2)))
    );
    assert!(matches!(bad, Err(StoreError::Refused(_))), "{bad:?}");
    assert!(good.expect("taken").made);
    let kept: Vec<_> = store.deliveries(9).await.expect("store").into_iter().map(|kept| kept.delivery.id).collect();
    assert_eq!(kept, ["good"]);
    store.check().await.expect("a bad row is no outage");
}

#[tokio::test]
async fn a_stale_holder_writes_nothing() {
    let (_folder, store) = fresh().await;
    let id = queue(&store, 1).await;
    let stale = store.claim("agent", Duration::ZERO).await.expect("store").expect("queued");
    assert_eq!(expire(&store).await, [Returned::Queued(id)]);
    let holder = claim(&store).await;
    assert_eq!((holder.claims, holder.build.id), (2, id));
    assert!(holder.claim.fence > stale.claim.fence);

    let step = Step::queued("npm", StepKind::Install);
    let word = status("hookmill/npm", StatusState::Pending, "npm install");
    assert_eq!(store.renew(&stale.claim, LEASE).await, Ok(Lease::Lost));
    assert_eq!(store.lease(&stale.claim).await, Ok(Lease::Lost));
    assert_eq!(store.set_sandbox(&stale.claim, "none").await, Ok(false));
    assert_eq!(store.set_built_sha(&stale.claim, &commit(5)).await, Ok(false));
    assert_eq!(store.set_plan(&stale.claim, std::slice::from_ref(&step), &why()).await, Ok(false));
    assert_eq!(store.report(&stale.claim, std::slice::from_ref(&word)).await, Ok(false));
    assert_eq!(store.finish(&stale.claim, &passed(), &[]).await, Ok(false));
    assert_eq!(store.release(&stale.claim).await, Ok(None));

    assert_eq!(store.set_plan(&holder.claim, std::slice::from_ref(&step), &why()).await, Ok(true));
    let ended = Step {
        state: StepState::Finished,
        outcome: Some(Outcome::Passed),
        exit_code: Some(0),
        cache: CacheUse::Miss,
        started_at: Some(Timestamp(1)),
        finished_at: Some(Timestamp(2)),
        reason: Some("Bundle failed: no price".to_owned()),
        cache_note: Some("package-lock.json changed since build #7".to_owned()),
        mend: Some("# .hookmill.toml\n[env]\nA = \"1\"".to_owned()),
        reached: vec![Reached { host: "npm.lan:443".to_owned(), bytes: 7, closed: false }],
        ..step
    };
    assert_eq!(store.update_step(&stale.claim, &ended).await, Ok(false));
    assert_eq!(store.update_step(&holder.claim, &ended).await, Ok(true));
    assert_eq!(store.report(&holder.claim, &[word]).await, Ok(true));
    assert_eq!(store.finish(&holder.claim, &passed(), &[]).await, Ok(true));
    assert_eq!(store.finish(&holder.claim, &passed(), &[]).await, Ok(false), "a build finishes once");
    let build = store.build(id).await.expect("store").expect("there");
    assert_eq!((build.outcome, build.sandbox.as_str(), build.steps), (Some(Outcome::Passed), "", vec![ended]));
    let finals: Vec<_> = said(&store).await.into_iter().map(|(_, context, state, _)| (context, state)).collect();
    let both = [("hookmill".to_owned(), StatusState::Success), ("hookmill/npm".to_owned(), StatusState::Success)];
    assert_eq!(finals, both, "what was left pending got its final word, too");
}

#[tokio::test]
async fn a_build_whose_agent_is_lost_three_times_ends_broken() {
    let (_folder, store) = fresh().await;
    let id = queue(&store, 1).await;
    for last in [false, false, true] {
        let claimed = store.claim("agent", Duration::ZERO).await.expect("store").expect("queued");
        let word = status("hookmill/npm", StatusState::Pending, "npm install");
        store.report(&claimed.claim, &[word]).await.expect("store");
        store.set_plan(&claimed.claim, &[Step::queued("npm", StepKind::Install)], &why()).await.expect("store");
        let expected = if last { Returned::Finished(id, Outcome::Broken) } else { Returned::Queued(id) };
        assert_eq!(expire(&store).await, [expected]);
    }
    assert_eq!(state(&store, id).await, (State::Finished, Some(Outcome::Broken), Some("agent lost".into())));
    let words = said(&store).await;
    assert_eq!(words.len(), 2, "{words:?}");
    assert!(words.iter().all(|(_, _, state, _)| *state == StatusState::Error), "{words:?}");
}

#[tokio::test]
async fn giving_back_does_not_count_and_a_cancel_request_is_heeded() {
    let (_folder, store) = fresh().await;
    let id = queue(&store, 1).await;
    for _ in 0..5 {
        let claimed = claim(&store).await;
        assert_eq!(claimed.claims, 1);
        assert_eq!(store.release(&claimed.claim).await, Ok(Some(Returned::Queued(id))));
    }
    let claimed = claim(&store).await;
    assert_eq!(store.cancel(id, &jane()).await, Ok(CancelAnswer::Requested));
    assert_eq!(store.release(&claimed.claim).await, Ok(Some(Returned::Finished(id, Outcome::Cancelled))));
    assert_eq!(state(&store, id).await.2.as_deref(), Some("cancelled by jane"));
    assert_eq!(store.cancel(id, &jane()).await, Ok(CancelAnswer::AlreadyFinished));
    assert_eq!(store.cancel(BuildId(99), &jane()).await, Ok(CancelAnswer::NotFound));
}

#[tokio::test]
async fn turning_the_wall_clock_loses_no_lease_and_delays_no_status() {
    let place = Place::new().await;
    let wall = Arc::new(AtomicI64::new(20_000 * DAY));
    let turned = Arc::clone(&wall);
    let wall_clock = WallClock::new(move || Timestamp(turned.load(Ordering::SeqCst)));
    let options = Options { wall_clock, ..Options::default() };
    let store = Store::open(place.url(), options).await.expect("opens");
    queue(&store, 1).await;
    let claimed = claim(&store).await;
    for jump in [DAY, -2 * DAY] {
        wall.fetch_add(jump, Ordering::SeqCst);
        assert_eq!(store.expire_leases().await, Ok(vec![]));
        assert_eq!(store.renew(&claimed.claim, LEASE).await, Ok(Lease::Held));
        assert_eq!(due(&store).await.len(), 1);
    }
}

#[tokio::test]
async fn a_rerun_is_a_new_attempt_and_asked_twice_it_is_one() {
    let (_folder, store) = fresh().await;
    let id = queue(&store, 1).await;
    assert_eq!(store.rerun(id, AGAIN, &jane()).await, Ok(RerunAnswer::NotFinished));
    assert_eq!(store.rerun(BuildId(99), AGAIN, &jane()).await, Ok(RerunAnswer::NotFound));
    store.finish(&claim(&store).await.claim, &passed(), &[]).await.expect("store");
    let twice = [
        store.rerun(id, Rerun { use_cache: false, ..AGAIN }, &jane()).await,
        store.rerun(id, Rerun { use_cache: false, ..AGAIN }, &jane()).await,
    ];
    assert_eq!(twice, [Ok(RerunAnswer::Made(BuildId(2))), Ok(RerunAnswer::Made(BuildId(2)))]);
    let again = store.build(BuildId(2)).await.expect("store").expect("there");
    assert_eq!((again.attempt, again.rerun_of, again.use_cache), (2, Some(id), false));
    assert_eq!((again.sha, again.state), (commit(1), State::Queued));
}

#[tokio::test]
async fn the_outbox_keeps_order_and_sends_only_the_newest() {
    let (_folder, store) = fresh().await;
    queue(&store, 1).await;
    queue(&store, 2).await;
    let first = claim(&store).await;
    let running = status("hookmill", StatusState::Pending, "Running");
    store.report(&first.claim, &[running]).await.expect("store");
    let sentences: Vec<_> = said(&store).await.into_iter().map(|(build, _, _, text)| (build, text)).collect();
    assert_eq!(sentences, [(2, "Queued".to_owned()), (1, "Running".to_owned())], "the unsent older one is replaced");

    settle_one(&store, RowNews::Later(Duration::from_secs(3600)), "502").await;
    assert_eq!(due(&store).await.len(), 1);
    let health = store.outbox_health().await.expect("store");
    assert_eq!((health.unsent, health.failing, health.last_error.as_deref()), (2, 1, Some("502")));

    // Our caution ends when somebody mended the cause.
    let item = take_one(&store, "sender").await.expect("due");
    let careful = Settled { forge: ForgeNews::Careful(Duration::from_secs(60)), ..news(RowNews::Later(LEASE), "502") };
    store.settle("sender", &item, careful).await.expect("store");
    assert!(due(&store).await.is_empty());
    assert_eq!(store.outbox_health().await.expect("store").paused.len(), 1);
    store.resume_forge(&github()).await.expect("store");
    assert_eq!(due(&store).await.len(), 2, "whatever waited only for that is due now");

    settle_one(&store, RowNews::Later(Duration::from_secs(3600)), "502").await;
    settle_one(&store, RowNews::Sent, "").await;
    assert!(due(&store).await.is_empty());
    let last = status("hookmill", StatusState::Success, "Passed");
    store.finish(&first.claim, &passed(), &[last]).await.expect("store");
    settle_one(&store, RowNews::Dead, "given up after a day").await;
    assert_eq!(store.outbox_health().await.expect("store").dead, 1);
}

#[tokio::test]
async fn a_commit_belongs_to_its_newest_build() {
    let (_folder, store) = fresh().await;
    take(&store, "a", push("one", 1)).await;
    take(&store, "b", push("two", 1)).await;
    let (older, newer) = (claim(&store).await, claim(&store).await);
    store.report(&older.claim, &[status("hookmill", StatusState::Pending, "Running")]).await.expect("store");
    store.finish(&newer.claim, &passed(), &[status("hookmill", StatusState::Success, "Passed")]).await.expect("store");
    let failed = Verdict::new(Outcome::Failed, "failed");
    store.finish(&older.claim, &failed, &[status("hookmill", StatusState::Failure, "Failed")]).await.expect("store");
    assert_eq!(said(&store).await, [(2, "hookmill".into(), StatusState::Success, "Passed".into())]);
}

#[tokio::test]
async fn pauses_keys_and_claims_survive_a_restart() {
    let (place, store) = fresh().await;
    let id = queue(&store, 1).await;
    claim(&store).await;
    let key = store.link_key();
    let forge = "github".parse().expect("legal");
    store.pause_forge(&forge, Duration::from_secs(600), "Retry-After").await.expect("store");
    store.close().await;
    assert_eq!(store.cancel(id, &jane()).await, Err(StoreError::Closed));

    let store = open(&place).await;
    assert_eq!(store.link_key(), key);
    assert!(due(&store).await.is_empty(), "the forge is still left alone");
    assert_eq!(store.recover("agent").await, Ok(vec![Returned::Queued(id)]));
    assert_eq!(claim(&store).await.claims, 2);
}

#[tokio::test]
async fn a_second_process_is_told_who_holds_the_file_or_shares_the_server() {
    let (place, store) = fresh().await;
    let second = Store::open(place.url(), Options::default()).await;
    if place.database.is_some() {
        let id = queue(&store, 1).await;
        assert_eq!(claim(&second.expect("opens beside it")).await.build.id, id);
        return;
    }
    let refusal = second.expect_err("held");
    assert!(matches!(refusal, OpenError::Held { pid: Some(pid), .. } if pid == std::process::id()), "{refusal}");
    store.close().await;
    open(&place).await;
}

#[tokio::test]
async fn another_programs_database_is_refused() {
    let place = Place::new().await;
    if let Some((cluster, database)) = &place.database {
        cluster.say(database, "CREATE TABLE schema_version (version TEXT); CREATE TABLE theirs (a TEXT)").await;
    } else {
        std::fs::create_dir(place.file().parent().expect("a folder")).expect("made");
        std::fs::write(place.file(), "not a database, but long enough to be looked at. ".repeat(100)).expect("written");
    }
    let refusal = Store::open(place.url(), Options::default()).await.expect_err("refused").to_string();
    assert!(refusal.contains(place.url().to_string().trim_start_matches("sqlite://")), "{refusal}");
}

#[tokio::test]
async fn a_plans_explanation_lives_and_goes_with_its_build() {
    let (_folder, store) = fresh().await;
    let id = queue(&store, 1).await;
    let kept = || async { store.explanation(id).await.expect("store") };
    let lost = store.claim("agent", Duration::ZERO).await.expect("store").expect("queued").claim;
    assert_eq!(kept().await, None, "not planned yet");
    assert_eq!(store.set_plan(&lost, &[], &why()).await, Ok(true));
    assert_eq!(kept().await, Some(why()));
    assert_eq!(expire(&store).await, [Returned::Queued(id)]);
    assert_eq!(kept().await, None, "it will be planned anew");

    let claim = claim(&store).await.claim;
    assert_eq!(store.set_plan(&claim, &[], &why()).await, Ok(true));
    let grown = Explanation { notices: vec!["two lockfiles".into(), "a host was refused".into()], ..why() };
    assert_eq!(store.set_explanation(&lost, &grown).await, Ok(false));
    assert_eq!(store.set_explanation(&claim, &grown).await, Ok(true));
    assert_eq!(kept().await, Some(grown));
    store.finish(&claim, &passed(), &[]).await.expect("store");
    while !due(&store).await.is_empty() {
        settle_one(&store, RowNews::Sent, "").await;
    }
    store.forget(Timestamp(i64::MAX), Timestamp(0)).await.expect("store");
    assert_eq!(kept().await, None);
}

#[tokio::test]
async fn old_things_are_forgotten_and_numbers_never_given_again() {
    let (_folder, store) = fresh().await;
    for n in 1..=3 {
        queue(&store, n).await;
        store.finish(&claim(&store).await.claim, &passed(), &[]).await.expect("store");
    }
    for _ in 0..2 {
        settle_one(&store, RowNews::Sent, "").await;
    }
    let forgotten = store.forget(Timestamp(i64::MAX), Timestamp(0)).await.expect("store");
    assert_eq!(forgotten.builds, [BuildId(1), BuildId(2)], "a build with an unsent status stays");
    assert_eq!(forgotten.deliveries, 0);
    while !due(&store).await.is_empty() {
        settle_one(&store, RowNews::Sent, "").await;
    }
    store.forget(Timestamp(i64::MAX), Timestamp(i64::MAX)).await.expect("store");
    assert_eq!(queue(&store, 4).await, BuildId(4));
}

#[tokio::test]
async fn who_did_what_is_kept_listed_by_pages_and_forgotten_by_age() {
    let place = Place::new().await;
    let clock = Arc::new(AtomicI64::new(1_763_820_000_000));
    let wall_clock = WallClock::new({
        let clock = Arc::clone(&clock);
        move || Timestamp(clock.load(Ordering::Relaxed))
    });
    let store = Store::open(place.url(), Options { wall_clock, ..Options::default() }).await.expect("opens");
    let deed = |n: i64| Deed {
        actor: Actor { who: "admin".into(), via: Via::Token, from: Some("10.0.0.7".into()) },
        act: Act::SecretGiven { step: "bundle".into(), name: format!("SECRET_{n}\u{0}") },
        build: Some(BuildId(n)),
        repo: (n != 2).then(|| "github/Acme/Shop".parse().expect("legal")),
    };
    store.record(vec![deed(1), deed(2)]).await.expect("store");
    clock.fetch_add(DAY, Ordering::Relaxed);
    store.record(vec![deed(3)]).await.expect("store");
    store.record(Vec::new()).await.expect("nothing to write is no fault");

    let list = async |filter: AuditFilter| -> Vec<Option<i64>> {
        let found = store.audit(&AuditFilter { limit: 50.min(filter.limit), ..filter }).await.expect("store");
        found.into_iter().map(|entry| entry.deed.build.map(|id| id.0)).collect()
    };
    let all = AuditFilter { limit: 50, ..AuditFilter::default() };
    let newest = store.audit(&all).await.expect("store").remove(0);
    assert_eq!((newest.at, newest.deed), (Timestamp(clock.load(Ordering::Relaxed)), deed(3)));
    assert_eq!(list(AuditFilter { limit: 2, ..all.clone() }).await, [Some(3), Some(2)]);
    assert_eq!(list(AuditFilter { before: Some(newest.id), ..all.clone() }).await, [Some(2), Some(1)]);
    let of_shop = Some("github/acme/SHOP".parse().expect("legal"));
    assert_eq!(list(AuditFilter { repo: of_shop, ..all.clone() }).await, [Some(3), Some(1)]);
    assert_eq!(list(AuditFilter { since: Some(newest.at), ..all.clone() }).await, [Some(3)]);

    assert_eq!(store.forget_audit(newest.at).await, Ok(2));
    assert_eq!(list(all.clone()).await, [Some(3)]);
    assert_eq!(store.forget_audit(Timestamp(i64::MAX)).await, Ok(1));
    store.record(vec![deed(4)]).await.expect("store");
    assert!(store.audit(&all).await.expect("store")[0].id > newest.id, "a number is never given again");
}

#[tokio::test]
async fn listings_filter_and_page() {
    let (_folder, store) = fresh().await;
    for n in 1..=5 {
        queue(&store, n).await;
    }
    take(&store, "t", push("topic", 9)).await;
    store.finish(&claim(&store).await.claim, &passed(), &[]).await.expect("store");
    let list = async |filter: Filter| -> Vec<i64> {
        store.builds(&filter).await.expect("store").iter().map(|build| build.id.0).collect()
    };
    let all = Filter { limit: 3, ..Filter::default() };
    assert_eq!(list(all.clone()).await, [6, 5, 4]);
    assert_eq!(list(Filter { before: Some(BuildId(4)), ..all.clone() }).await, [3, 2, 1]);
    assert_eq!(list(Filter { branch: Some("topic".into()), ..all.clone() }).await, [6]);
    assert_eq!(list(Filter { repo: Some("github/ACME/shop".parse().expect("legal")), ..all.clone() }).await, [6, 5, 4]);
    assert_eq!(list(Filter { repo: Some("gitea/acme/shop".parse().expect("legal")), ..all.clone() }).await, [0; 0]);
    assert_eq!(list(Filter { state: Some(State::Finished), ..all.clone() }).await, [1]);
    assert_eq!(list(Filter { outcome: Some(Outcome::Passed), ..all }).await, [1]);
    let counts = store.counts().await.expect("store");
    assert_eq!((counts.queued, counts.finished), (5, vec![(Outcome::Passed, 1)]));
    assert_eq!(store.repos().await.expect("store")[0].newest, BuildId(6));
}

#[tokio::test]
async fn whoever_waits_is_told() {
    let (_folder, store) = fresh().await;
    let mut changes = store.changes();
    queue(&store, 1).await;
    changes.next().await;
}

/// A small generator of our own (xorshift64), so that a failing seed can be run again.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % sides as u64).expect("small")
    }
}

#[tokio::test]
async fn whatever_the_order_each_build_finishes_once_with_one_final_word() {
    for seed in 1..=20 {
        let (_folder, store) = fresh().await;
        let mut dice = Dice(0x9E37_79B9 * seed);
        for n in 1..=6 {
            queue(&store, n).await;
        }
        let mut claims = Vec::new();
        let mut finished: HashMap<BuildId, u32> = HashMap::new();
        let mut count = |id| *finished.entry(id).or_default() += 1;
        while store.counts().await.expect("store").finished.iter().map(|(_, n)| n).sum::<u64>() < 6 {
            match dice.roll(6) {
                0 | 1 => {
                    let lease = if dice.roll(2) == 0 { Duration::ZERO } else { LEASE };
                    claims.extend(store.claim("agent", lease).await.expect("store").map(|claimed| claimed.claim));
                }
                2 if !claims.is_empty() => {
                    // Stale claims stay in the list on purpose, and are used again.
                    let claim = claims[dice.roll(claims.len())];
                    if store.finish(&claim, &passed(), &[]).await.expect("store") {
                        count(claim.build);
                    }
                }
                3 if !claims.is_empty() => {
                    store.renew(&claims[dice.roll(claims.len())], Duration::ZERO).await.expect("store");
                }
                4 => {
                    let id = BuildId(1 + i64::try_from(dice.roll(6)).expect("small"));
                    if store.cancel(id, &jane()).await == Ok(CancelAnswer::Cancelled) {
                        count(id);
                    }
                }
                _ => {
                    for returned in store.expire_leases().await.expect("store") {
                        if let Returned::Finished(id, _) = returned {
                            count(id);
                        }
                    }
                }
            }
        }
        assert_eq!(finished.len(), 6, "seed {seed}: {finished:?}");
        assert!(finished.values().all(|times| *times == 1), "seed {seed}: {finished:?}");
        let words = said(&store).await;
        assert_eq!(words.len(), 6, "seed {seed}: {words:?}");
        assert!(words.iter().all(|(_, _, state, _)| *state != StatusState::Pending), "seed {seed}: {words:?}");
    }
}

/// The other side of [`a_killed_process_has_kept_what_it_answered`]; not a test by itself.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "is started, and killed, by another test"]
async fn child_that_accepts_until_it_is_killed() {
    let Ok(text) = std::env::var("HOOKMILL_TEST_STORE") else { return };
    let url = text.parse::<PostgresUrl>().map_or_else(|_| StoreUrl::from(&text), StoreUrl::Postgres);
    let store = Store::open(url, Options::default()).await.expect("opens");
    let producers: Vec<_> = (0..8)
        .map(|producer| {
            let store = store.clone();
            tokio::spawn(async move {
                for n in 0_u64.. {
                    let id = format!("{producer}-{n}");
                    take(&store, &id, push(&format!("b{id}"), producer * 1_000_000 + n + 1)).await;
                    println!("kept {id}");
                }
            })
        })
        .collect();
    for producer in producers {
        producer.await.expect("never ends by itself");
    }
}

#[tokio::test]
async fn a_killed_process_has_kept_what_it_answered() {
    for round in 1..=3 {
        let place = Place::new().await;
        let name = module_path!().split_once("::").map_or(String::new(), |(_, inner)| format!("{inner}::"));
        let mut child = Command::new(std::env::current_exe().expect("known"))
            .args(["--exact", &format!("{name}child_that_accepts_until_it_is_killed"), "--ignored", "--nocapture"])
            .env("HOOKMILL_TEST_STORE", place.text())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("starts");
        let mut kept = Vec::new();
        let mut alive = true;
        for line in BufReader::new(child.stdout.take().expect("piped")).lines().map_while(Result::ok) {
            kept.extend(line.split_once("kept ").map(|(_, id)| id.to_owned()));
            if alive && kept.len() >= 300 * round {
                child.kill().expect("SIGKILL");
                alive = false;
            }
        }
        child.wait().expect("ends");
        assert!(!alive, "the child ended by itself");
        place.wait_until_left().await;

        let store = open(&place).await;
        let records = store.deliveries(1_000_000).await.expect("store").into_iter();
        let stored: HashMap<String, Accepted> = records.map(|record| (record.delivery.id, record.answer)).collect();
        let queued = store.counts().await.expect("store").queued;
        assert_eq!(queued, stored.len() as u64, "each stored delivery has its build");
        for id in &kept {
            assert!(stored.contains_key(id), "round {round}: {id} was answered and is gone");
        }
    }
}

/// Prints how many deliveries a second are taken, each on disk before its answer: 16 producers, distinct ids, refs and
/// commits. Run it in a release build, alone: `cargo test --release --test all -- --ignored --nocapture store::promises::deliveries_a_second`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn deliveries_a_second() {
    const EACH: u64 = 1000;
    let (_folder, store) = fresh().await;
    for round in 1..=3 {
        let began = Instant::now();
        let producers: Vec<_> = (0..16)
            .map(|producer| {
                let store = store.clone();
                tokio::spawn(async move {
                    let mut waits = Vec::new();
                    for n in 0..EACH {
                        let asked = Instant::now();
                        let id = format!("{round}-{producer}-{n}");
                        take(&store, &id, push(&format!("b{id}"), (round * 16 + producer) * EACH + n + 1)).await;
                        waits.push(asked.elapsed());
                    }
                    waits
                })
            })
            .collect();
        let mut waits = Vec::new();
        for producer in producers {
            waits.extend(producer.await.expect("no panic"));
        }
        waits.sort();
        let rate = waits.len() as f64 / began.elapsed().as_secs_f64();
        let (median, p99) = (waits[waits.len() / 2], waits[waits.len() * 99 / 100]);
        println!("{rate:.0} deliveries/s, median {median:.1?}, p99 {p99:.1?}");
    }
}

/// Prints how many claims (each followed by its end) a second, first and last, with 10 000 builds queued.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn claims_a_second() {
    let (place, store) = fresh().await;
    let producers: Vec<_> = (0..100)
        .map(|producer| {
            let store = store.clone();
            tokio::spawn(async move {
                for n in 1..=100 {
                    queue(&store, producer * 100 + n).await;
                }
            })
        })
        .collect();
    for producer in producers {
        producer.await.expect("no panic");
    }
    store.close().await;
    let began = Instant::now();
    let store = open(&place).await;
    println!("opened with 10 000 builds in {:.1?}", began.elapsed());
    let began = Instant::now();
    store.builds(&Filter { limit: 50, ..Filter::default() }).await.expect("store");
    println!("newest 50 in {:.1?}", began.elapsed());
    for _ in 0..5 {
        let began = Instant::now();
        for _ in 0..200 {
            store.finish(&claim(&store).await.claim, &passed(), &[]).await.expect("store");
        }
        println!("{:.0} claims with their ends a second", 200.0 / began.elapsed().as_secs_f64());
    }
}

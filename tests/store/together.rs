//! Several processes on one PostgreSQL: whatever comes at once, through whatever is cut, each delivery is one answer, each
//! commit one build, each build one holder, and nothing that was answered is lost.

mod plans;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hookmill::config::server::{Forks, RepoRules, StoreUrl};
use hookmill::domain::audit::{Actor, Via};
use hookmill::domain::build::{BuildId, State};
use hookmill::domain::event::{Event, Heard, Push};
use hookmill::domain::lease::Lease;
use hookmill::domain::outcome::{Outcome, Verdict};
use hookmill::domain::repo::CommitId;
use hookmill::domain::time::Timestamp;
use hookmill::intake::{self, Arrival};
use hookmill::store::{
    Accepted, CancelAnswer, Claimed, Delivery, Filter, Moved, Options, Rerun, RerunAnswer, Returned, Store, StoreError,
};
use tokio::sync::Barrier;

use crate::support::cut::{When, Wire};
use crate::support::postgres::{Cluster, ROLE};

const LEASE: Duration = Duration::from_secs(60);
/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

struct Shared {
    cluster: Arc<Cluster>,
    database: String,
}

impl Shared {
    async fn new() -> Shared {
        let cluster = Cluster::shared();
        let database = cluster.make_database().await;
        Shared { cluster, database }
    }

    async fn open(&self) -> Store {
        self.open_through(self.cluster.port).await
    }

    async fn open_through(&self, port: u16) -> Store {
        let url = format!("postgres://{ROLE}@127.0.0.1:{port}/{}", self.database);
        Store::open(StoreUrl::Postgres(url.parse().expect("legal")), Options::default()).await.expect("opens")
    }
}

fn commit(n: u64) -> CommitId {
    format!("{n:040x}").parse().expect("hex")
}

fn rules() -> RepoRules {
    let text = "[[forge]]\nname = 'github'\nkind = 'github'\ntoken = 'a-token-of-the-tests'\nhook_secret = 'a secret of the tests'\n\
                [[repo]]\nforge = 'github'\nname = 'acme/shop'\ntags = true\n";
    let loaded = hookmill::config::load::from_text(text, std::path::Path::new("/")).expect("legal");
    loaded.server.forges.rules(&"github/acme/shop".parse().expect("legal")).expect("configured")
}

fn arrival(repo: &str, id: &str, event: Event) -> Arrival {
    Arrival {
        found: None,
        delivery: Delivery {
            forge: "github".parse().expect("legal"),
            repo: Some(repo.parse().expect("legal")),
            id: id.into(),
            event: "push".into(),
            received_at: Timestamp(1_763_820_000_000),
            body_bytes: 20_000,
            body_sha256: [7; 32],
        },
        heard: Heard { repo: None, default_branch: Some("main".into()), event },
        rules: Some(Arc::new(rules())),
        context: "hookmill".into(),
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
        title: None,
        author: None,
    })
}

async fn take(store: &Store, repo: &str, id: &str, event: Event) -> Accepted {
    intake::take(store, arrival(repo, id, event)).await.expect("taken")
}

async fn claim(store: &Store, agent: &str) -> Option<Claimed> {
    store.claim(agent, LEASE).await.expect("store")
}

fn passed() -> Verdict {
    Verdict::new(Outcome::Passed, "Passed in 1s")
}

async fn all(store: &Store) -> Vec<hookmill::domain::build::Build> {
    store.builds(&Filter { limit: 100_000, ..Filter::default() }).await.expect("store")
}

async fn soon<T>(what: &str, wanted: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, wanted).await.unwrap_or_else(|_| panic!("never: {what}"))
}

/// Does the same at both stores at once.
async fn at_both<T: Send + 'static, F: Future<Output = T> + Send + 'static>(
    stores: &[Store; 2],
    what: impl Fn(Store) -> F,
) -> [T; 2] {
    let [one, other] = [tokio::spawn(what(stores[0].clone())), tokio::spawn(what(stores[1].clone()))];
    [one.await.expect("no panic"), other.await.expect("no panic")]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delivery_at_both_doors_at_once_is_one_build() {
    let shared = Shared::new().await;
    let stores = [shared.open().await, shared.open().await];
    for n in 0..50 {
        let answers = at_both(&stores, |store| async move {
            take(&store, "acme/shop", &format!("d{n}"), push(&format!("b{n}"), n + 1)).await
        })
        .await;
        assert_eq!(answers[0].builds, answers[1].builds, "{answers:?}");
        let repeat = format!("repeat of delivery d{n}");
        let made = answers.iter().filter(|answer| answer.made).count();
        assert_eq!((made, answers.iter().filter(|a| a.ignored.as_ref() == Some(&repeat)).count()), (1, 1));
    }
    assert_eq!(all(&stores[0]).await.len(), 50);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_heard_by_two_hooks_at_both_doors_is_one_build() {
    let shared = Shared::new().await;
    let stores = [shared.open().await, shared.open().await];
    for n in 0..50 {
        let mut taking = Vec::new();
        for (door, store) in stores.iter().cloned().enumerate() {
            taking.push(tokio::spawn(async move {
                take(&store, "acme/shop", &format!("hook-{door}-{n}"), push(&format!("b{n}"), n + 1)).await
            }));
        }
        let answers = [taking.remove(0).await.expect("no panic"), taking.remove(0).await.expect("no panic")];
        assert_eq!(answers[0].builds, answers[1].builds);
        assert_eq!(answers.iter().filter(|answer| answer.made).count(), 1, "{answers:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_pushes_at_once_exactly_the_newest_of_each_branch_lives() {
    const REPOS: u64 = 3;
    const BRANCHES: u64 = 4;
    const PUSHES: u64 = 10;
    let shared = Shared::new().await;
    let stores = [shared.open().await, shared.open().await];
    let mut taking = Vec::new();
    for n in 0..REPOS * BRANCHES * PUSHES {
        let store = stores[usize::from(n % 2 == 0)].clone();
        taking.push(tokio::spawn(async move {
            let (repo, branch) = (format!("acme/r{}", n % REPOS), format!("b{}", n / REPOS % BRANCHES));
            take(&store, &repo, &format!("d{n}"), push(&branch, n + 1)).await
        }));
    }
    // Meanwhile somebody claims, ends and gives back.
    let busy = stores[0].clone();
    let worker = tokio::spawn(async move {
        for round in 0..40 {
            if let Some(claimed) = claim(&busy, "agent").await {
                if round % 2 == 0 {
                    busy.finish(&claimed.claim, &passed(), &[]).await.expect("store");
                } else {
                    busy.release(&claimed.claim).await.expect("store");
                }
            }
        }
    });
    let mut made = BTreeSet::new();
    for taken in taking {
        let answer = taken.await.expect("no panic");
        assert!(answer.made && made.insert(answer.builds[0]), "each push is another commit: {answer:?}");
    }
    worker.await.expect("no panic");

    let builds = all(&stores[1]).await;
    assert_eq!(builds.len(), made.len());
    let mut living: HashMap<(String, String), Vec<BuildId>> = HashMap::new();
    let mut newest: HashMap<(String, String), BuildId> = HashMap::new();
    for build in builds {
        let of = (build.repo.to_string(), build.git_ref.to_string());
        let top = newest.entry(of.clone()).or_insert(build.id);
        *top = (*top).max(build.id);
        // What was asked to end while it ran and was given back ended as cancelled.
        if build.state != State::Finished {
            living.entry(of).or_default().push(build.id);
        }
    }
    for (of, alive) in living {
        assert_eq!(alive, [newest[&of]], "{of:?}: only the newest may still be unfinished");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_agents_never_hold_the_same_build_and_leave_none() {
    let shared = Shared::new().await;
    let stores = [shared.open().await, shared.open().await];
    for n in 0..60 {
        take(&stores[0], &format!("acme/r{}", n % 5), &format!("d{n}"), push("main", n + 1)).await;
    }
    let both = Arc::new(Barrier::new(2));
    let held = at_both(&stores, |store| {
        let both = Arc::clone(&both);
        async move {
            let mut held = Vec::new();
            while let Some(claimed) = claim(&store, "agent").await {
                assert!(store.finish(&claimed.claim, &passed(), &[]).await.expect("store"));
                held.push(claimed.build.id);
                if held.len() == 1 {
                    both.wait().await;
                }
            }
            held
        }
    })
    .await;
    let each: BTreeSet<BuildId> = held.iter().flatten().copied().collect();
    assert_eq!((held[0].len() + held[1].len(), each.len()), (60, 60), "{held:?}");
    assert!(!held[0].is_empty() && !held[1].is_empty(), "they took turns: {held:?}");
}

/// While another agent is about to take the only build of the repository whose turn it is, there is other work.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_that_meets_another_takes_what_is_left() {
    let shared = Shared::new().await;
    let store = shared.open().await;
    let only = take(&store, "acme/desk", "d1", push("main", 1)).await.builds[0];
    let other = take(&store, "acme/shop", "d2", push("main", 2)).await.builds[0];
    // Its turn: both have nothing that runs, and its build is the older one.
    let mut elsewhere = shared.cluster.connect(&shared.database).await;
    let mut claiming = sqlx::Connection::begin(&mut elsewhere).await.expect("begins");
    let locked = sqlx::query("SELECT id FROM builds WHERE id = $1 FOR UPDATE").bind(only.0);
    locked.execute(&mut *claiming).await.expect("locked");
    let claimed = soon("a claim that waits for nobody", claim(&store, "agent")).await.expect("there is other work");
    assert_eq!(claimed.build.id, other);
    assert_eq!(soon("an answer", claim(&store, "agent")).await, None, "what is left is about to be taken");
    claiming.rollback().await.expect("ends");
    assert_eq!(claim(&store, "agent").await.expect("it was not taken").build.id, only);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn as_many_claims_at_once_as_builds_all_get_one() {
    const BUILDS: u64 = 24;
    let shared = Shared::new().await;
    let stores = [shared.open().await, shared.open().await];
    for round in 0..5 {
        for n in 0..BUILDS {
            // Most repositories have one: their turns are what the claims meet at.
            take(&stores[0], &format!("acme/r{n}"), &format!("d{round}-{n}"), push("main", round * 100 + n + 1)).await;
        }
        let claiming: Vec<_> = (0..BUILDS)
            .map(|n| {
                let store = stores[usize::from(n % 2 == 0)].clone();
                tokio::spawn(async move { claim(&store, "agent").await.expect("each gets one").build.id })
            })
            .collect();
        let mut claimed = BTreeSet::new();
        for claim in claiming {
            assert!(claimed.insert(claim.await.expect("claimed")), "one build was claimed twice");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leases_end_once_and_a_start_takes_back_only_its_own() {
    let shared = Shared::new().await;
    let stores = [shared.open().await, shared.open().await];
    for n in 0..3 {
        take(&stores[0], "acme/shop", &format!("d{n}"), push("main", n + 1)).await;
    }
    let east = claim(&stores[0], "east").await.expect("queued");
    let west = claim(&stores[1], "west").await.expect("queued");
    assert_eq!(stores[1].recover("west").await, Ok(vec![Returned::Queued(west.build.id)]), "not the other's");
    assert_eq!(stores[0].renew(&east.claim, LEASE).await, Ok(Lease::Held));

    for _ in 0..3 {
        let lost = stores[0].claim("east", Duration::ZERO).await.expect("store").expect("queued");
        let returned = soon("a lease that ran out", async {
            loop {
                let both = at_both(&stores, |store| async move { store.expire_leases().await.expect("store") }).await;
                if !both.concat().is_empty() {
                    return both.concat();
                }
            }
        })
        .await;
        assert_eq!(returned, [Returned::Queued(lost.build.id)], "once, whoever saw it");
        let again = claim(&stores[1], "west").await.expect("queued");
        assert!(stores[1].finish(&again.claim, &passed(), &[]).await.expect("store"));
        if all(&stores[0]).await.iter().all(|build| build.state != State::Queued) {
            break;
        }
    }
}

/// As everybody asks who asks for nothing else.
const AGAIN: Rerun = Rerun { use_cache: true, forks: Forks::Approve };

fn jane() -> Actor {
    Actor { who: "jane".into(), via: Via::Token, from: None }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repetition_asked_at_both_doors_is_one_build() {
    let shared = Shared::new().await;
    let stores = [shared.open().await, shared.open().await];
    for n in 0..20 {
        let id = take(&stores[0], "acme/shop", &format!("d{n}"), push("main", n + 1)).await.builds[0];
        assert_eq!(stores[1].cancel(id, &jane()).await, Ok(CancelAnswer::Cancelled));
        let answers = at_both(&stores, |store| async move { store.rerun(id, AGAIN, &jane()).await }).await;
        assert_eq!(answers[0], answers[1]);
        let Ok(RerunAnswer::Made(again)) = answers[0].clone() else { panic!("{answers:?}") };
        stores[0].cancel(again, &jane()).await.expect("store");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_hears_of_the_others_commits_and_of_nothing_else() {
    let shared = Shared::new().await;
    let [one, other] = [shared.open().await, shared.open().await];
    let (mut queue, mut outbox, mut builds) = (other.queue_changes(), other.outbox_changes(), other.build_changes());
    // Until the other one listens it looks by itself; its listening begins with a word to everybody.
    soon("the listener", queue.next()).await;
    soon("the listener", outbox.next()).await;
    assert_eq!(soon("the listener", builds.next()).await, Moved::Any);

    let id = take(&one, "acme/shop", "d1", push("main", 1)).await.builds[0];
    soon("a build to claim", queue.next()).await;
    soon("a status to send", outbox.next()).await;
    let claimed = claim(&one, "agent").await.expect("queued");
    assert_eq!(soon("a claim", builds.next()).await, Moved::Build(id));
    one.tell_build(id).await.expect("store");
    assert_eq!(soon("a log that grew", builds.next()).await, Moved::Build(id));
    one.finish(&claimed.claim, &passed(), &[]).await.expect("store");
    assert_eq!(soon("an end", builds.next()).await, Moved::Build(id));
    soon("its status", outbox.next()).await;
    let quiet = tokio::time::timeout(Duration::from_millis(50), queue.next()).await;
    assert!(quiet.is_err(), "neither a claim nor an end is news for who waits for a build");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_cut_at_commit_answers_unavailable_and_the_repeat_makes_no_second_build() {
    let shared = Shared::new().await;
    let wire = Wire::to(shared.cluster.port).await;
    let store = shared.open_through(wire.port).await;
    let direct = shared.open().await;
    for (n, when) in [(1, When::BeforeCommit), (2, When::AfterCommit), (3, When::AfterCommit), (4, When::BeforeCommit)]
    {
        wire.cut(when);
        let id = format!("d{n}");
        let arrived = || arrival("acme/shop", &id, push(&format!("b{n}"), n));
        let cut = soon("an answer", intake::take(&store, arrived())).await;
        assert!(matches!(cut, Err(StoreError::Unavailable(_))), "{when:?}: {cut:?}");
        assert_eq!(wire.cuts() as u64, n);
        let there = all(&direct).await.iter().filter(|build| build.sha == commit(n)).count();
        assert_eq!(there, usize::from(when == When::AfterCommit));

        let repeated = soon("the repeat", intake::take(&store, arrived())).await.expect("the way is whole again");
        assert_eq!(repeated.made, when == When::BeforeCommit, "{repeated:?}");
        assert_eq!(repeated.builds.len(), 1);
        assert_eq!(all(&direct).await.iter().filter(|build| build.sha == commit(n)).count(), 1, "one, not two");
        store.check().await.expect("well again");
    }

    // A holder's word, too, is written once or not, and can be said again.
    let claimed = claim(&store, "agent").await.expect("queued");
    wire.cut(When::AfterCommit);
    assert!(matches!(store.finish(&claimed.claim, &passed(), &[]).await, Err(StoreError::Unavailable(_))));
    assert_eq!(store.finish(&claimed.claim, &passed(), &[]).await, Ok(false), "it was written the first time");
    // Each store has a clock of its own: what one wrote just now may be due for the other a moment later.
    let words = soon("its word", async {
        loop {
            let words = direct.due(100).await.expect("store");
            match words.iter().filter(|word| word.build == claimed.build.id).count() {
                0 => tokio::time::sleep(Duration::from_millis(5)).await,
                some => break some,
            }
        }
    })
    .await;
    assert_eq!(words, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn through_crashes_of_the_server_what_was_answered_is_there_and_once() {
    // Of its own: the server is crashed.
    let cluster = Arc::new(Cluster::start());
    let database = cluster.make_database().await;
    let shared = Shared { cluster: Arc::clone(&cluster), database };
    let stores = [shared.open().await, shared.open().await];
    let mut changes = stores[1].queue_changes();
    let over = Arc::new(AtomicBool::new(false));
    let producers: Vec<_> = (0..6_u64)
        .map(|producer| {
            let (store, over) = (stores[usize::from(producer % 2 == 0)].clone(), Arc::clone(&over));
            tokio::spawn(async move {
                let mut answered = Vec::new();
                let mut refused = 0;
                let mut n = 0;
                while n < 60 || !over.load(Ordering::Relaxed) {
                    n += 1;
                    let id = format!("{producer}-{n}");
                    loop {
                        let event = push(&format!("b{id}"), producer * 100_000 + n);
                        match intake::take(&store, arrival(&format!("acme/r{producer}"), &id, event)).await {
                            Ok(answer) => break answered.push((id.clone(), answer.builds[0])),
                            Err(StoreError::Unavailable(_)) => refused += 1,
                            Err(other) => panic!("{other}"),
                        }
                        // As a forge that is told to come again: not at once.
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                (answered, refused)
            })
        })
        .collect();
    for _ in 0..2 {
        let before = stores[0].counts().await.map_or(0, |counts| counts.queued);
        soon("more deliveries", async {
            while stores[0].counts().await.is_ok_and(|counts| counts.queued < before + 40) {
                tokio::task::yield_now().await;
            }
        })
        .await;
        let crashing = Arc::clone(&cluster);
        tokio::task::spawn_blocking(move || {
            crashing.crash();
            crashing.run();
            assert!(crashing.answers(), "it recovers");
        })
        .await
        .expect("no panic");
    }
    over.store(true, Ordering::Relaxed);
    let (mut answered, mut refused) = (HashMap::new(), 0);
    for producer in producers {
        let (each, times) = soon("a producer", producer).await.expect("no panic");
        answered.extend(each);
        refused += times;
    }
    assert!(refused > 0, "nobody noticed the crashes");
    soon("ready again", async {
        while stores[0].check().await.is_err() || stores[1].check().await.is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let records = stores[0].deliveries(100_000).await.expect("store");
    assert!(answered.len() >= 360);
    assert_eq!(records.len(), answered.len());
    for record in records {
        assert_eq!(answered[&record.delivery.id], record.answer.builds[0], "{}", record.delivery.id);
    }
    assert_eq!(all(&stores[1]).await.len(), answered.len(), "no delivery made two");

    // Who listens was lost twice, and hears again.
    while tokio::time::timeout(Duration::from_millis(200), changes.next()).await.is_ok() {}
    soon("news after the crash", async {
        let mut n = 0;
        loop {
            n += 1;
            take(&stores[0], "acme/late", &format!("late-{n}"), push(&format!("late{n}"), 900_000 + n)).await;
            if tokio::time::timeout(Duration::from_millis(500), changes.next()).await.is_ok() {
                break;
            }
        }
    })
    .await;
}

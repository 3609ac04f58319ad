//! Where heads stand, by the last word on each: a delivery's, or that of a sweep whose list is not older.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hookmill::config::load;
use hookmill::domain::event::{Event, Heard, PullRequest, Push};
use hookmill::domain::repo::{CommitId, RefName, RepoId};
use hookmill::domain::rule::Rule;
use hookmill::domain::time::Timestamp;
use hookmill::intake::{self, Arrival, Found};
use hookmill::store::{Accepted, Delivery, LookedAt, Options, Store};

const RULES: &str = "
[[forge]]
name = 'github'
kind = 'github'
token = 'a-token-of-enough-bytes'
hook_secret = 'a hook secret of enough bytes'
[[repo]]
forge = 'github'
name = 'acme/*'
";

async fn fresh() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::open(&folder.path().join("hookmill.db"), Options::default()).await.expect("opens");
    (folder, store)
}

fn repo() -> RepoId {
    "github/Acme/Shop".parse().expect("legal")
}

fn commit(n: u64) -> CommitId {
    format!("{n:040x}").parse().expect("hex")
}

fn arrival(id: &str, event: Event) -> Arrival {
    let settings = load::from_text(RULES, Path::new("/")).expect("good").server;
    Arrival {
        delivery: Delivery {
            forge: repo().forge,
            repo: Some(repo().path),
            id: id.into(),
            event: "push".into(),
            received_at: Timestamp(1_763_820_000_000),
            body_bytes: 0,
            body_sha256: [0; 32],
        },
        heard: Heard { repo: None, default_branch: Some("main".into()), event },
        rules: settings.forges.rules(&repo()).map(Arc::new),
        context: "hookmill".into(),
        found: None,
    }
}

fn push(branch: &str, after: u64) -> Event {
    Event::Push(Push {
        git_ref: RefName::branch(branch).expect("legal"),
        before: None,
        after: commit(after),
        pushed_at: None,
        forced: false,
        skip_ci: false,
        title: None,
        author: None,
    })
}

async fn take(store: &Store, arrival: Arrival) -> Accepted {
    intake::take(store, arrival).await.expect("taken")
}

/// What the sweep found at a branch, compared with what was known of it then.
fn found(id: &str, event: Event, name: &str, changes: Option<i64>) -> Arrival {
    let stands_on = vec![(name.parse().expect("legal"), changes)];
    Arrival { found: Some(Found { stands_on }), ..arrival(id, event) }
}

#[tokio::test]
async fn an_older_list_never_wins_over_a_newer_word() {
    let (_folder, store) = fresh().await;
    take(&store, arrival("a", push("topic", 1))).await;
    let repo = repo();
    let known = store.heads(&repo).await.expect("readable");
    let seen: Vec<_> = known.iter().map(|head| (head.name.as_str(), head.sha.clone(), head.changes)).collect();
    assert_eq!(seen, [("refs/heads/topic", Some(commit(1)), 1)]);

    // The forge was asked, a push of 3 was delivered, and then the list with 2 is read.
    take(&store, arrival("b", push("topic", 3))).await;
    let late = take(&store, found("s-1", push("topic", 2), "refs/heads/topic", Some(1))).await;
    assert!(!late.made && late.builds.is_empty(), "{late:?}");
    let absent = take(&store, found("s-2", push("topic", 2), "refs/heads/topic", None)).await;
    assert!(!absent.made, "{absent:?}");
    assert_eq!(store.heads(&repo).await.expect("readable")[0].sha, Some(commit(3)));
    assert_eq!(store.deliveries(10).await.expect("readable").len(), 2, "nothing of it is kept");

    // With the newest word it counts, once: two sweeps may have compared with the same.
    let (one, two) = tokio::join!(
        take(&store, found("s-3", push("topic", 4), "refs/heads/topic", Some(2))),
        take(&store, found("s-4", push("topic", 4), "refs/heads/topic", Some(2))),
    );
    assert_eq!([one.made, two.made].iter().filter(|made| **made).count(), 1, "{one:?} {two:?}");
    // The delivery comes after all: first while it is built, then when it was.
    let building = take(&store, arrival("c", push("topic", 4))).await;
    assert_eq!(building.ignored.as_deref(), Some("already building"));
    let gone = Event::Deleted { git_ref: "refs/heads/topic".parse().expect("legal"), tip: None, pushed_at: None };
    let changes = store.heads(&repo).await.expect("readable")[0].changes;
    let ended = take(&store, found("s-5", gone, "refs/heads/topic", Some(changes))).await;
    assert_eq!(ended.cancelled.len(), 1, "{ended:?}");
    assert_eq!(store.heads(&repo).await.expect("readable")[0].sha, None);
    let history = store.rulings(building.builds[0]).await.expect("readable");
    let because = format!("topic at {} (found by the sweep)", commit(4).short());
    assert_eq!((history[0].rule, &history[0].because), (Rule::SweepFindsHead, &because));

    // A push that was made before the end is no word on where the branch stands.
    let Event::Push(moved) = push("topic", 5) else { unreachable!("it is a push") };
    let late = take(&store, arrival("d", Event::Push(Push { before: Some(commit(4)), ..moved }))).await;
    assert_eq!((late.made, late.rule), (false, Some(Rule::DeletedBeforePush)), "{late:?}");
    assert_eq!(store.heads(&repo).await.expect("readable")[0].sha, None);
}

#[tokio::test]
async fn heads_are_noted_once_and_a_newer_word_stays() {
    let (_folder, store) = fresh().await;
    take(&store, arrival("a", push("main", 1))).await;
    let at = |text: &str| text.parse::<RefName>().expect("legal");
    let noted = ["refs/heads/main", "refs/heads/old"].map(|name| (at(name), at(name), commit(9)));
    store.note_heads(&repo(), noted.into()).await.expect("noted");
    let heads = store.heads(&repo()).await.expect("readable");
    let seen: Vec<_> = heads.iter().map(|head| (head.name.as_str(), head.sha.clone())).collect();
    assert_eq!(seen, [("refs/heads/main", Some(commit(1))), ("refs/heads/old", Some(commit(9)))]);
    assert_eq!(store.repositories_heard_of().await.expect("readable"), [repo()]);
    let ids = ["a".to_owned(), "b".to_owned()];
    assert_eq!(store.taken(&repo(), &ids).await.expect("readable"), ["a".to_owned()].into());

    // A pull request of a branch is a head of its own.
    let request = PullRequest {
        number: 7,
        head: commit(2),
        git_ref: at("refs/heads/topic"),
        fork: false,
        base_branch: "main".into(),
        base: None,
        title: None,
        author: None,
    };
    take(&store, arrival("p", Event::PullRequest(request))).await;
    let heads = store.heads(&repo()).await.expect("readable");
    let pull = heads.iter().find(|head| head.name.as_pull_request() == Some(7)).expect("known");
    assert_eq!((pull.git_ref.as_str(), &pull.sha), ("refs/heads/topic", &Some(commit(2))));
}

#[tokio::test]
async fn one_process_looks_at_a_repository_and_rests() {
    let (_folder, store) = fresh().await;
    let (repo, lease) = (repo(), Duration::from_secs(60));
    let begin = |holder: &'static str, at_once| store.begin_sweep(&repo, holder, lease, at_once);
    assert_eq!(begin("one", false).await.expect("asked"), Some(LookedAt::default()), "the first look");
    assert_eq!(begin("two", true).await.expect("asked"), None, "another process looks");
    assert_eq!(begin("one", false).await.expect("asked"), Some(LookedAt::default()), "after a crash it goes on");
    let seen = LookedAt { branches: true, tags: false, pulls: true };
    store.end_sweep(&repo, "one", seen, Duration::from_secs(300)).await.expect("ended");
    assert_eq!(begin("two", false).await.expect("asked"), None, "it is not time yet");
    assert_eq!(begin("two", true).await.expect("asked"), Some(seen), "unless somebody wants it now");
    // Who lost its lease gives nothing back.
    store.end_sweep(&repo, "one", LookedAt::default(), Duration::ZERO).await.expect("ended");
    assert_eq!(begin("one", true).await.expect("asked"), None);
    let forge = "github".parse().expect("legal");
    assert_eq!(store.pause_of(&forge).await.expect("read"), None);
    store.pause_forge(&forge, lease, "slow down").await.expect("paused");
    assert!(store.pause_of(&forge).await.expect("read").is_some_and(|left| left <= lease));
}

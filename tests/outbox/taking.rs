//! Rows are taken, sent and settled: by the store alone, without any forge.

use std::time::{Duration, Instant};

use hookmill::domain::audit::Actor;
use hookmill::domain::budget::{Bound, Budget};
use hookmill::domain::outcome::Outcome;
use hookmill::domain::repo::ForgeName;
use hookmill::store::{ForgeNews, HostBudget, OutboxItem, RowNews, Settled, Taken};

use crate::outbox::sender::{Bench, open};
use crate::support::forge::{Forge, Kind, PATIENCE};

const LEASE: Duration = Duration::from_secs(45);
const LATER: Duration = Duration::from_secs(600);
const EIGHT_A_MINUTE: Budget = Budget(&[Bound { window: Duration::from_secs(60), most: 8 }]);

fn gitea() -> ForgeName {
    "gitea".parse().expect("legal")
}

fn sha(number: u32) -> String {
    // Forty zeros are no commit.
    format!("{:040x}", number + 1)
}

async fn take_for(bench: &Bench, sender: &str, lease: Duration) -> Vec<OutboxItem> {
    bench.store.take(&gitea(), sender, 8, lease, None).await.expect("store").items
}

async fn take(bench: &Bench, sender: &str) -> Vec<OutboxItem> {
    take_for(bench, sender, LEASE).await
}

fn news(row: RowNews, forge: ForgeNews) -> Settled {
    Settled { row, forge, why: "as the test wants it".into(), give_up: Duration::from_secs(86_400) }
}

async fn settle(bench: &Bench, sender: &str, item: &OutboxItem, row: RowNews) {
    bench.store.settle(sender, item, news(row, ForgeNews::Nothing)).await.expect("store");
}

fn sentences(items: &[OutboxItem]) -> Vec<&str> {
    items.iter().map(|item| item.status.sentence.as_str()).collect()
}

#[tokio::test]
async fn of_one_commit_and_context_one_request_is_under_way_and_the_newest_word_is_the_last() {
    let forge = Forge::start();
    let bench = Bench::with(&forge).await;
    bench.queue(Kind::Gitea, "acme/shop", "main", &sha(1)).await;
    let first = take(&bench, "a").await;
    assert_eq!(sentences(&first), ["Queued"]);
    assert!(take(&bench, "b").await.is_empty(), "somebody sends it");

    let claimed = bench.claim().await;
    bench.say(&claimed, "Running").await;
    bench.finish(&claimed, Outcome::Passed, "Passed").await;
    assert!(take(&bench, "b").await.is_empty(), "an older one is under way");
    settle(&bench, "b", &first[0], RowNews::Sent).await;
    assert!(take(&bench, "b").await.is_empty(), "only who took it may say what became of it");
    // It was not taken: the newer word follows at once, and nothing of the older is tried again.
    settle(&bench, "a", &first[0], RowNews::Later(Duration::ZERO)).await;
    let last = take(&bench, "b").await;
    assert_eq!(sentences(&last), ["Passed"]);
    settle(&bench, "b", &last[0], RowNews::Sent).await;
    assert!(take(&bench, "a").await.is_empty());
    assert_eq!(bench.store.outbox_health().await.expect("store").unsent, 0);
}

/// What a sender makes of no answer.
fn unanswered(lingers: Duration) -> RowNews {
    RowNews::Unanswered { again: Duration::ZERO, lingers }
}

#[tokio::test]
async fn a_newer_word_waits_for_a_request_that_nobody_answered() {
    const LINGERS: Duration = Duration::from_millis(1500);
    let forge = Forge::start();
    let mut bench = Bench::with(&forge).await;
    bench.queue(Kind::Gitea, "acme/shop", "main", &sha(1)).await;
    bench.queue(Kind::Gitea, "acme/shop", "main", &sha(2)).await;
    let first = take(&bench, "a").await;
    assert_eq!(first.len(), 2);
    let begun = Instant::now();
    // The store's times are whole milliseconds, of which it may be one behind.
    tokio::time::sleep(Duration::from_millis(5)).await;
    for item in &first {
        settle(&bench, "a", item, unanswered(LINGERS)).await;
    }
    // The same word again does no harm, whoever says it; nor does it make the first request end any sooner.
    let again = take(&bench, "b").await;
    assert_eq!(sentences(&again), ["Queued", "Queued"]);
    settle(&bench, "b", &again[0], RowNews::Sent).await;
    settle(&bench, "b", &again[1], RowNews::Later(LATER)).await;
    // Nor does somebody who was given it before and is not to say any more what became of it, nor a restart.
    settle(&bench, "a", &first[0], RowNews::Later(Duration::ZERO)).await;
    for _ in 0..2 {
        let claimed = bench.claim().await;
        bench.finish(&claimed, Outcome::Passed, "Passed").await;
    }
    bench.store.close().await;
    bench.store = open(&bench.folder.path().join("hookmill.db")).await;
    bench.store.take_back().await.expect("store");
    // Each has a time of its own, a few milliseconds apart.
    let mut last = Vec::new();
    while last.len() < 2 {
        assert!(begun.elapsed() < PATIENCE, "the newer words are never sent");
        tokio::time::sleep(Duration::from_millis(10)).await;
        last.extend(take(&bench, "b").await);
        assert!(last.is_empty() || begun.elapsed() >= LINGERS, "sent after {:?}", begun.elapsed());
    }
    assert_eq!(sentences(&last), ["Passed", "Passed"]);
    for item in &last {
        settle(&bench, "b", item, RowNews::Sent).await;
    }
    assert_eq!(bench.store.outbox_health().await.expect("store").unsent, 0);
}

#[tokio::test]
async fn a_question_that_nobody_answered_is_under_way_no_more() {
    let forge = Forge::start();
    let bench = Bench::with(&forge).await;
    bench.queue(Kind::Gitea, "acme/shop", "main", &sha(1)).await;
    let away = || news(unanswered(LATER), ForgeNews::Careful(Duration::ZERO));
    for _ in 0..3 {
        let question = take(&bench, "a").await;
        assert_eq!(sentences(&question), ["Queued"]);
        assert!(take(&bench, "b").await.is_empty(), "it is asked by one");
        bench.store.settle("a", &question[0], away()).await.expect("store");
        assert_eq!(bench.store.due_forges().await, Ok(vec![gitea()]));
    }
}

#[tokio::test]
async fn a_sender_that_wakes_after_its_lease_does_not_have_the_last_word() {
    let forge = Forge::start();
    let bench = Bench::with(&forge).await;
    bench.queue(Kind::Gitea, "acme/shop", "main", &sha(1)).await;
    let stopped = take_for(&bench, "stopped", Duration::ZERO).await;
    let claimed = bench.claim().await;
    bench.finish(&claimed, Outcome::Failed, "Failed").await;
    let last = take(&bench, "b").await;
    assert_eq!(sentences(&last), ["Failed"]);
    settle(&bench, "b", &last[0], RowNews::Sent).await;

    // Its request may have been heard after the newer one.
    settle(&bench, "stopped", &stopped[0], RowNews::Sent).await;
    let again = take(&bench, "b").await;
    assert_eq!(sentences(&again), ["Failed"]);
    settle(&bench, "b", &again[0], RowNews::Sent).await;
    assert!(take(&bench, "b").await.is_empty(), "once more, not for ever");
}

#[tokio::test]
async fn what_a_dead_sender_took_comes_back_with_the_next_start_or_with_time() {
    let forge = Forge::start();
    let mut bench = Bench::with(&forge).await;
    bench.queue(Kind::Gitea, "acme/shop", "main", &sha(1)).await;
    assert_eq!(take_for(&bench, "dead", Duration::ZERO).await.len(), 1);
    assert_eq!(take(&bench, "dead too").await.len(), 1, "by time");
    bench.store.close().await;
    bench.store = open(&bench.folder.path().join("hookmill.db")).await;
    assert!(take(&bench, "alive").await.is_empty(), "its lease holds across the restart");
    assert_eq!(bench.store.take_back().await, Ok(1));
    assert_eq!(take(&bench, "alive").await.len(), 1);
}

#[tokio::test]
async fn the_budget_of_a_host_holds_across_senders_and_restarts_and_final_words_go_first() {
    let forge = Forge::start();
    let mut bench = Bench::with(&forge).await;
    let host = || Some(HostBudget { host: "one.test".into(), budget: EIGHT_A_MINUTE });
    for number in 0..10 {
        bench.queue(Kind::Gitea, "acme/shop", "main", &sha(number)).await;
    }
    // Two end; eight stay pending, which may use half of the eight a minute.
    for _ in 0..2 {
        let claimed = bench.claim().await;
        bench.finish(&claimed, Outcome::Passed, "Passed").await;
    }
    let first: Taken = bench.store.take(&gitea(), "a", 3, LEASE, host()).await.expect("store");
    assert_eq!(sentences(&first.items), ["Passed", "Passed", "Queued"]);
    bench.store.close().await;
    bench.store = open(&bench.folder.path().join("hookmill.db")).await;
    let second = bench.store.take(&gitea(), "b", 9, LEASE, host()).await.expect("store");
    assert_eq!(sentences(&second.items), ["Queued"], "half of eight are four");
    assert!(second.wait.is_some_and(|wait| wait > Duration::ZERO && wait <= Duration::from_secs(60)), "{second:?}");
    // Somebody else at the same host.
    let elsewhere = bench.store.take(&"github".parse().expect("legal"), "b", 9, LEASE, host()).await.expect("store");
    assert!(elsewhere.items.is_empty());
    for _ in 0..4 {
        let claimed = bench.claim().await;
        bench.finish(&claimed, Outcome::Passed, "Passed").await;
    }
    let third = bench.store.take(&gitea(), "b", 9, LEASE, host()).await.expect("store");
    assert!(third.items.iter().all(|item| item.status.sentence == "Passed"), "{third:?}");
    assert!((1..=4).contains(&third.items.len()), "what is left of the eight: {third:?}");
}

#[tokio::test]
async fn a_forge_that_did_not_answer_is_asked_one_question_and_then_told_everything() {
    let forge = Forge::start();
    let bench = Bench::with(&forge).await;
    for number in 0..3 {
        bench.queue(Kind::Gitea, "acme/shop", "main", &sha(number)).await;
    }
    let all = take(&bench, "a").await;
    assert_eq!(all.len(), 3);
    for item in &all[..2] {
        settle(&bench, "a", item, RowNews::Later(LATER)).await;
    }
    let away = news(RowNews::Later(Duration::ZERO), ForgeNews::Careful(Duration::ZERO));
    bench.store.settle("a", &all[2], away).await.expect("store");
    let probe = take(&bench, "a").await;
    assert_eq!(probe.len(), 1);
    assert!(take(&bench, "b").await.is_empty(), "the question is asked by one");
    bench.store.settle("a", &probe[0], news(RowNews::Sent, ForgeNews::Answers)).await.expect("store");
    assert_eq!(take(&bench, "a").await.len(), 2, "nobody waits out a backoff of the time before");
}

#[tokio::test]
async fn a_question_is_not_always_the_same_one() {
    let forge = Forge::start();
    let bench = Bench::with(&forge).await;
    let mut asked = Vec::new();
    for number in 0..3 {
        bench.queue(Kind::Gitea, "acme/shop", "main", &sha(number)).await;
    }
    let away = || news(RowNews::Later(Duration::ZERO), ForgeNews::Careful(Duration::ZERO));
    for item in take(&bench, "a").await {
        bench.store.settle("a", &item, away()).await.expect("store");
    }
    for _ in 0..3 {
        let probe = take(&bench, "a").await;
        asked.push(probe[0].id);
        bench.store.settle("a", &probe[0], away()).await.expect("store");
    }
    asked.sort_unstable();
    asked.dedup();
    assert_eq!(asked.len(), 3, "one bad commit does not stand before the others");
}

#[tokio::test]
async fn what_the_forge_asked_for_nobody_shortens() {
    let forge = Forge::start();
    let mut bench = Bench::with(&forge).await;
    for number in 0..2 {
        bench.queue(Kind::Gitea, "acme/shop", "main", &sha(number)).await;
    }
    let all = take(&bench, "a").await;
    bench.store.settle("a", &all[0], news(RowNews::Later(LATER), ForgeNews::Asked(LATER))).await.expect("store");
    // An answer to a request that was under way beside it.
    bench.store.settle("a", &all[1], news(RowNews::Sent, ForgeNews::Answers)).await.expect("store");
    bench.store.resume_forge(&gitea()).await.expect("store");
    bench.store.close().await;
    bench.store = open(&bench.folder.path().join("hookmill.db")).await;
    bench.queue(Kind::Gitea, "acme/shop", "main", &sha(2)).await;
    assert_eq!(bench.store.due_forges().await, Ok(vec![]));
    let taken = bench.store.take(&gitea(), "a", 1, LEASE, None).await.expect("store");
    assert!(taken.items.is_empty() && taken.wait.is_some_and(|wait| wait > LATER / 2), "{taken:?}");
    bench.queue(Kind::Github, "acme/shop", "main", &sha(3)).await;
    assert_eq!(bench.store.due_forges().await, Ok(vec!["github".parse().expect("legal")]), "others don't wait");
}

#[tokio::test]
async fn what_was_given_up_can_be_sent_again() {
    let forge = Forge::start();
    let bench = Bench::with(&forge).await;
    let build = bench.queue(Kind::Gitea, "acme/shop", "main", &sha(1)).await;
    bench.queue(Kind::Gitea, "acme/shop", "main", &sha(2)).await;
    let old = take(&bench, "a").await;
    assert_eq!(old.len(), 2);
    settle(&bench, "a", &old[1], RowNews::Later(LATER)).await;
    let long = Settled { give_up: Duration::ZERO, ..news(RowNews::Later(LATER), ForgeNews::Nothing) };
    // A millisecond at least has to pass.
    tokio::time::sleep(Duration::from_millis(5)).await;
    bench.store.settle("a", &old[0], long).await.expect("store");
    let health = bench.store.outbox_health().await.expect("store");
    assert_eq!((health.unsent, health.dead), (0, 2), "whatever is too old is given up together");
    let letters = bench.store.undelivered(10).await.expect("store");
    assert!(letters.iter().all(|letter| letter.last_error.contains("as the test wants it")), "{letters:?}");

    assert_eq!(bench.store.resend(build, &Actor::process("a test")).await, Ok(1));
    assert_eq!(bench.store.resend(build, &Actor::process("a test")).await, Ok(0), "it is due already");
    let again = take(&bench, "a").await;
    assert!(again.len() == 1 && again[0].build == build && again[0].age < Duration::from_secs(60), "{again:?}");
    settle(&bench, "a", &again[0], RowNews::Dead).await;
    assert_eq!(bench.store.resend_all(&gitea()).await, Ok(2));
    assert_eq!(take(&bench, "a").await.len(), 2);
}

//! A forge that misbehaves at random, over fixed seeds, and two senders on one store.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hookmill::config::server::Network;
use hookmill::domain::budget::{Bound, Budget};
use hookmill::domain::outcome::Outcome;
use hookmill::forge::api::Client;
use hookmill::reporter::{Pace, Reporter};
use hookmill::store::Claimed;

use crate::outbox::sender::{Bench, hurry, run};
use crate::support::forge::{Forge, Kind, PATIENCE, Repo, Trouble};

/// A window that is long against what a busy machine adds between a row's taking and its request's coming.
const EIGHT_IN_TEN_SECONDS: Budget = Budget(&[Bound { window: Duration::from_secs(10), most: 8 }]);

const PAGE: &str = "<html><title>Sign in to Hotel Wi-Fi</title></html>";

/// A small generator of our own (xorshift64), so that a failing seed can be run again.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % sides as u64).expect("small")
    }

    fn trouble(&mut self) -> Trouble {
        let troubles = [
            Trouble::Status(500),
            Trouble::Status(502),
            Trouble::TooMany(0),
            Trouble::Unauthorized,
            Trouble::Reset,
            Trouble::Garbage,
            Trouble::Lost,
            Trouble::Says(200, "", PAGE),
            Trouble::Says(404, "", PAGE),
            Trouble::Says(302, "Location: http://127.0.0.1:1/stolen\r\n", ""),
            Trouble::Says(503, "Retry-After: 0\r\n", ""),
        ];
        troubles[self.roll(troubles.len())]
    }
}

/// Two repositories of each kind, with commits to build.
fn commits(forge: &Forge, each: usize) -> Vec<(Repo, Vec<String>)> {
    [(Kind::Gitea, "acme/shop"), (Kind::Gitea, "acme/desk"), (Kind::Github, "acme/till")]
        .into_iter()
        .map(|(kind, name)| {
            let repo = forge.repo_of(kind, name);
            let commits = (0..each).map(|number| repo.commit(&format!("change {number}"))).collect();
            repo.git(&["push", "-q", "origin", "HEAD:refs/heads/main"]);
            (repo, commits)
        })
        .collect()
}

async fn whatever_it_does(seed: u64) {
    let forge = Forge::start();
    let repos = commits(&forge, 4);
    let bench = Bench::with(&forge).await;
    let senders = ["one", "two"].map(|name| run(bench.sender(name, hurry())));
    let mut dice = Dice(0x9E37_79B9 * seed);
    let mut verdicts: BTreeMap<(String, String), String> = BTreeMap::new();
    let mut claims: Vec<Claimed> = Vec::new();
    let mut left: Vec<(Kind, &str, &str)> = repos
        .iter()
        .flat_map(|(repo, commits)| commits.iter().map(|sha| (repo.kind, repo.name.as_str(), sha.as_str())))
        .collect();
    let all = left.len();
    while verdicts.len() < all {
        forge.trouble(dice.roll(3), dice.trouble());
        match dice.roll(4) {
            0 | 1 if !left.is_empty() => {
                let (kind, repo, sha) = left.swap_remove(dice.roll(left.len()));
                bench.queue(kind, repo, "main", sha).await;
                claims.push(bench.claim().await);
            }
            2 if !claims.is_empty() => {
                let at = dice.roll(claims.len());
                bench.say(&claims[at], &format!("Running {}", dice.roll(1000))).await;
            }
            3 if !claims.is_empty() => {
                let claimed = claims.swap_remove(dice.roll(claims.len()));
                let outcome = [Outcome::Passed, Outcome::Failed, Outcome::Broken][dice.roll(3)];
                bench.finish(&claimed, outcome, &format!("{} after {}", outcome.as_str(), dice.roll(1000))).await;
                let build = bench.store.build(claimed.claim.build).await.expect("store").expect("there");
                let key = (build.repo.path.as_str().to_owned(), build.sha.to_string());
                verdicts.insert(key, build.reason.expect("a sentence"));
            }
            _ => tokio::task::yield_now().await,
        }
        // The forge misbehaves while things are on their way, not only before and after.
        tokio::time::sleep(Duration::from_millis(dice.roll(30) as u64)).await;
    }
    forge.mend();
    let deadline = Instant::now() + PATIENCE;
    loop {
        let health = bench.store.outbox_health().await.expect("store");
        assert_eq!(health.dead, 0, "seed {seed}: nothing of this is a reason to give up: {health:?}");
        if health.unsent == 0 {
            break;
        }
        assert!(Instant::now() < deadline, "seed {seed}: {health:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for (stop, task) in senders {
        stop.cancel();
        task.await.expect("ends");
    }
    let mut last = BTreeMap::new();
    for status in forge.statuses() {
        assert_ne!(status.state, "", "seed {seed}");
        last.insert((status.repo, status.sha), (status.state, status.description));
    }
    assert_eq!(last.len(), all, "seed {seed}: every commit heard something");
    for (key, (state, sentence)) in last {
        assert_ne!(state, "pending", "seed {seed}: {key:?}");
        assert_eq!(Some(&sentence), verdicts.get(&key), "seed {seed}: {key:?}");
    }
    forge.nothing_wrong();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_word_on_each_commit_is_its_verdict_whatever_the_forge_does() {
    for seed in 1..=6 {
        whatever_it_does(seed).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_is_asked_little_and_its_end_is_noticed_at_once() {
    let forge = Forge::start();
    let repos = commits(&forge, 8);
    let bench = Bench::with(&forge).await;
    forge.trouble(100_000, Trouble::Status(502));
    let (stop, task) = run(bench.sender("one", hurry()));
    for (repo, commits) in &repos {
        for sha in commits {
            bench.queue(repo.kind, &repo.name, "main", sha).await;
            let claimed = bench.claim().await;
            bench.finish(&claimed, Outcome::Passed, "Passed").await;
        }
    }
    // Long after the outage began, each forge is asked one question a longest wait (150 ms here, half a minute there).
    let asked = |from: usize| forge.posted()[from..].to_vec();
    forge.wait(|| (forge.posted().len() >= 30).then_some(()), || "it is not asked again".to_owned());
    let late = asked(20);
    let took = late.last().expect("some").at - late[0].at;
    let most = 2.0 * took.as_secs_f64() / 0.112 + 2.0;
    assert!((late.len() as f64) <= most, "{} requests in {took:?} of an outage", late.len());

    forge.mend();
    let mended = Instant::now();
    forge.wait(|| (forge.statuses().len() >= 24).then_some(()), || "not all were told".to_owned());
    let first = forge.posted().iter().find(|posted| posted.answered == 201).map(|posted| posted.at);
    assert!(first.expect("told") - mended < Duration::from_secs(2), "the next question finds out");
    stop.cancel();
    task.await.expect("ends");
    forge.nothing_wrong();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_never_left_keeps_no_newer_word_waiting() {
    const LINGERS: Duration = Duration::from_secs(20);
    let forge = Forge::start();
    let (repo, commits) = commits(&forge, 1).remove(0);
    let bench = Bench::with(&forge).await;
    let pace = || Pace { lingers: LINGERS, ..hurry() };
    // Nobody listens at the proxy.
    let shut = Network { proxy: Some("http://127.0.0.1:1".to_owned()), ..Network::default() };
    let (stop, task) = run(Reporter { client: Arc::new(Client::new(&shut)), ..bench.sender("one", pace()) });
    bench.queue(repo.kind, &repo.name, "main", &commits[0]).await;
    let deadline = Instant::now() + PATIENCE;
    while bench.store.outbox_health().await.expect("store").failing == 0 {
        assert!(Instant::now() < deadline, "it is never tried");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    stop.cancel();
    task.await.expect("ends");

    let claimed = bench.claim().await;
    bench.finish(&claimed, Outcome::Passed, "Passed").await;
    let (begun, (stop, task)) = (Instant::now(), run(bench.sender("two", pace())));
    assert_eq!(forge.final_status(&commits[0], "hookmill").state, "success");
    assert!(begun.elapsed() < LINGERS / 2, "it was said after {:?}", begun.elapsed());
    stop.cancel();
    task.await.expect("ends");
    forge.nothing_wrong();
}

#[tokio::test(flavor = "multi_thread")]
async fn two_senders_share_the_budget_of_a_host() {
    let forge = Forge::start();
    let repos = commits(&forge, 8);
    let bench = Bench::with(&forge).await;
    for (repo, commits) in &repos {
        for sha in commits {
            bench.queue(repo.kind, &repo.name, "main", sha).await;
            let claimed = bench.claim().await;
            bench.finish(&claimed, Outcome::Passed, "Passed").await;
        }
    }
    let pace = || Pace { budget: |_| ("one host".to_owned(), EIGHT_IN_TEN_SECONDS), ..hurry() };
    let senders = ["one", "two"].map(|name| run(bench.sender(name, pace())));
    forge.wait(|| (forge.statuses().len() == 24).then_some(()), || "not all were told".to_owned());
    for (stop, task) in senders {
        stop.cancel();
        task.await.expect("ends");
    }
    let mut heard: Vec<Instant> = forge.posted().iter().map(|posted| posted.at).collect();
    heard.sort();
    // By the forge's own watch, which sees a request some time after it was begun.
    for ninth in heard.windows(9) {
        let took = ninth[8] - ninth[0];
        assert!(took >= Duration::from_secs(7), "nine of eight in ten seconds came within {took:?}");
    }
    forge.nothing_wrong();
}

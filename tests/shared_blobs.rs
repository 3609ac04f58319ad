//! What one machine writes, another one shows: logs while they grow, artifacts when they are asked for.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use hookmill::blobs::{Artifacts, BuildLog, Cursor, Depot, Entry, Fetcher, Logs, Presence, Shipper, StepLog};
use hookmill::config::load;
use hookmill::domain::build::BuildId;
use hookmill::domain::log::Happening;
use hookmill::domain::step::{Step, StepKind};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use crate::support::bucket::Bucket;

const BUILD: BuildId = BuildId(12);
const CAP: u64 = 64 << 20;

/// One machine's folders.
struct Machine {
    dir: TempDir,
    logs: Logs,
    artifacts: Artifacts,
}

impl Machine {
    fn new() -> Machine {
        let dir = tempfile::tempdir().expect("a folder");
        Machine::in_dir(dir)
    }

    fn in_dir(dir: TempDir) -> Machine {
        let logs = Logs::new(dir.path().join("logs"));
        let artifacts = Artifacts::new(dir.path().join("artifacts"));
        Machine { dir, logs, artifacts }
    }

    /// The same folders after a restart.
    fn restarted(self) -> Machine {
        Machine::in_dir(self.dir)
    }

    fn begin(&self, claim: u64) -> (BuildLog, StepLog) {
        let log = self.logs.create(BUILD, claim, CAP, || {}).expect("room");
        let step = log.begin(0, &npm()).expect("room");
        (log, step)
    }

    fn shipper(&self, depot: &Depot) -> Shipper {
        Shipper::new(self.logs.clone(), self.artifacts.clone(), depot.clone())
    }

    fn fetcher(&self, depot: &Depot) -> Fetcher {
        Fetcher::new(self.logs.clone(), self.artifacts.clone(), Some(depot.clone()))
    }

    /// The lines that can be read here from a place on.
    fn entries(&self, from: Cursor) -> Vec<Entry> {
        let mut reader = self.logs.reader(BUILD, from);
        let mut all = Vec::new();
        loop {
            let batch = reader.read().expect("readable");
            if batch.is_empty() {
                return all;
            }
            all.extend(batch);
        }
    }

    fn lines(&self) -> Vec<String> {
        self.entries(Cursor::default()).iter().filter_map(line).collect()
    }

    fn raw(&self) -> Vec<u8> {
        let file = self.logs.step_file(BUILD, 0, "npm").expect("readable");
        file.map(|file| fs::read(file.path).expect("readable")).unwrap_or_default()
    }
}

fn line(entry: &Entry) -> Option<String> {
    match &entry.happening {
        Happening::Line(line) => Some(line.text.clone()),
        _ => None,
    }
}

fn npm() -> Step {
    Step::queued("npm", StepKind::Install)
}

fn depot(data: &str) -> Depot {
    let text = format!("[data]\n{data}");
    let server = load::from_text(&text, Path::new("/tmp")).expect("good settings").server;
    Depot::new(server.blobs.as_deref().expect("named"), &server.network).expect("an address")
}

/// A shipper that works until the test asks it to end.
struct Shipping {
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Shipping {
    fn start(shipper: Shipper) -> Shipping {
        let stop = CancellationToken::new();
        Shipping { task: tokio::spawn(shipper.run(stop.clone())), stop }
    }

    async fn end(self) {
        self.stop.cancel();
        self.task.await.expect("it ends");
    }
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A log is read elsewhere while it grows, from any place on, and is the same in the end.
async fn a_log_grows_elsewhere(depot: Depot, keys: impl Fn() -> Vec<String>) {
    let _ = tracing_subscriber::fmt().with_test_writer().try_init();
    let (agent, server) = (Machine::new(), Machine::new());
    let shipping = Shipping::start(agent.shipper(&depot));
    let (log, mut step) = agent.begin(1);
    step.append(b"first\nsecond\n").expect("room");
    let fetcher = server.fetcher(&depot);
    until("two lines elsewhere", || {
        assert_eq!(fetcher.bring(BUILD, false), Presence::Partly, "more may follow");
        server.lines() == ["first", "second"]
    })
    .await;
    let place = server.entries(Cursor::default()).last().expect("lines").after;

    // More than a part at once, so that the whole is put together from several.
    let long: String = (0..40_000).map(|n| format!("line {n} of a log that is long enough\n")).collect();
    step.append(long.as_bytes()).expect("room");
    step.append(b"the last one, without its end").expect("room");
    until("the long log elsewhere", || {
        fetcher.bring(BUILD, false);
        server.lines().len() == 40_002
    })
    .await;
    let after: Vec<String> = server.entries(place).iter().filter_map(line).collect();
    assert_eq!(
        (after.len(), after[0].as_str()),
        (40_000, "line 0 of a log that is long enough"),
        "a place holds anywhere"
    );
    assert!(keys().iter().filter(|key| key.contains("-npm.log/")).count() > 1, "{:?}", keys());

    let mut filling = agent.artifacts.fill(BUILD).expect("room");
    let report = agent.dir.path().join("report");
    fs::write(&report, "a report").expect("room");
    filling.add("out/report.txt".into(), fs::File::open(&report).expect("there"), 100).expect("room");
    filling.finish().expect("room");
    step.finish(&npm()).expect("room");
    drop(log);
    until("all of it elsewhere", || fetcher.bring(BUILD, true) == Presence::Here).await;
    assert_eq!(server.raw(), agent.raw());
    assert_eq!(server.entries(Cursor::default()), agent.entries(Cursor::default()));
    let of_npm: Vec<String> = keys().into_iter().filter(|key| key.contains("-npm.log/")).collect();
    assert_eq!(of_npm, ["logs/12/1/00-npm.log/0"], "one object a file in the end");

    fetcher.bring_list(BUILD);
    let listed = server.artifacts.list(BUILD).expect("readable");
    assert_eq!(listed.iter().map(|one| one.path.as_str()).collect::<Vec<_>>(), ["out/report.txt"]);
    fetcher.bring_artifact(BUILD, "out/report.txt").expect("there");
    let (path, bytes) = server.artifacts.find(BUILD, "out/report.txt").expect("readable").expect("kept");
    assert_eq!((fs::read_to_string(path).expect("here").as_str(), bytes), ("a report", 8));

    depot.forget(BUILD, true, true).expect("removable");
    assert_eq!(keys(), Vec::<String>::new(), "what is old goes there as well");
    assert_eq!(server.lines().len(), 40_003, "and what was brought here stays as long as the rest");
    shipping.end().await;
}

/// Every file below a folder, as a key.
fn files(root: &Path) -> Vec<String> {
    fn walk(root: &Path, dir: &Path, found: &mut Vec<String>) {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                walk(root, &path, found);
            } else {
                found.push(path.strip_prefix(root).expect("below").to_string_lossy().into_owned());
            }
        }
    }
    let mut found = Vec::new();
    walk(root, root, &mut found);
    found.sort();
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_grows_elsewhere_through_a_folder() {
    let shared = tempfile::tempdir().expect("a folder");
    let depot = depot(&format!("blobs_url = \"file://{}\"\n", shared.path().display()));
    a_log_grows_elsewhere(depot, || files(shared.path())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_grows_elsewhere_through_a_bucket() {
    let bucket = Bucket::start();
    a_log_grows_elsewhere(depot(&bucket.settings()), || bucket.keys()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_is_away_holds_nobody_up_and_gets_everything_later() {
    let mut bucket = Bucket::start();
    let depot = depot(&bucket.settings());
    bucket.stop();
    let (agent, server) = (Machine::new(), Machine::new());
    let shipping = Shipping::start(agent.shipper(&depot));
    let (log, mut step) = agent.begin(1);
    step.append(b"nobody waits\n").expect("room, whatever the bucket does");
    step.finish(&npm()).expect("room");
    drop(log);
    assert_eq!(server.fetcher(&depot).bring(BUILD, true), Presence::Partly);
    // The process ends before the bucket is back.
    shipping.end().await;
    let agent = agent.restarted();
    bucket.restart();
    let shipping = Shipping::start(agent.shipper(&depot));
    let fetcher = server.fetcher(&depot);
    until("the log elsewhere", || fetcher.bring(BUILD, true) == Presence::Here).await;
    assert_eq!(server.lines(), ["nobody waits"]);
    shipping.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_claim_counts_wherever_it_ran() {
    let shared = tempfile::tempdir().expect("a folder");
    let depot = depot(&format!("blobs_url = \"file://{}\"\n", shared.path().display()));
    let (lost, taker, server) = (Machine::new(), Machine::new(), Machine::new());
    let (first, second) = (Shipping::start(lost.shipper(&depot)), Shipping::start(taker.shipper(&depot)));
    let (log, mut step) = lost.begin(1);
    step.append(b"of the first claim\n").expect("room");
    let fetcher = server.fetcher(&depot);
    until("the first claim elsewhere", || {
        fetcher.bring(BUILD, false);
        server.lines() == ["of the first claim"]
    })
    .await;
    // Its agent was lost: another one runs the build again.
    let (log2, mut step2) = taker.begin(2);
    step2.append(b"of the second claim\n").expect("room");
    until("the second claim elsewhere", || {
        fetcher.bring(BUILD, false);
        server.lines() == ["of the second claim"]
    })
    .await;
    // The lost one wakes and writes what it had in hand: nobody sees it.
    step.append(b"too late\n").expect("room");
    step.finish(&npm()).expect("room");
    drop(log);
    step2.finish(&npm()).expect("room");
    drop(log2);
    until("all of it elsewhere", || fetcher.bring(BUILD, true) == Presence::Here).await;
    assert_eq!(server.lines(), ["of the second claim"]);
    // Also on the machine that lost it, once somebody asks there.
    let on_lost = lost.fetcher(&depot);
    until("the second claim where the first one ran", || {
        on_lost.bring(BUILD, true) == Presence::Here && lost.lines() == ["of the second claim"]
    })
    .await;
    first.end().await;
    second.end().await;
}

#[test]
fn a_bucket_without_a_key_is_named() {
    let text = "[data]\nblobs_url = \"s3://hookmill-logs/ci\"\n";
    let problems = load::from_text(text, Path::new("/tmp")).expect_err("no key");
    let said = problems.render(false);
    assert!(said.contains("nothing opens the bucket hookmill-logs") && said.contains("blobs_key_file"), "{said}");
    let text = "[data]\nblobs_url = \"https://host/bucket\"\n";
    let said = load::from_text(text, Path::new("/tmp")).expect_err("no bucket").render(false);
    assert!(said.contains("neither a bucket nor a folder") && said.contains("file:///"), "{said}");
}

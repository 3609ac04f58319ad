//! A long queue: repositories take turns, a mirror does not grow with its builds, and a server that starts with ten
//! thousand queued builds is ready at once.

use std::path::Path;
use std::time::{Duration, Instant};

use hookmill::domain::build::{Cause, State};
use hookmill::domain::rule::Rule;
use hookmill::domain::status::{Status, StatusState};
use hookmill::domain::time::Timestamp;
use hookmill::domain::trust::Trust;
use hookmill::store::{Decision, Delivery, NewBuild, Options, Store};

use crate::support::forge::{Forge, Repo};
use crate::support::server::{Server, Settings};

const NOTHING_TO_DO: &[(&str, &str)] = &[("README.md", "# Shop\n")];
const FOREVER: &[(&str, &str)] = &[
    (".hookmill.toml", "[bundle]\ncommand = ['node', 'bundle.js']\n"),
    ("bundle.js", "console.log('bundling');\nsetInterval(() => {}, 1000);\n"),
];

/// Queues so many builds, each of a branch of its own.
fn queue(server: &Server, repo: &Repo, count: usize) -> Vec<i64> {
    repo.push("main", NOTHING_TO_DO);
    let moves: Vec<_> = (0..count).map(|n| repo.push(&format!("b{n}"), &[("n", &n.to_string())])).collect();
    moves.iter().map(|moved| server.deliver(&repo.pushed(moved)).build()).collect()
}

#[test]
fn one_with_many_builds_starves_no_other() {
    let forge = Forge::start();
    let (blocker, big, small) = (forge.repo("acme/blocker"), forge.repo("acme/big"), forge.repo("acme/small"));
    let server = Server::start(&forge);
    let first = server.deliver(&blocker.pushed(&blocker.push("main", FOREVER))).build();
    server.wrote(first, "bundle", "bundling");
    let many = queue(&server, &big, 8);
    let few = queue(&server, &small, 2);
    assert_eq!(server.post(&format!("/api/v1/builds/{first}/cancel"), "").code, 202);

    let started = |id: i64| server.finished(id)["started_at"].as_str().expect("it ran").to_owned();
    let [one, other] = [started(few[0]), started(few[1])];
    let before = |at: &str| many.iter().filter(|id| started(**id).as_str() < at).count();
    assert_eq!((before(&one), before(&other)), (1, 2), "one of the many, then one of the few");
    let order: Vec<String> = many.iter().map(|id| started(*id)).collect();
    assert!(order.is_sorted(), "its own in the order in which they came: {order:?}");
    forge.finish();
}

/// The packs of the one mirror of a server.
fn packs(server: &Server) -> usize {
    let mirrors = std::fs::read_dir(server.data().join("mirrors")).expect("the folder of mirrors").flatten();
    let mirror = mirrors.map(|entry| entry.path()).find(|path| path.is_dir()).expect("one mirror");
    let files = std::fs::read_dir(mirror.join("objects/pack")).expect("its packs").flatten();
    files.filter(|file| file.path().extension().is_some_and(|extension| extension == "pack")).count()
}

#[test]
fn a_mirror_does_not_grow_with_its_builds() {
    const BUILDS: usize = 80;
    let forge = Forge::start();
    let server = Server::start(&forge);
    let builds = queue(&server, &forge.repo("acme/shop"), BUILDS);
    for id in &builds {
        let build = server.finished(*id);
        assert_eq!(build["outcome"], "passed", "{build:#}");
    }
    // Each left a pack of its own; the round that looks at all mirrors comes only after minutes.
    forge.wait(|| (packs(&server) <= 50).then_some(()), || format!("{} packs", packs(&server)));
    let first = server.post(&format!("/api/v1/builds/{}/rerun", builds[0]), "");
    let again = server.finished(first.build());
    assert_eq!(again["outcome"], "passed", "nothing of it is lost: {again:#}");
    forge.finish();
}

fn delivery(n: usize) -> Delivery {
    Delivery {
        forge: "gitea".parse().expect("legal"),
        repo: Some(format!("acme/r{}", n % 50).parse().expect("legal")),
        id: format!("d-{n}"),
        event: "push".into(),
        received_at: Timestamp(1_767_323_045_000),
        body_bytes: 20_000,
        body_sha256: [7; 32],
    }
}

fn build(n: usize, delivery: &Delivery) -> NewBuild {
    let path = delivery.repo.clone().expect("named");
    NewBuild {
        repo: hookmill::domain::repo::RepoId { forge: delivery.forge.clone(), path },
        sha: format!("{n:040x}").parse().expect("hex"),
        base_sha: None,
        before: None,
        pushed_at: None,
        git_ref: format!("refs/heads/b{n}").parse().expect("legal"),
        pull_request: None,
        cause: Cause::Push,
        pushed: true,
        trust: Trust::Trusted,
        state: State::Queued,
        reason: None,
        approval: None,
        rerun_of: None,
        base_branch: None,
        default_branch: Some("main".into()),
        title: Some("Change the price".into()),
        author: Some("ada".into()),
        use_cache: true,
        status: Status { context: "hookmill".into(), state: StatusState::Pending, sentence: "Queued".into() },
    }
}

/// Ten thousand builds as pushes make them.
#[tokio::main]
async fn fill(path: &Path) {
    let store = Store::open(path, Options::default()).await.expect("opens");
    let taken: Vec<_> = (1..=10_000)
        .map(|n| {
            let store = store.clone();
            tokio::spawn(async move {
                let delivery = delivery(n);
                let build = Box::new(build(n, &delivery));
                let make = Decision::Make { rule: Rule::PushIsBuilt, build, supersedes: Vec::new() };
                store.accept(delivery, None, Box::new(move |_| make.clone())).await.expect("taken").made
            })
        })
        .collect();
    for made in taken {
        assert!(made.await.expect("no panic"));
    }
    store.close().await;
}

/// The most memory that the process ever had, in bytes.
fn peak(server: &Server) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid().as_raw_nonzero())).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("Linux says so");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") << 10
}

#[test]
fn ten_thousand_queued_builds_delay_no_start_and_fill_no_memory() {
    let forge = Forge::start();
    let path = forge.dir.path().join("filled.db");
    fill(&path);
    let env = vec![("HOOKMILL_STORE__URL".to_owned(), format!("sqlite://{}", path.display()))];
    let settings = |env| Settings { slots: 0, env, ..Settings::default() };
    let empty = Server::start_with(&forge, settings(Vec::new()));
    let begun = Instant::now();
    let server = Server::start_with(&forge, settings(env));
    assert_eq!(server.get("/readyz").code, 200);
    assert!(begun.elapsed() < Duration::from_secs(5), "ready after {:?}", begun.elapsed());

    let metrics = server.get("/metrics").body;
    assert!(metrics.contains("hookmill_queue_length 10000"), "{metrics}");
    assert_eq!(server.builds().len(), 200, "a page of them");
    assert_eq!(server.get("/").code, 200);
    let (with, without) = (peak(&server), peak(&empty));
    assert!(with < without + (32 << 20), "{} MiB with 10 000 builds, {} MiB with none", with >> 20, without >> 20);
}

//! Several hosts on one machine: a database, two servers, three agents, each behind a cable of its own. Processes are
//! killed and stopped, a cable is pulled, the database crashes under load, and nothing that was acknowledged is lost.
//!
//! It needs root, for network namespaces; without, it says that it was not tried.

mod network;
mod program;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use program::Program;
use rustix::process::Signal;

use crate::support::forge::{Delivery, Forge, Moved, PATIENCE, Trouble};
use crate::support::machine::NO_OP;
use crate::support::postgres::Cluster;

/// Longer than a lease.
const LONG: &str = "[bundle]\ncommand = [\"sleep\", \"16\"]\n";

/// Asks the database itself.
struct Database<'c> {
    cluster: &'c Cluster,
    name: String,
    runtime: tokio::runtime::Runtime,
}

impl Database<'_> {
    /// The rows of a statement with a number and a text in each. `None`: the database is away.
    fn rows(&self, statement: &'static str) -> Vec<(i64, String)> {
        self.runtime.block_on(async {
            let mut connection = self.cluster.connect(&self.name).await;
            sqlx::query_as(statement).fetch_all(&mut connection).await.expect("an answer")
        })
    }

    fn wait(&self, what: &str, look: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !look(self) {
            let builds =
                self.rows("SELECT id, state || ' ' || coalesce(agent, '') || ' ' || fence FROM builds ORDER BY id");
            assert!(Instant::now() < deadline, "it never came to that: {what}; builds: {builds:?}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Who runs a build now.
    fn agent_of(&self, build: i64) -> Option<String> {
        let running = self.rows("SELECT id, coalesce(agent, '') FROM builds WHERE state = 'running'");
        running.into_iter().find(|(id, _)| *id == build).map(|(_, agent)| agent)
    }
}

/// Sends a delivery whether or not somebody listens; the build when it was acknowledged.
fn send(http: &ureq::Agent, url: &str, delivery: &Delivery) -> Option<i64> {
    let body = delivery.body();
    let mut request = http.post(format!("{url}{}", delivery.path()));
    for (name, value) in delivery.headers(&body) {
        request = request.header(name, value);
    }
    let mut answer = request.send(&body).ok().filter(|answer| answer.status() == 202)?;
    let text = answer.body_mut().read_to_string().ok()?;
    serde_json::from_str::<serde_json::Value>(&text).ok()?["build"].as_i64()
}

fn http() -> ureq::Agent {
    let config = ureq::Agent::config_builder().proxy(None).http_status_as_error(false);
    config.timeout_global(Some(Duration::from_secs(5))).build().new_agent()
}

/// Sends one until a server takes it.
fn send_surely(url: &str, delivery: &Delivery) -> i64 {
    let (http, deadline) = (http(), Instant::now() + PATIENCE);
    loop {
        if let Some(build) = send(&http, url, delivery) {
            return build;
        }
        assert!(Instant::now() < deadline, "{url} takes nothing");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn six_hosts_lose_nothing() {
    if let Err(why) = network::enter() {
        eprintln!("NOT TRIED: hosts as network namespaces: {why}");
        return;
    }
    let (forge, cluster) = (Forge::start_at(network::HUB), Cluster::start_at(network::HUB));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let name = runtime.block_on(cluster.make_database());
    let store = cluster.url(&name);
    let database = Database { cluster: &cluster, name, runtime };
    let repo = forge.repo("acme/shop");
    let load = repo.push_many(NO_OP, 240);
    let mut servers: Vec<Program> = (1..=2).map(|number| Program::start("serve", number, &forge, &store)).collect();
    let mut agents: Vec<Program> = (3..=5).map(|number| Program::start("agent", number, &forge, &store)).collect();

    let long = ["one", "two"].map(|branch| repo.push(branch, &[(".hookmill.toml", LONG), ("branch", branch)]));
    let urls: Vec<String> = servers.iter().map(Program::url).collect();
    let builds: Vec<i64> = long.iter().zip(&urls).map(|(moved, url)| send_surely(url, &repo.pushed(moved))).collect();
    database.wait("both run", |database| builds.iter().all(|build| database.agent_of(*build).is_some()));

    let over = AtomicBool::new(false);
    let acknowledged: Vec<(i64, &Moved)> = std::thread::scope(|scope| {
        let sender = scope.spawn(|| {
            let (http, mut acknowledged) = (http(), Vec::new());
            for (moved, url) in load.iter().zip(urls.iter().cycle()) {
                if over.load(Ordering::Relaxed) {
                    break;
                }
                if let Some(build) = send(&http, url, &repo.pushed(moved)) {
                    acknowledged.push((build, moved));
                }
                // The load's rhythm; nothing is awaited by it.
                std::thread::sleep(Duration::from_millis(120));
            }
            acknowledged
        });
        break_things(&database, &forge, &builds, &mut servers, &mut agents);
        over.store(true, Ordering::Relaxed);
        sender.join().expect("sent")
    });

    let rest = "SELECT count(*), '' FROM builds WHERE state <> 'finished' UNION ALL SELECT count(*), '' FROM outbox WHERE fate = 'due'";
    database.wait("rest", |database| database.rows(rest).iter().all(|(count, _)| *count == 0));
    let mut due: Vec<(i64, &Moved)> = builds.iter().copied().zip(&long).collect();
    due.extend(acknowledged);
    judge(&database, &forge, &due);
    forge.finish();
}

/// What goes wrong, each once: it waits until the others have taken over what was lost.
fn break_things(database: &Database<'_>, forge: &Forge, long: &[i64], servers: &mut [Program], agents: &mut [Program]) {
    let holder = |build: i64| database.agent_of(build);
    let (stopped, cut) = (holder(long[0]), holder(long[1]));
    let find = |name: &Option<String>| agents.iter().position(|agent| Some(&agent.name) == name.as_ref());
    let stopped = find(&stopped).expect("an agent runs it");
    // Where one agent has both builds it is stopped *and* cut off; the other two go on.
    let cut = find(&cut).expect("an agent runs it");
    agents[stopped].signal(Signal::STOP);
    agents[cut].host.cut();
    forge.trouble(3, Trouble::Status(502));

    database.wait("others took them over", |database| {
        let fences = database.rows("SELECT fence, CAST(id AS TEXT) FROM builds");
        long.iter().all(|build| fences.iter().any(|(fence, id)| *id == build.to_string() && *fence > 1))
    });
    agents[stopped].signal(Signal::CONT);
    agents[cut].host.mend();

    servers[0].kill();
    servers[0].run();
    let third = (0..agents.len()).find(|number| ![stopped, cut].contains(number)).expect("there are three");
    agents[third].kill();
    agents[third].run();

    database.cluster.crash();
    database.cluster.run();
    assert!(database.cluster.answers(), "the database recovers");
    servers[1].kill();
    servers[1].run();
    let said = || agents[stopped].log();
    forge.wait(
        || said().contains("nothing more is written").then_some(()),
        || format!("{} never noticed that it had lost its build", agents[stopped].name),
    );
}

/// What was acknowledged, by the database's and by the forge's word.
fn judge(database: &Database<'_>, forge: &Forge, due: &[(i64, &Moved)]) {
    let outcomes: BTreeMap<i64, String> =
        database.rows("SELECT id, coalesce(outcome, state) FROM builds").into_iter().collect();
    for (build, moved) in due {
        assert_eq!(outcomes.get(build).map(String::as_str), Some("passed"), "build {build} of {}", moved.git_ref);
        let states = forge.states_of(&moved.after);
        assert_eq!(states.last().map(String::as_str), Some("success"), "the last word on {}", moved.git_ref);
        // A word may be heard twice when its sender dies before it could note that; never another one.
        let finals: BTreeSet<&String> = states.iter().filter(|state| *state != "pending").collect();
        assert_eq!(finals.len(), 1, "{}: {states:?}", moved.git_ref);
        let first_final = states.iter().position(|state| state != "pending");
        let last_pending = states.iter().rposition(|state| state == "pending");
        assert!(last_pending < first_final, "{}: pending after the final word: {states:?}", moved.git_ref);
    }
    println!("{} acknowledged deliveries, each with one final word", due.len());
}

//! Several processes, one system: servers take deliveries and show pages, agents run builds, over one PostgreSQL.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use hookmill::config::server::StoreUrl;
use hookmill::store::inspect::inspect;
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::support::events::{Event, Stream};
use crate::support::forge::{Forge, LOOK_AGAIN, Moved, PATIENCE, Repo};
use crate::support::postgres::Cluster;
use crate::support::server::{ADMIN, EXE, Server, Settings};
use crate::support::small_disk;

/// Prints a line, then the next a moment later, until `LINES` are through; the pauses are the build's, not the test's.
const TALKER: &str = "let n = 0;\nconst say = () => {\n  n += 1;\n  console.log(`line ${n} größe`);\n  \
                      if (n < LINES) setTimeout(say, 50);\n};\nsay();\n";

/// The parts that all processes share.
struct System {
    forge: Forge,
    cluster: Cluster,
    url: String,
    shared: TempDir,
}

impl System {
    fn start() -> System {
        let cluster = Cluster::start();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let url = cluster.url(&runtime.block_on(cluster.make_database()));
        System { forge: Forge::start(), cluster, url, shared: tempfile::tempdir().expect("a folder") }
    }

    /// Fails unless the database is as it must be.
    fn keeps_its_promises(&self) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let url = StoreUrl::Postgres(self.url.parse().expect("legal"));
        let found = runtime.block_on(inspect(&url)).expect("readable").expect("tables");
        assert_eq!(found.broken, [], "{found:?}");
    }

    fn settings(&self) -> Settings {
        Settings {
            store: Some(self.url.clone()),
            data: format!("blobs_url = \"file://{}\"", self.shared.path().display()),
            ..Settings::default()
        }
    }

    /// A process that takes deliveries and runs nothing.
    fn serve(&self) -> Server {
        Server::start_with(&self.forge, Settings { slots: 0, ..self.settings() })
    }

    fn agent(&self, name: &str, slots: usize, lease: &str) -> Server {
        let agent = format!("name = \"{name}\"\nlease = \"{lease}\"");
        Server::start_with(&self.forge, Settings { command: "agent", slots, agent, ..self.settings() })
    }
}

/// A name that this run's processes have and no other's.
fn ours(marker: &str) -> String {
    format!("{marker}-of-{}", std::process::id())
}

/// A commit whose bundle talks for a while, under a name that can be found among all processes.
fn talker(repo: &Repo, lines: usize, marker: &str) -> Moved {
    let marker = ours(marker);
    let configuration = format!("[bundle]\ncommand = ['node', 'bundle.js', '{marker}']\n");
    let script = TALKER.replace("LINES", &lines.to_string());
    repo.push("main", &[(".hookmill.toml", &configuration), ("bundle.js", &script)])
}

/// Processes that were started with an argument.
fn with_argument(marker: &str) -> usize {
    let (marker, mut count) = (ours(marker), 0);
    for entry in fs::read_dir("/proc").expect("Linux").flatten() {
        let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let mut words = command.split(|&byte| byte == 0);
        // The step itself, and not the programs that carry its words inwards.
        let is_node = words.next().is_some_and(|program| program.ends_with(b"node"));
        count += usize::from(is_node && words.any(|word| word == marker.as_bytes()));
    }
    count
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(LOOK_AGAIN);
    }
}

fn lines(events: &[Event]) -> Vec<&str> {
    events.iter().filter_map(Event::line).collect()
}

fn expected(count: usize) -> Vec<String> {
    (1..=count).map(|n| format!("line {n} größe")).collect()
}

/// How often an agent began each build, by its log.
fn begun(agents: &[&Server]) -> BTreeMap<i64, usize> {
    let mut begun = BTreeMap::new();
    for line in agents.iter().flat_map(|agent| agent.log_text().lines().map(str::to_owned).collect::<Vec<_>>()) {
        let Ok(entry) = serde_json::from_str::<Value>(&line) else { continue };
        if entry["message"] == "build started" {
            *begun.entry(entry["build"].as_i64().expect("a number")).or_default() += 1;
        }
    }
    begun
}

#[test]
fn every_build_is_run_once_whoever_took_it() {
    const BUILDS: usize = 60;
    let system = System::start();
    let doors = [system.serve(), system.serve()];
    let agents: Vec<Server> = (1..=3).map(|n| system.agent(&format!("build-{n}"), 2, "60s")).collect();
    let repo = system.forge.repo("acme/shop");
    let mut builds = Vec::new();
    let mut heads = Vec::new();
    for n in 0..BUILDS {
        let files = [(".hookmill.toml", "[bundle]\ncommand = ['true']\n"), ("n.txt", &n.to_string())];
        let moved = repo.push("main", &files.map(|(name, text)| (name, text)));
        builds.push(doors[n % 2].deliver(&repo.pushed(&moved)).build());
        heads.push(moved.after);
    }
    let mut by_agent: BTreeMap<String, usize> = BTreeMap::new();
    for &build in &builds {
        let finished = doors[1].finished(build);
        assert_eq!(finished["outcome"], "passed", "{finished:#}");
        *by_agent.entry(finished["agent"].as_str().expect("a name").to_owned()).or_default() += 1;
    }
    let begun = begun(&agents.iter().collect::<Vec<_>>());
    assert!(builds.iter().all(|build| begun.get(build) == Some(&1)), "each once: {begun:?}");
    assert_eq!(by_agent.len(), 3, "all had a share: {by_agent:?}");
    for sha in heads {
        system.forge.status_in(&sha, "success");
    }
    system.forge.finish();
}

#[test]
fn any_server_shows_a_log_while_it_grows_on_an_agent() {
    const LINES: usize = 200;
    let system = System::start();
    let (taker, shower) = (system.serve(), system.serve());
    let _agent = system.agent("build-1", 1, "60s");
    let repo = system.forge.repo("acme/shop");
    let moved = talker(&repo, LINES, "watched");
    let build = taker.deliver(&repo.pushed(&moved)).build();

    let mut stream = Stream::open(&shower, build, None);
    assert_eq!(stream.code, 200);
    let mut events = Vec::new();
    while let Some(event) = stream.next() {
        let is_fifth = event.line() == Some("line 5 größe");
        events.push(event);
        if is_fifth {
            break;
        }
    }
    assert_eq!(shower.build(build)["state"], "running", "told while it runs, not afterwards");
    // The other server goes on where this one stopped.
    let place = events.last().expect("five lines").id.clone();
    let rest = Stream::open(&taker, build, Some(&place)).rest();
    let whole: Vec<&str> = lines(&events).into_iter().chain(lines(&rest)).collect();
    assert_eq!(whole, expected(LINES));
    assert_eq!(rest.last().map(|event| event.kind.as_str()), Some("end"));

    let text: String = expected(LINES).iter().map(|line| format!("{line}\n")).collect();
    for door in [&taker, &shower] {
        assert_eq!(door.log(build, "bundle"), text);
        assert!(door.get(&format!("/builds/{build}")).body.contains("line 200 größe"));
        assert_eq!(lines(&Stream::open(door, build, None).rest()), expected(LINES), "who comes late is told the same");
    }
    system.forge.finish();
}

#[test]
fn without_a_shared_place_a_page_says_where_the_log_is() {
    let system = System::start();
    let apart = |settings: Settings| Settings { data: String::new(), ..settings };
    let door = Server::start_with(&system.forge, apart(Settings { slots: 0, ..system.settings() }));
    let agent = Settings { command: "agent", agent: "name = \"build-1\"".into(), ..system.settings() };
    let _agent = Server::start_with(&system.forge, apart(agent));
    let repo = system.forge.repo("acme/shop");
    let moved = talker(&repo, 1, "alone");
    let build = door.deliver(&repo.pushed(&moved)).build();
    assert_eq!(door.finished(build)["outcome"], "passed");
    let refused = door.get(&format!("/api/v1/builds/{build}/log"));
    assert_eq!((refused.code, &refused.json()["error"]["code"]), (409, &"log_elsewhere".into()), "{refused:?}");
    assert!(refused.body.contains("the log is on agent build-1; set [data] blobs_url"), "{refused:?}");
    let page = door.get(&format!("/builds/{build}")).body;
    assert!(page.contains("The log is on agent <bdi>build-1</bdi>"), "{page}");
    system.forge.finish();
}

#[test]
fn an_agent_that_slept_through_its_lease_kills_its_build_and_writes_nothing() {
    // For longer than a lease and two rounds of who looks at leases: both agents' steps are to run at once.
    const LINES: usize = 700;
    let system = System::start();
    let door = system.serve();
    let sleeper = system.agent("sleeper", 1, "5s");
    let repo = system.forge.repo("acme/shop");
    let moved = talker(&repo, LINES, "slept-through");
    let build = door.deliver(&repo.pushed(&moved)).build();
    door.wrote(build, "bundle", "line 5 größe\n");
    assert_eq!(with_argument("slept-through"), 1);

    sleeper.signal(Signal::STOP);
    let _taker = system.agent("taker", 1, "60s");
    door.wait_for(build, |build| build["agent"] == "taker");
    until("the taker's step runs beside the sleeper's", || with_argument("slept-through") == 2);
    let slept_at = sleeper.log_text().len();
    sleeper.signal(Signal::CONT);
    until("the sleeper's step is dead", || with_argument("slept-through") == 1);
    until("it says so", || sleeper.log_text().contains("the lease was lost; nothing more is written"));

    let finished = door.finished(build);
    assert_eq!((&finished["outcome"], &finished["agent"]), (&"passed".into(), &"taker".into()), "{finished:#}");
    door.wrote(build, "bundle", &format!("line {LINES} größe\n"));
    assert_eq!(door.log(build, "bundle").lines().count(), LINES, "one claim's log, whole");
    let since = sleeper.log_text()[slept_at..].to_owned();
    assert!(!since.contains("build finished") && !since.contains("step finished"), "{since}");
    // Its status goes out after the build's end was written.
    system.forge.status_in(&moved.after, "success");
    system.forge.finish();
    let final_words = system.forge.statuses_of(&moved.after).iter().filter(|status| status.state == "success").count();
    assert_eq!(final_words, 1);
}

#[test]
fn builds_of_a_killed_agent_are_run_by_another_and_its_own_restart_waits_for_no_lease() {
    let system = System::start();
    let door = system.serve();
    let mut killed = system.agent("killed", 1, "5s");
    let repo = system.forge.repo("acme/shop");
    let first = talker(&repo, 200, "first");
    let build = door.deliver(&repo.pushed(&first)).build();
    door.wrote(build, "bundle", "line 2 größe\n");
    killed.kill9();
    until("its steps ended with it", || with_argument("first") == 0);
    let mut other = system.agent("other", 1, "10m");
    assert_eq!(door.wait_for(build, |build| build["agent"] == "other")["state"], "running");
    assert_eq!(door.finished(build)["outcome"], "passed");

    let second = talker(&repo, 200, "second");
    let build = door.deliver(&repo.pushed(&second)).build();
    door.wrote(build, "bundle", "line 2 größe\n");
    other.kill9();
    // Its lease holds for another ten minutes; the same data directory and name need not wait for that.
    other.restart();
    let finished = door.finished(build);
    assert_eq!((&finished["outcome"], &finished["agent"]), (&"passed".into(), &"other".into()), "{finished:#}");
    system.forge.finish();
}

#[test]
fn a_build_goes_on_while_the_database_is_started_again() {
    let system = System::start();
    let door = system.serve();
    let agent = system.agent("build-1", 1, "60s");
    let repo = system.forge.repo("acme/shop");
    let moved = talker(&repo, 100, "goes-on");
    let build = door.deliver(&repo.pushed(&moved)).build();
    door.wrote(build, "bundle", "line 3 größe\n");
    system.cluster.crash();
    // The build ends while nobody can be told.
    until("the step ended", || with_argument("goes-on") == 0);
    system.cluster.run();
    assert!(system.cluster.answers());
    until("the server has it back", || door.get(&format!("/api/v1/builds/{build}")).code == 200);
    let finished = door.finished(build);
    assert_eq!(finished["outcome"], "passed", "{finished:#}");
    assert_eq!(begun(&[&agent]), BTreeMap::from([(build, 1)]), "not run twice");
    system.forge.status_in(&moved.after, "success");
    system.forge.finish();
}

#[test]
fn a_cancel_at_one_server_reaches_an_agent_elsewhere() {
    let system = System::start();
    let (taker, other) = (system.serve(), system.serve());
    let _agent = system.agent("build-1", 1, "60s");
    let repo = system.forge.repo("acme/shop");
    let moved = talker(&repo, 4000, "cancelled-elsewhere");
    let build = taker.deliver(&repo.pushed(&moved)).build();
    taker.wrote(build, "bundle", "line 2 größe\n");
    let asked = Instant::now();
    assert_eq!(other.post(&format!("/api/v1/builds/{build}/cancel"), "").code, 202);
    assert_eq!(taker.finished(build)["outcome"], "cancelled");
    assert!(asked.elapsed() < Duration::from_secs(15), "told, and not only found by a heartbeat");
    until("its step is dead", || with_argument("cancelled-elsewhere") == 0);
    system.forge.finish();
}

/// `hookmill agents …` against a server.
fn agents_cli(door: &Server, words: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(EXE)
        .args(["agents", "--server", &door.url()])
        .args(words)
        .env("HOOKMILL_TOKEN", ADMIN)
        .output()
        .expect("it runs");
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&text).into_owned())
}

#[test]
fn a_paused_agent_claims_nothing_and_a_drained_one_ends() {
    let system = System::start();
    let door = system.serve();
    let repo = system.forge.repo("acme/shop");
    let nobody = door.deliver(&repo.pushed(&talker(&repo, 60, "begun"))).build();
    let waits = door.build(nobody)["waits"].to_string();
    assert!(waits.contains("no agent is there") && waits.contains("hookmill agent"), "{waits}");

    let mut agent = system.agent("build-1", 1, "60s");
    door.wrote(nobody, "bundle", "line 2 größe\n");
    assert_eq!(
        agents_cli(&door, &["pause", "build-1"]),
        (Some(0), "build-1 claims nothing more; what runs ends\n".into())
    );
    let next = door.deliver(&repo.pushed(&talker(&repo, 2, "waits"))).build();
    assert_eq!(door.finished(nobody)["outcome"], "passed", "what runs ends as it would");
    let waiting = door.build(next);
    assert_eq!(waiting["state"], "queued", "{waiting:#}");
    assert_eq!(waiting["waits"], "the agent is paused (build-1): hookmill agents resume build-1");
    assert!(door.get(&format!("/builds/{next}")).body.contains("It waits: <bdi>the agent is paused"));
    let (code, listed) = agents_cli(&door, &["list"]);
    assert!(code == Some(0) && listed.contains("build-1") && listed.contains("paused"), "{listed}");

    // A pause outlives the process.
    assert_eq!(agent.stop(), Some(0));
    agent.restart();
    until("it is there again, and paused", || door.get("/api/v1/agents").json()["agents"][0]["standing"] == "paused");
    assert_eq!(door.build(next)["state"], "queued");
    assert_eq!(agents_cli(&door, &["resume", "build-1"]).0, Some(0));
    assert_eq!(door.finished(next)["outcome"], "passed");

    let last = door.deliver(&repo.pushed(&talker(&repo, 60, "last"))).build();
    door.wrote(last, "bundle", "line 2 größe\n");
    assert_eq!(agents_cli(&door, &["drain", "build-1"]).0, Some(0));
    assert_eq!(agent.ended().code(), Some(0), "it ends by itself");
    assert_eq!(door.finished(last)["outcome"], "passed", "and not before its build");
    until("it is away at once", || door.get("/api/v1/agents").json()["agents"][0]["standing"] == "away");
    let (code, said) = agents_cli(&door, &["pause", "nobody"]);
    assert!(code == Some(1) && said.contains("there is no agent named"), "{said}");
    system.forge.finish();
}

#[test]
fn a_build_that_loses_three_agents_is_broken_and_others_run_beside_it() {
    let system = System::start();
    let door = system.serve();
    let mut agents: Vec<Server> = (1..=3).map(|n| system.agent(&format!("build-{n}"), 1, "20s")).collect();
    let repo = system.forge.repo("acme/poison");
    let poison = talker(&repo, 4000, "poison");
    let build = door.deliver(&repo.pushed(&poison)).build();
    let others = system.forge.repo("acme/shop");
    let mut lost = Vec::new();
    for claim in 1..=3 {
        until("it runs, and only once", || with_argument("poison") == 1);
        // Whoever else is there goes on with other work.
        let beside = talker(&others, 2, &format!("beside-{claim}"));
        let passed = door.finished(door.deliver(&others.pushed(&beside)).build());
        assert_eq!(passed["outcome"], "passed", "{passed:#}");
        let running = door.wait_for(build, |build| build["state"] == "running");
        let name = running["agent"].as_str().expect("somebody runs it").to_owned();
        assert_ne!(passed["agent"], name.as_str());
        let agent =
            agents.iter_mut().find(|agent| agent.log_text().contains(&format!("\"{name}\""))).expect("one of three");
        agent.kill9();
        until("its steps ended with it", || with_argument("poison") == 0);
        // The last one is seen to be lost by its lease, the others say so when they are back.
        if claim < 3 {
            agent.restart();
        }
        lost.push(name);
    }
    let broken = door.finished(build);
    assert_eq!(
        (&broken["outcome"], &broken["reason"]),
        (&"broken".into(), &"agent lost".into()),
        "{lost:?}: {broken:#}"
    );
    assert_eq!(system.forge.final_status(&poison.after, "hookmill").state, "error");
    let after = talker(&others, 2, "after");
    assert_eq!(door.finished(door.deliver(&others.pushed(&after)).build())["outcome"], "passed");
    assert_eq!(begun(&agents.iter().collect::<Vec<_>>())[&build], 3, "nobody claimed it again");
    system.keeps_its_promises();
    system.forge.finish();
}

#[test]
fn an_agent_reads_its_configuration_again_and_builds_on() {
    let system = System::start();
    let door = system.serve();
    let greeting = |word: &str| format!("env = {{ GREETING = \"{word}\" }}");
    let agent =
        Settings { command: "agent", agent: "name = \"build-1\"".into(), repo: greeting("one"), ..system.settings() };
    let agent = Server::start_with(&system.forge, agent);
    let repo = system.forge.repo("acme/shop");
    let greet = |marker: &str| {
        let script = format!("console.log('{marker} ' + process.env.GREETING);\n{}", TALKER.replace("LINES", "40"));
        let configuration = format!("[bundle]\ncommand = ['node', 'bundle.js', '{marker}']\n");
        repo.push("main", &[(".hookmill.toml", &configuration), ("bundle.js", &script)])
    };
    let first = door.deliver(&repo.pushed(&greet("first"))).build();
    door.wrote(first, "bundle", "first one\n");
    let config = fs::read_to_string(agent.config_file()).expect("read");
    let asked = |text: &str, said: &str| {
        let before = agent.log_text().len();
        fs::write(agent.config_file(), text).expect("written");
        agent.signal(Signal::HUP);
        until(said, || agent.log_text()[before..].contains(said));
    };
    asked(&config.replace("GREETING = \"one\"", "GREETING = "), "the configuration was not changed");
    let more = config.replace("GREETING = \"one\"", "GREETING = \"two\"").replace("slots = 1", "slots = 2");
    asked(&more, "configuration read again");
    assert!(agent.log_text().contains("this setting changes only with a restart"), "{}", agent.log_text());
    let finished = door.finished(first);
    assert_eq!(finished["outcome"], "passed", "what runs goes on: {finished:#}");
    let second = door.deliver(&repo.pushed(&greet("second"))).build();
    assert_eq!(door.finished(second)["outcome"], "passed");
    assert!(door.log(second, "bundle").starts_with("second two\n"), "{}", door.log(second, "bundle"));
    system.forge.finish();
}

#[test]
fn every_server_tells_of_an_agent_whose_disk_is_low() {
    let system = System::start();
    let Some(disk) = small_disk::Disk::mount(system.forge.dir.path().join("disk"), "64m") else { return };
    let door = system.serve();
    let mut settings = small_disk::data_on(&disk.at);
    settings.env.push(("HOOKMILL_DATA__LOW_PERCENT".to_owned(), "50".to_owned()));
    let agent = "name = \"build-1\"\nlease = \"60s\"".to_owned();
    let settings = Settings { command: "agent", agent, env: settings.env, ..system.settings() };
    let _agent = Server::start_with(&system.forge, settings);
    let part = || door.get("/readyz").json()["parts"]["agent"].clone();
    until("it is there", || part()["detail"] == "0 of 1 slots busy");

    disk.fill_up_to(16 << 20);
    until("it says so", || part()["ok"] == false);
    let detail = part()["detail"].to_string();
    assert!(detail.contains("build-1: disk low since 2") && detail.contains(" MiB left"), "{detail}");
    assert_eq!(door.get("/readyz").json()["parts"]["disk"]["ok"], true, "not this server's");
    let repo = system.forge.repo("acme/shop");
    let build = door.deliver(&repo.pushed(&talker(&repo, 1, "waits-for-room"))).build();
    let waits = door.build(build)["waits"].as_str().expect("why").to_owned();
    assert!(waits.starts_with("the disk of agent build-1 has "), "{waits}");
    assert!(door.get("/agents").body.contains("disk low since <time"));
    let (_, listed) = agents_cli(&door, &["list"]);
    assert!(listed.contains("disk low"), "{listed}");
    assert!(door.figure("hookmill_disk_free_bytes") > 64 << 20, "of the server's own disk");

    disk.free();
    assert_eq!(door.finished(build)["outcome"], "passed", "it goes on by itself");
    until("nothing is said any more", || part()["detail"] == "0 of 1 slots busy");
    system.forge.finish();
}

#[test]
fn an_agent_ends_after_its_builds_or_at_once_when_asked_twice() {
    let system = System::start();
    let door = system.serve();
    let mut agent = system.agent("build-1", 1, "60s");
    let repo = system.forge.repo("acme/shop");
    let (first, second) = (talker(&repo, 200, "drained"), talker(&repo, 160, "given-back"));
    let drained = door.deliver(&repo.pushed(&first)).build();
    let next = door.deliver(&repo.pushed(&second)).build();
    door.wrote(drained, "bundle", "line 2 größe\n");
    assert_eq!(agent.stop(), Some(0), "it waits for what runs");
    assert_eq!(door.build(drained)["outcome"], "passed");
    assert_eq!(door.build(next)["state"], "queued", "and claims nothing more");

    agent.restart();
    door.wrote(next, "bundle", "line 2 größe\n");
    let before = agent.log_text().len();
    agent.signal(Signal::INT);
    until("it drains", || agent.log_text().len() > before);
    agent.signal(Signal::TERM);
    assert_eq!(agent.ended().code(), Some(130), "{}", &agent.log_text()[before..]);
    let ended = Instant::now();
    until("nothing of it is left", || with_argument("given-back") == 0);
    assert!(ended.elapsed() < Duration::from_secs(5), "gone after {:?}", ended.elapsed());
    let waits = door.build(next);
    assert_eq!(waits["state"], "queued", "given back, and no lease waited for: {waits:#}");
    agent.restart();
    assert_eq!(door.finished(next)["outcome"], "passed");
    system.forge.finish();
}

/// Runs `hookmill agent` to its end, which must be soon.
fn refused(config: &Path) -> (Option<i32>, String) {
    let output = Command::new(EXE).arg("agent").arg("--config").arg(config).output().expect("it runs");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn what_an_agent_can_not_work_with_is_said() {
    let system = System::start();
    let agent = system.agent("build-1", 1, "60s");
    let dir = tempfile::tempdir().expect("a folder");
    let config = dir.path().join("hookmill.toml");
    // No hook secret anywhere: an agent takes no hooks.
    let write = |store: &str, data: &Path, more: &str| {
        let text = format!(
            "[store]\nurl = \"{store}\"\n[data]\ndir = \"{}\"\n[agent]\nslots = 1\nlease = \"5s\"\n{more}\n\
             [[forge]]\nname = \"gitea\"\nkind = \"gitea\"\nweb_url = \"http://127.0.0.1:1\"\ntoken = \"0123456789abcdef\"\n\
             [[repo]]\nforge = \"gitea\"\nname = \"acme/*\"\n",
            data.display()
        );
        fs::write(&config, text).expect("written");
    };
    write("sqlite://./hookmill.db", dir.path(), "");
    let (code, said) = refused(&config);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("postgres://") && said.contains("belongs to one process"), "{said}");

    // A part of ours that fails is no fault of the configuration's.
    write(&system.url, &config.join("data"), "name = \"build-2\"");
    let (code, said) = refused(&config);
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("the data directory can't be made"), "{said}");

    write(&system.url, &agent.data(), "name = \"build-2\"");
    let (code, said) = refused(&config);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("another hookmill works in"), "{said}");

    write(&system.url, &dir.path().join("data"), "name = \"build-1\"");
    let (code, said) = refused(&config);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("an agent named \"build-1\" is at work") && said.contains("[agent] name"), "{said}");
    system.forge.finish();
}

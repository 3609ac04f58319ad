//! Real servers on one PostgreSQL: any door takes a delivery, any agent builds it, and a database that restarts breaks
//! neither a build nor a promise.

use std::process::Command;

use rustix::process::Signal;

use crate::support::forge::Forge;
use crate::support::postgres::Cluster;
use crate::support::server::{EXE, Server, Settings};

const NOTHING_TO_DO: &[(&str, &str)] = &[("README.md", "# Shop\n")];
/// Long enough for a database to crash and to recover.
const A_WHILE: &[(&str, &str)] =
    &[(".hookmill.toml", "[bundle]\ncommand = [\"sh\", \"-c\", \"echo begun; sleep 4; echo over\"]\n")];

fn database(cluster: &Cluster) -> String {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    cluster.url(&runtime.block_on(cluster.make_database()))
}

fn settings(url: &str, name: &str, slots: usize) -> Settings {
    let env = [("HOOKMILL_STORE__URL", url), ("HOOKMILL_AGENT__NAME", name)];
    let env = env.map(|(key, value)| (key.to_owned(), value.to_owned())).to_vec();
    Settings { slots, env, ..Settings::default() }
}

fn ready(server: &Server) -> u16 {
    server.get("/readyz").code
}

#[test]
fn any_door_takes_a_delivery_and_any_agent_builds_it() {
    let forge = Forge::start();
    let repo = forge.repo("acme/shop");
    let cluster = Cluster::start();
    let url = database(&cluster);
    let door = Server::start_with(&forge, settings(&url, "door", 0));
    let agent = Server::start_with(&forge, settings(&url, "agent", 1));

    let moved = repo.push("main", NOTHING_TO_DO);
    let delivery = repo.pushed(&moved);
    let (here, there) = std::thread::scope(|scope| {
        let [here, there] = [&door, &agent].map(|server| scope.spawn(|| server.deliver(&delivery)));
        (here.join().expect("answered"), there.join().expect("answered"))
    });
    let mut codes = [here.code, there.code];
    codes.sort_unstable();
    let [build, same] = [&here, &there].map(|reply| reply.json()["build"].as_i64().expect("a number"));
    assert_eq!((codes, build), ([200, 202], same), "{here:?} {there:?}");
    assert_eq!(door.finished(build)["outcome"], "passed", "shown where it was not built");
    assert_eq!(agent.builds().len(), 1);
    forge.final_status(&moved.after, "hookmill");

    // A person's word at one door reaches the build at the other.
    let endless = "[bundle]\ncommand = [\"sh\", \"-c\", \"echo begun; sleep 600\"]\n";
    let moved = repo.push("topic", &[(".hookmill.toml", endless)]);
    let build = door.deliver(&repo.pushed(&moved)).build();
    agent.wrote(build, "bundle", "begun");
    assert_eq!(door.post(&format!("/api/v1/builds/{build}/cancel"), "").code, 202);
    assert_eq!(agent.finished(build)["outcome"], "cancelled");
    forge.finish();
}

#[test]
fn two_that_look_at_once_make_each_head_once() {
    let forge = Forge::start();
    let repos = ["acme/shop", "acme/desk", "acme/till"].map(|name| forge.repo(name));
    let cluster = Cluster::start();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let name = runtime.block_on(cluster.make_database());
    let url = cluster.url(&name);
    let sweeping = |name| Settings { sweep: "5m", ..settings(&url, name, 1) };
    let mut doors = ["east", "west"].map(|name| Server::start_with(&forge, sweeping(name)));
    for repo in &repos {
        let build = doors[0].deliver(&repo.pushed(&repo.push("main", NOTHING_TO_DO))).build();
        doors[1].finished(build);
    }
    let looks = |doors: &[Server; 2]| -> [u64; 2] {
        doors.each_ref().map(|door| door.figure("hookmill_sweep_looks_total{result=\"ok\"}"))
    };
    // What a repository has at the first look is old.
    let looked_at = || -> i64 {
        let count = "SELECT count(*) FROM sweeps WHERE branches_at IS NOT NULL";
        runtime.block_on(async {
            let mut connection = cluster.connect(&name).await;
            sqlx::query_scalar(count).fetch_one(&mut connection).await.expect("a number")
        })
    };
    forge.wait(|| (looked_at() == 3).then_some(()), || format!("{:?}", looks(&doors)));
    doors.iter_mut().for_each(|door| assert_eq!(door.stop(), Some(0)));

    let missed = |round: &str| -> Vec<String> {
        let branches = ["main", "topic"]
            .map(|branch| repos.each_ref().map(|repo| repo.push(branch, &[(round, &repo.name)]).after));
        branches.concat()
    };
    let each_is_made_once = |doors: &[Server; 2], heads: &[String]| {
        for head in heads {
            forge.final_status(head, "hookmill");
            let made = doors[0].builds().into_iter().filter(|build| build["sha"] == head.as_str());
            let events: Vec<_> = made.map(|build| build["event"].clone()).collect();
            assert_eq!(events, ["sweep"], "{head}");
        }
    };
    let heads = missed("one");
    std::thread::scope(|scope| doors.iter_mut().for_each(|door| drop(scope.spawn(|| door.restart()))));
    each_is_made_once(&doors, &heads);
    // Again, both at the same moment: whoever asks for a look gets one, which both begin.
    for round in ["two", "three", "four"] {
        let heads = missed(round);
        doors.iter().for_each(|door| door.signal(Signal::HUP));
        each_is_made_once(&doors, &heads);
    }
    assert!(looks(&doors).iter().all(|looks| *looks > 0), "each of them looked: {:?}", looks(&doors));
    forge.finish();
}

#[test]
fn a_database_that_crashes_breaks_no_build_and_no_promise() {
    let forge = Forge::start();
    let repo = forge.repo("acme/shop");
    let cluster = Cluster::start();
    let server = Server::start_with(&forge, settings(&database(&cluster), "agent", 1));
    let moved = repo.push("main", A_WHILE);
    let build = server.deliver(&repo.pushed(&moved)).build();
    server.wrote(build, "bundle", "begun");

    cluster.crash();
    let late = repo.push("late", NOTHING_TO_DO);
    let delivery = repo.pushed(&late);
    assert_eq!((server.deliver(&delivery).code, ready(&server)), (503, 503), "what can't be kept is not taken");
    cluster.run();
    assert!(cluster.answers(), "it recovers");
    forge.wait(|| (ready(&server) == 200).then_some(()), || server.get("/readyz").body);

    assert_eq!(server.deliver(&delivery).code, 202, "sent again, it is taken");
    assert_eq!(server.finished(build)["outcome"], "passed");
    forge.final_status(&moved.after, "hookmill");
    forge.final_status(&late.after, "hookmill");
    forge.finish();
}

#[test]
fn doctor_looks_at_the_server() {
    let cluster = Cluster::start();
    let url = database(&cluster).replace("postgres://hookmill@", "postgres://hookmill:hunter2@");
    let findings = |url: &str| {
        let dir = tempfile::tempdir().expect("a folder");
        let mut doctor = Command::new(EXE);
        doctor.args(["doctor", "--json"]).current_dir(dir.path()).env("HOOKMILL_STORE__URL", url);
        let output = doctor.output().expect("started");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(!text.contains("hunter2"), "{text}");
        let document: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        let all = document["findings"].as_array().expect("a list").clone();
        all.into_iter().filter(|finding| finding["group"] == "store").collect::<Vec<_>>()
    };
    let well = findings(&url);
    let detail = well[0]["detail"].as_str().expect("a text");
    assert!(detail.contains("PostgreSQL") && detail.contains("the next start makes it"), "{well:?}");
    assert_eq!(well[1]["name"], "clock", "{well:?}");
    cluster.crash();
    let away = findings(&url);
    assert!(away[0]["detail"].as_str().is_some_and(|detail| detail.contains("can't be reached")), "{away:?}");
    assert!(away[0]["fix"].as_str().is_some_and(|fix| fix.contains("listen_addresses")), "{away:?}");
}

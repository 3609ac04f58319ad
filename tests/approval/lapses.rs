//! What ends the wait for a maintainer, and an approval: the next push, the end of the pull request, two weeks.

use std::fs;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _};

use crate::approval::{approve, audit, pushed_to_the_fork, refusal, rules, waits_for_a_maintainer};
use crate::support::forge::{Forge, Kind, Repo};
use crate::support::server::{Server, Settings};

/// A pull request of a fork whose builds have nothing to do.
struct Request {
    forge: Forge,
    repo: Repo,
    server: Server,
}

impl Request {
    fn new(kind: Kind) -> Request {
        let forge = Forge::start();
        let repo = forge.repo_of(kind, "acme/shop");
        // Nothing is claimed, so that what is approved stays queued.
        let server = Server::start_with(&forge, Settings { slots: 0, ..Settings::default() });
        repo.push("main", &[("README.md", "# Shop\n")]);
        Request { forge, repo, server }
    }

    /// The next commit; its name and its build.
    fn moves(&self, text: &str) -> (String, i64) {
        let sha = pushed_to_the_fork(&self.repo, &[("README.md", text)]).after;
        let action = self.repo.new_commits();
        let id = self.server.deliver(&self.repo.pull_request(action, 7, "fix", &sha, true)).build();
        (sha, id)
    }

    fn closes(&self, sha: &str) {
        let closed = self.server.deliver(&self.repo.pull_request("closed", 7, "fix", sha, true));
        assert_eq!(closed.code, 200, "{closed:?}");
    }

    fn reason(&self, id: i64) -> String {
        self.server.build(id)["reason"].as_str().unwrap_or_default().to_owned()
    }
}

#[test]
fn the_next_push_and_the_end_of_the_pull_request_take_the_word_back() {
    for kind in [Kind::Gitea, Kind::Github] {
        let request = Request::new(kind);
        let server = &request.server;
        let (first_sha, first) = request.moves("one");
        let labeled = server.deliver(&request.repo.pull_request("labeled", 7, "fix", &first_sha, true));
        assert_eq!((labeled.code, &labeled.json()["builds"]), (200, &json!([])), "no new commit");
        let (second_sha, second) = request.moves("two");
        assert_eq!(request.reason(first), format!("superseded by #{second}"));
        assert_eq!(approve(server, first, ""), (409, "head_moved".into()));
        assert_eq!(approve(server, second, &json!({"sha": first_sha}).to_string()), (409, "other_commit".into()));
        assert_eq!(approve(server, second, &json!({"sha": second_sha}).to_string()), (202, String::new()));
        assert_eq!(server.build(second)["state"], "queued");
        let pending =
            || request.forge.statuses_of(&second_sha).pop().filter(|said| said.description.contains("approved"));
        let said = request.forge.wait(pending, || "the forge was not told".into());
        assert_eq!((&*said.state, &*said.description), ("pending", "Queued, approved by admin"));

        // The word was for that commit alone.
        let (third_sha, third) = request.moves("three");
        assert_eq!(
            (server.build(third)["state"].clone(), request.reason(second)),
            (json!("waiting"), format!("superseded by #{third}"))
        );
        let rerun = |id: i64| refusal(server, &format!("/api/v1/builds/{id}/rerun"), "");
        assert_eq!(rerun(second), (409, "head_moved".into()), "approved it was, and is the head no more");
        assert_eq!(approve(server, third, ""), (202, String::new()));
        request.closes(&third_sha);
        assert_eq!(request.reason(third), "pull request 7 was closed");
        assert_eq!(rules(server, third), ["fork_waits", "fork_approved", "closed_pull_request_ends"]);
        assert_eq!(rerun(third), (409, "head_moved".into()));
        assert_eq!(approve(server, third, ""), (409, "head_moved".into()));

        // Opened again it is asked again, also for the commit that was approved.
        let reopened = server.deliver(&request.repo.pull_request("reopened", 7, "fix", &third_sha, true)).build();
        assert_eq!(server.build(reopened)["state"], "waiting");
        request.closes(&third_sha);
        assert_eq!(approve(server, reopened, ""), (409, "head_moved".into()));
        let approvals: Vec<_> =
            audit(server).iter().filter(|line| line["what"] == "approved").map(|line| line["build"].clone()).collect();
        assert_eq!(approvals, [json!(third), json!(second)]);
        request.forge.finish();
    }
}

#[test]
fn what_only_a_setting_let_in_ends_with_the_setting() {
    let forge = Forge::start();
    let repo = forge.repo("acme/shop");
    let let_in = "forks = \"build\"";
    let server = Server::start_with(&forge, Settings { repo: let_in.into(), ..Settings::default() });
    repo.push("main", &[("README.md", "# Shop\n")]);
    let agent = server.get("/api/v1/agents").json()["agents"][0]["name"].as_str().expect("a name").to_owned();
    let order = |verb: &str| assert_eq!(server.post(&format!("/api/v1/agents/{agent}/{verb}"), "").code, 202);
    order("pause");
    let theirs = pushed_to_the_fork(&repo, &[("README.md", "theirs")]);
    let id = server.deliver(&repo.pull_request("opened", 7, "fix", &theirs.after, true)).build();
    assert_eq!((&server.build(id)["state"], rules(&server, id)), (&json!("queued"), vec!["fork_is_built".to_owned()]));

    let text = fs::read_to_string(server.config_file()).expect("its configuration");
    fs::write(server.config_file(), text.replace(let_in, "")).expect("written");
    server.signal(Signal::HUP);
    let is_read = |line: &Value| line["what"] == "configuration_loaded" && line["occasion"] == "reload";
    forge.wait(|| audit(&server).into_iter().find(is_read), || format!("{:#?}", audit(&server)));
    order("resume");
    let ended = server.finished(id);
    assert_eq!((&ended["outcome"], &ended["steps"]), (&json!("cancelled"), &json!([])), "{ended:#}");
    let reason = ended["reason"].as_str().expect("a reason");
    assert!(reason.starts_with("nobody approved this fork's commit"), "{reason}");
    assert_eq!(forge.final_status(&theirs.after, "hookmill").state, "error");
    let again = server.post(&format!("/api/v1/builds/{id}/rerun"), "").build();
    assert_eq!(server.build(again)["state"], "waiting");
    assert_eq!(approve(&server, again, ""), (202, String::new()));
    assert_eq!(server.finished(again)["outcome"], "passed");
    forge.finish();
}

/// Makes every build of a stopped server as much older.
fn age(server: &Server, by: Duration) {
    let file = server.data().join("hookmill.db");
    let aged = async {
        let mut store = SqliteConnectOptions::new().filename(file).connect().await?;
        let millis = i64::try_from(by.as_millis()).expect("some days");
        sqlx::query("UPDATE builds SET created_at = created_at - $1").bind(millis).execute(&mut store).await?;
        store.close().await
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(aged).expect("its store");
}

#[test]
fn after_two_weeks_nobody_is_asked_any_more() {
    let mut request = Request::new(Kind::Gitea);
    let (sha, id) = request.moves("one");
    let said = request.forge.wait(|| request.forge.statuses_of(&sha).pop(), || "no status".into());
    assert_eq!(said.description, waits_for_a_maintainer(&sha));
    for (days, state) in [(13, "waiting"), (2, "finished")] {
        assert_eq!(request.server.stop(), Some(0));
        age(&request.server, Duration::from_secs(days * 86_400));
        request.server.restart();
        // A look at what waits too long is the first thing that a server does; this one comes after it.
        request.server.wait_for(id, |build| build["state"] == state);
    }
    let ended = request.server.build(id);
    assert_eq!(
        (&ended["outcome"], &ended["reason"]),
        (&json!("cancelled"), &json!("nobody approved it within 14 days"))
    );
    let said = request.forge.final_status(&sha, "hookmill");
    let sentence = "Cancelled: nobody approved this fork's commit within 14 days";
    assert_eq!((&*said.state, &*said.description), ("error", sentence));
    assert_eq!(rules(&request.server, id), ["fork_waits", "nobody_approved"]);
    assert_eq!(approve(&request.server, id, ""), (409, "no_approval_needed".into()));
    // Who wants it now asks for it again, and then says so.
    let again = request.server.post(&format!("/api/v1/builds/{id}/rerun"), "").build();
    assert_eq!(request.server.build(again)["state"], "waiting");
    assert_eq!(approve(&request.server, again, ""), (202, String::new()));
    request.closes(&sha);
    request.forge.finish();
}

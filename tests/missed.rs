//! What no delivery told of: the server was down, its store was, or no webhook can reach it. Heads are built, once.

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::forge::{Forge, Kind, Repo, TOKEN};
use crate::support::git_http::Behaviour;
use crate::support::machine::NO_OP;
use crate::support::server::{Server, Settings};
use crate::support::{forge, server};

fn sweeping() -> Settings {
    Settings { sweep: "5m", ..Settings::default() }
}

/// Pushes so many commits, one after the other; nobody is told. Answers with all of them, the head last.
fn commits(repo: &Repo, branch: &str, count: usize) -> Vec<String> {
    (0..count).map(|n| repo.push(branch, &[(&format!("{branch}-{n}"), "x")]).after).collect()
}

/// The builds of a commit.
fn builds_of(server: &Server, sha: &str) -> Vec<Value> {
    server.builds().into_iter().filter(|build| build["sha"] == sha).collect()
}

/// Waits for the one build of a commit that the sweep made.
fn swept(forge: &Forge, server: &Server, sha: &str) -> Value {
    let build = forge.wait(|| builds_of(server, sha).pop(), || format!("{sha} was not found: {:#?}", server.builds()));
    assert_eq!(build["event"], "sweep", "{build:#}");
    build
}

fn passes(forge: &Forge, server: &Server, sha: &str) -> Value {
    let build = swept(forge, server, sha);
    let build = server.finished(build["id"].as_i64().expect("a number"));
    assert_eq!(build["outcome"], "passed", "{build:#}");
    assert_eq!(forge.final_status(sha, "hookmill").state, "success");
    build
}

fn sweep_of(server: &Server) -> Value {
    server.get("/readyz").json()["parts"]["sweep"].clone()
}

#[test]
fn after_a_downtime_each_head_is_built_once_and_nothing_between() {
    let forge = Forge::start();
    let repo = forge.repo("acme/shop");
    let mut server = Server::start_with(&forge, sweeping());
    let told = |moved: &forge::Moved| server.finished(server.deliver(&repo.pushed(moved)).build());
    told(&repo.push("main", NO_OP));
    told(&repo.push("topic", &[("topic", "x")]));
    told(&repo.push("feature", &[("feature", "x")]));
    let old = repo.push("old", &[("old", "x")]);
    told(&old);
    let of_eve = |number: u64, text: &str| {
        repo.push("of-eve", &[("eve", text)]);
        repo.git_bare(&["update-ref", "-d", "refs/heads/of-eve"]);
        let head = repo.push_head(&format!("refs/pull/{number}/head")).after;
        forge.opens(&repo, number, "main", &head, true);
        head
    };
    let waiting: Vec<(String, i64)> = [7, 8]
        .map(|number| {
            let head = of_eve(number, &number.to_string());
            let build = server.deliver(&repo.pull_request("opened", number, "main", &head, true)).build();
            (head, build)
        })
        .into();
    server.looked(1);
    assert_eq!(server.stop(), Some(0));

    // An hour of it would be the same.
    let main = commits(&repo, "main", 3);
    let topic = commits(&repo, "topic", 2);
    let fresh = commits(&repo, "fresh", 2);
    let feature = commits(&repo, "feature", 2);
    forge.opens(&repo, 5, "feature", &feature[1], false);
    repo.delete("old");
    forge.closes(&repo, 7);
    let moved_fork = of_eve(8, "better");
    let nothing: Vec<Value> = Vec::new();
    server.restart();

    for heads in [&main, &topic, &fresh, &feature] {
        let head = heads.last().expect("pushed");
        let build = passes(&forge, &server, head);
        assert_eq!(builds_of(&server, head).len(), 1, "{build:#}");
        for between in &heads[..heads.len() - 1] {
            assert_eq!(builds_of(&server, between), nothing, "{between} was nobody's head any more");
        }
    }
    assert_eq!(server.finished(waiting[0].1)["reason"], "pull request 7 was closed");
    let superseded = server.finished(waiting[1].1);
    let better = swept(&forge, &server, &moved_fork);
    assert_eq!((&better["state"], &better["trust"]), (&json!("waiting"), &json!("fork")));
    assert_eq!(superseded["superseded_by"], better["id"]);

    // The deliveries come after all.
    for (branch, heads) in [("main", &main), ("topic", &topic)] {
        let late = forge::Moved {
            git_ref: format!("refs/heads/{branch}"),
            before: heads[heads.len() - 2].clone(),
            after: heads[heads.len() - 1].clone(),
            forced: false,
            message: "a change".to_owned(),
        };
        let reply = server.deliver(&repo.pushed(&late));
        assert_eq!((reply.code, &reply.json()["ignored"]), (200, &json!("already built")), "{reply:?}");
    }
    let deliveries = server.get_with("/api/v1/deliveries", &[("authorization", &format!("Bearer {}", server::ADMIN))]);
    let found = |what: &Value| what["event"] == "sweep";
    assert!(deliveries.json()["deliveries"].as_array().expect("a list").iter().any(found), "{deliveries:?}");
    let page = server.get(&format!("/builds/{}", builds_of(&server, &main[2])[0]["id"])).body;
    assert!(page.contains("no delivery told of it"), "{page}");

    // What asks for no build gets none, and what is built has a name.
    assert_eq!(server.stop(), Some(0));
    let newer = commits(&repo, "newer", 2);
    repo.git(&["commit", "-q", "--allow-empty", "-m", "words only [skip ci]"]);
    let skipped = repo.push_head("refs/heads/quiet").after;
    server.restart();
    let build = passes(&forge, &server, &newer[1]);
    assert_eq!((&build["title"], &build["author"]), (&json!("a change"), &json!("Ada")));
    server.looked(1);
    assert_eq!((builds_of(&server, &skipped), builds_of(&server, &newer[0])), (vec![], vec![]));
    let id = better["id"].as_i64().expect("a number");
    assert_eq!(server.post(&format!("/api/v1/builds/{id}/cancel"), "").code, 202);
    forge.finish();
}

/// A repository of a pattern is known once it was heard of. What it has by then could be from years ago.
#[test]
fn the_first_look_builds_nothing_old() {
    let forge = Forge::start();
    let repo = forge.repo("acme/shop");
    let years_old = repo.push("old", NO_OP).after;
    repo.push_head("refs/pull/2/head");
    let server = Server::start_with(&forge, sweeping());
    forge.opens(&repo, 2, "main", &repo.push("main", &[("a", "x")]).after, true);
    let told = repo.push("main", &[("b", "x")]);
    let build = server.deliver(&repo.pushed(&told)).build();
    server.looked(1);
    server.finished(build);
    server.signal(Signal::HUP);
    server.looked(2);
    assert_eq!(server.builds().len(), 1, "{years_old}");
    let head = repo.push("old", &[("c", "x")]).after;
    server.signal(Signal::HUP);
    passes(&forge, &server, &head);
    forge.finish();
}

#[test]
fn what_went_meanwhile_is_cancelled() {
    let forge = Forge::start();
    let repo = forge.repo("acme/shop");
    // All of it is there before the first look, which may come at any moment.
    let main = repo.push("main", NO_OP);
    let gone = repo.push("gone", &[("a", "x")]);
    let asked = repo.push("asked", &[("b", "x")]);
    let mut server = Server::start_with(&forge, Settings { slots: 0, ..sweeping() });
    let main = server.deliver(&repo.pushed(&main)).build();
    let of_gone = server.deliver(&repo.pushed(&gone)).build();
    let of_request = server.deliver(&repo.pull_request("opened", 3, "asked", &asked.after, false)).build();
    assert_eq!(server.stop(), Some(0));
    repo.delete("gone");
    server.restart();
    assert_eq!(server.finished(of_gone)["reason"], "branch gone was deleted");
    assert_eq!(server.finished(of_request)["reason"], "pull request 3 was closed");
    assert_eq!(forge.final_status(&gone.after, "hookmill").state, "error");
    server.looked(1);
    assert_eq!(server.build(main)["state"], "queued", "it is still wanted");
    assert_eq!(server.figure("hookmill_sweep_found_total{kind=\"deleted\"}"), 1);
    assert_eq!(server.post(&format!("/api/v1/builds/{main}/cancel"), "").code, 202);
    forge.finish();
}

#[test]
fn without_a_webhook_the_forge_is_asked() {
    let forge = Forge::start();
    let repo = forge.repo("solo/shop");
    let old = repo.push("old", NO_OP).after;
    repo.git(&["tag", "v1"]);
    repo.push_head("refs/tags/v1");
    let first = repo.push("main", &[("a", "x")]).after;
    forge.git.behave(Behaviour::Auth("x-access-token".to_owned(), TOKEN.to_owned()));
    let block = "[[repo]]\nforge = \"gitea\"\nname = \"solo/shop\"\npoll = \"10s\"\ntags = true\n";
    let server = Server::start_with(&forge, Settings { tables: block.to_owned(), ..Settings::default() });
    let begun = passes(&forge, &server, &first);
    assert_eq!(begun["branch"], "main", "{begun:#}");
    assert_eq!(server.builds().len(), 1, "what was there before is not built: {old}");

    // Asked for again by itself.
    let second = repo.push("topic", &[("b", "x")]).after;
    repo.git(&["commit", "-q", "--allow-empty", "-m", "a release"]);
    repo.git(&["tag", "-a", "-m", "the second", "v2"]);
    let release = repo.git(&["rev-parse", "HEAD"]);
    repo.git(&["push", "-q", "origin", "refs/tags/v2"]);
    passes(&forge, &server, &second);
    let tagged = passes(&forge, &server, &release);
    assert_eq!(tagged["ref"], "refs/tags/v2", "{tagged:#}");
    assert_eq!(server.builds().len(), 3);
    assert_eq!(sweep_of(&server)["ok"], true, "{}", sweep_of(&server));
    // Nobody can sign for it.
    assert_eq!(server.deliver(&repo.pushed(&repo.push("main", &[("c", "x")]))).code, 401);
    forge.finish();
}

#[test]
fn github_sends_again_what_is_still_so() {
    let forge = Forge::start();
    let repo = forge.repo_of(Kind::Github, "acme/shop");
    let mut server = Server::start_with(&forge, sweeping());
    forge.hook(&repo, &server.url());
    let first = repo.pushed(&repo.push("main", NO_OP));
    server.finished(server.deliver(&first).build());
    forge.delivered(&first, 202);
    assert_eq!(server.stop(), Some(0));
    let missed = [("a", "x"), ("b", "x")].map(|file| repo.push("main", &[file]));
    for moved in &missed {
        forge.delivered(&repo.pushed(moved), 502);
    }
    let again = repo.pushed(&missed[1]);
    forge.delivered(&again, 0);
    server.restart();

    passes(&forge, &server, &missed[1].after);
    let sent = forge.wait(
        || Some(forge.sent_again()).filter(|sent| sent.len() == 2),
        || format!("not sent again: {:?}", forge.questions()),
    );
    assert!(sent.iter().any(|(id, code)| (id, *code) == (&again.id, 200)), "{sent:?}");
    assert_eq!(builds_of(&server, &missed[1].after).len(), 1, "{sent:?}");
    assert_eq!(builds_of(&server, &missed[0].after).len(), 0, "its branch had left it: {sent:?}");

    // Once is enough: they were taken.
    server.looked(1);
    assert_eq!(server.figure("hookmill_deliveries_sent_again_total"), 2);
    server.signal(Signal::HUP);
    server.looked(2);
    assert_eq!(forge.sent_again().len(), 2);
    forge.finish();
}

#[test]
fn a_forge_whose_api_is_away_is_asked_by_git() {
    let forge = Forge::start();
    let repo = forge.repo_of(Kind::Github, "acme/shop");
    let mut server = Server::start_with(&forge, sweeping());
    forge.hook(&repo, &server.url());
    server.finished(server.deliver(&repo.pushed(&repo.push("main", NO_OP))).build());
    server.looked(1);
    assert_eq!(server.stop(), Some(0));

    let head = commits(&repo, "main", 2).pop().expect("pushed");
    let asked = repo.push("asked", &[("b", "x")]).after;
    repo.git_bare(&["update-ref", "refs/pull/4/head", &asked]);
    repo.git_bare(&["update-ref", "-d", "refs/heads/asked"]);
    forge.opens(&repo, 4, "main", &asked, true);
    forge.answer_questions(Some(403));
    server.restart();
    let build = passes(&forge, &server, &head);
    assert_eq!(build["title"], Value::Null, "nobody could be asked for it");
    server.looked(1);
    let health = sweep_of(&server);
    let detail = health["detail"].as_str().expect("words");
    assert!(health["ok"] == true && detail.contains("without pull requests of 1, github/acme/shop"), "{health}");
    assert!(detail.contains("without failed deliveries (which takes a token with"), "{health}");

    forge.answer_questions(None);
    server.signal(Signal::HUP);
    assert_eq!(swept(&forge, &server, &asked)["state"], "waiting");
    server.looked(2);
    assert!(!sweep_of(&server)["detail"].to_string().contains("without"), "{}", sweep_of(&server));
    let id = builds_of(&server, &asked)[0]["id"].as_i64().expect("a number");
    assert_eq!(server.post(&format!("/api/v1/builds/{id}/cancel"), "").code, 202);
    forge.finish();
}

#[test]
fn a_forge_whose_git_is_away_is_asked_again_when_somebody_says_so() {
    let forge = Forge::start();
    let repo = forge.repo("acme/shop");
    let mut server = Server::start_with(&forge, sweeping());
    server.finished(server.deliver(&repo.pushed(&repo.push("main", NO_OP))).build());
    assert_eq!(server.stop(), Some(0));
    let head = repo.push("main", &[("a", "x")]).after;
    forge.git.behave(Behaviour::Status(503));
    server.restart();
    let health = forge.wait(
        || Some(sweep_of(&server)).filter(|health| health["ok"] == false),
        || format!("nothing is wrong: {}", sweep_of(&server)),
    );
    assert!(health["detail"].to_string().contains("1 of 1 repositories can't be asked, gitea/acme/shop: "), "{health}");
    assert_eq!(server.get("/readyz").code, 200, "deliveries can be taken all the same");
    forge.git.behave(Behaviour::Serve);
    server.signal(Signal::HUP);
    passes(&forge, &server, &head);
    server.looked(1);
    assert_eq!(sweep_of(&server)["ok"], true);
    forge.finish();
}

#[test]
fn many_pull_requests_are_read_page_by_page_and_once() {
    let forge = Forge::start();
    let repo = forge.repo("acme/shop");
    let mut server = Server::start_with(&forge, Settings { slots: 0, ..sweeping() });
    let main = server.deliver(&repo.pushed(&repo.push("main", NO_OP))).build();
    server.looked(1);
    assert_eq!(server.stop(), Some(0));
    let opened: Vec<String> = (1..=7)
        .map(|number| {
            repo.git(&["commit", "-q", "--allow-empty", "-m", "of eve"]);
            let head = repo.push_head(&format!("refs/pull/{number}/head")).after;
            forge.opens(&repo, number, "main", &head, true);
            head
        })
        .collect();
    server.restart();
    let builds: Vec<Value> = opened.iter().map(|head| swept(&forge, &server, head)).collect();
    assert!(builds.iter().all(|build| build["state"] == "waiting"), "{builds:#?}");
    server.looked(1);
    server.signal(Signal::HUP);
    server.looked(2);
    assert_eq!(server.builds().len(), 8);
    for number in 1..=7 {
        forge.closes(&repo, number);
    }
    server.signal(Signal::HUP);
    for build in &builds {
        server.finished(build["id"].as_i64().expect("a number"));
    }
    assert_eq!(server.post(&format!("/api/v1/builds/{main}/cancel"), "").code, 202);
    forge.finish();
}

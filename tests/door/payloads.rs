//! Every recorded delivery of GitHub and Gitea, through the real router over HTTP: each gets its answer.

use hookmill::domain::event::Event;
use hookmill::web::hook::Taken;

use crate::support::door::{Door, Recorded, forges, recorded};

const CONFIG: &str = r#"
[[forge]]
name = "github"
kind = "github"
web_url = "https://github.example"
token = "token-of-the-tests"
hook_secret = "It's a Secret to Everybody"

[[forge]]
name = "gitea"
kind = "gitea"
web_url = "https://gitea.example"
token = "token-of-the-tests"
hook_secret = "s3cret-Gitea!"

[[forge]]
name = "forms"
kind = "gitea"
web_url = "https://forms.example"
token = "token-of-the-tests"
hook_secret = "formsecret"

[[repo]]
forge = "github"
name = "Codertocat/*"
hook_secret = "It's a Secret to Everybody"

[[repo]]
forge = "gitea"
name = "ci/app"
hook_secret = "s3cret-Gitea!"
"#;

/// What a delivery must become, in one word and the ref that it is about.
fn meaning(taken: &Taken) -> String {
    match &taken.heard.event {
        Event::Push(push) => format!("push {}", push.git_ref),
        Event::Deleted { git_ref, .. } => format!("deleted {git_ref}"),
        Event::PullRequest(pull) => format!("pull {} {} fork={}", pull.number, pull.git_ref, pull.fork),
        Event::PullRequestClosed { number, git_ref, fork } => format!("closed {number} {git_ref} fork={fork}"),
        Event::Ignored { because } => {
            assert!(!because.is_empty());
            "ignored".to_owned()
        }
    }
}

fn github(name: &str) -> &'static str {
    match name {
        "push.5" | "push.6" => "push refs/heads/master",
        "push" => "push refs/tags/simple-tag",
        "push.2" | "push.3" | "push.4" | "push.7" => "deleted refs/tags/simple-tag",
        _ if ["opened", "reopened", "synchronize"].iter().any(|action| is_pull_request(name, action)) => {
            "pull 2 refs/heads/changes fork=false"
        }
        _ if is_pull_request(name, "closed") => "closed 2 refs/heads/changes fork=false",
        _ => "ignored",
    }
}

/// `pull_request.opened` and `pull_request.opened.2`, but not `pull_request.opened_otherwise`.
fn is_pull_request(name: &str, action: &str) -> bool {
    name.strip_prefix("pull_request.")
        .and_then(|rest| rest.strip_prefix(action))
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

fn gitea(name: &str) -> &'static str {
    match &name[..2] {
        "02" | "21" => "push refs/heads/main",
        "04" | "06" | "08" => "push refs/heads/feature/a",
        "15" => "push refs/heads/gone",
        "19" => "push refs/heads/many",
        "10" => "push refs/tags/v1",
        "12" | "13" => "deleted refs/tags/v1",
        "17" => "deleted refs/heads/gone",
        "05" | "07" | "09" => "pull 1 refs/heads/feature/a fork=false",
        "20" => "closed 1 refs/heads/feature/a fork=false",
        _ => "ignored",
    }
}

/// Posts one and checks the answer against what it must mean.
async fn check(door: &Door, path: &str, delivery: &Recorded, id_header: &str, expected: &str) {
    let reply = door.post(path, &delivery.headers(), &delivery.body).await;
    let name = &delivery.name;
    let id = delivery.headers.iter().find(|header| header.0 == id_header).map(|header| header.1.as_str());
    let id = id.unwrap_or_else(|| panic!("{name} has no {id_header}"));
    let taken = door.taken().pop().unwrap_or_else(|| panic!("{name}: {reply:?}"));
    assert_eq!(meaning(&taken), expected, "{name}");
    assert_eq!(taken.delivery_id, id, "{name}");
    assert_eq!(taken.body_bytes, delivery.body.len(), "{name}");

    assert!(reply.head.contains("\r\ncontent-type: application/json"), "{name}: {}", reply.head);
    let json = reply.json();
    assert_eq!(json["delivery"], id, "{name}");
    let builds = expected.starts_with("push refs/heads/") || expected.starts_with("pull ");
    if builds && taken.rules.is_some() {
        assert_eq!((reply.status, &json["build"], json.get("ignored")), (202, &12.into(), None), "{name}");
    } else {
        assert_eq!((reply.status, &json["build"]), (200, &serde_json::Value::Null), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_github_delivery_is_understood() {
    let door = Door::open(CONFIG).await;
    let deliveries = recorded("github");
    assert_eq!(deliveries.len(), 329);
    let mut own_hook = 0;
    for delivery in &deliveries {
        let expected = github(&delivery.name);
        check(&door, "/hooks/github", delivery, "x-github-delivery", expected).await;
        // The repository's own hook, for what names that repository.
        let json: serde_json::Value = serde_json::from_slice(&delivery.body).expect("JSON");
        if json["repository"]["full_name"] == "Codertocat/Hello-World" {
            check(&door, "/hooks/github/codertocat/hello-world", delivery, "x-github-delivery", expected).await;
            own_hook += 1;
        }
    }
    assert!(own_hook > 200, "{own_hook}");
    assert_eq!(door.refusals.list(), []);
    door.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_gitea_delivery_is_understood() {
    let door = Door::open(CONFIG).await;
    let deliveries = recorded("gitea");
    assert_eq!(deliveries.len(), 22);
    for delivery in &deliveries {
        for path in ["/hooks/gitea", "/hooks/gitea/ci/app"] {
            check(&door, path, delivery, "x-gitea-delivery", gitea(&delivery.name)).await;
        }
    }
    door.close().await;
}

#[tokio::test]
async fn a_gitea_push_says_all_that_a_build_needs() {
    let door = Door::open(CONFIG).await;
    let deliveries = recorded("gitea");
    let push = deliveries.iter().find(|delivery| delivery.name == "02-push").expect("recorded");
    door.post("/hooks/gitea/ci/app", &push.headers(), &push.body).await;
    let taken = door.taken().pop().expect("taken");
    let Event::Push(heard) = taken.heard.event else { panic!("not a push") };
    assert_eq!(heard.before, None, "the branch was made");
    assert_eq!(heard.after.as_str(), "c541b39be6c005a573adb33a1483101d01cf4621");
    assert_eq!(heard.title.as_deref(), Some("first: ünïcödé \"quotes\" & <tags> 🚀"));
    assert_eq!(heard.author.as_deref(), Some("ci"));
    assert!(!heard.skip_ci && !heard.forced);
    assert_eq!(taken.heard.default_branch.as_deref(), Some("main"));
    assert_eq!(taken.event_name, "push");
    assert_eq!(taken.repo.map(|repo| repo.to_string()).as_deref(), Some("gitea/ci/app"));
    // Never from the payload, which says 127.0.0.1:3300.
    let rules = taken.rules.expect("configured");
    assert_eq!(rules.clone_url.host_str(), Some("gitea.example"));
    door.close().await;
}

#[tokio::test]
async fn a_repository_that_is_taken_out_is_unknown_on_its_hook_and_ignored_on_the_forges() {
    let door = Door::open(CONFIG).await;
    let push = recorded("gitea").remove(1);
    check(&door, "/hooks/gitea/ci/app", &push, "x-gitea-delivery", gitea(&push.name)).await;
    let without = CONFIG.replace("name = \"ci/app\"", "name = \"ci/other\"");
    door.forges.send_replace(forges(&without));
    assert_eq!(door.post("/hooks/gitea/ci/app", &push.headers(), &push.body).await.status, 401);
    assert!(door.taken().is_empty());
    check(&door, "/hooks/gitea", &push, "x-gitea-delivery", gitea(&push.name)).await;
    door.close().await;
}

#[tokio::test]
async fn a_gitea_form_is_not_taken_since_its_signature_is_over_something_else() {
    let door = Door::open(CONFIG).await;
    let deliveries = recorded("gitea-form");
    assert_eq!(deliveries.len(), 1);
    let reply = door.post("/hooks/forms", &deliveries[0].headers(), &deliveries[0].body).await;
    assert_eq!((reply.status, &reply.json()["error"]["code"]), (415, &"unsupported_media_type".into()));
    assert!(door.taken().is_empty());
    door.close().await;
}

//! What is not built where a layer is missing, and who says so.

use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use hookmill::confine::Layers;
use hookmill::domain::outcome::Outcome;
use hookmill::domain::trust::Trust;
use hookmill::runner::{Stop, Tell, build as steps};
use serde_json::Value;

use crate::support::forge::Forge;
use crate::support::machine::script;
use crate::support::runner::{job_of, parts_in};
use crate::support::server::{EXE, Server, Settings};

/// A fork's build with what [`Layers::none`] gives; the word on it.
#[tokio::test]
async fn a_forks_build_does_not_run_without_the_core() {
    let dir = tempfile::tempdir().expect("a folder");
    let (source, data) = (dir.path().join("source"), dir.path().join("data"));
    std::fs::create_dir_all(&data).and_then(|()| std::fs::create_dir_all(&source)).expect("folders");
    let mark = dir.path().join("it-ran");
    let file = script(&format!("touch {}", mark.display()));
    std::fs::write(source.join(".hookmill.toml"), file).expect("a file");
    let mut parts = parts_in(&data, None).await;
    parts.layers = Arc::new(Layers::none("[sandbox] require = \"none\"").on(&data));
    for (trust, outcome) in [(Trust::Fork, Outcome::Broken), (Trust::Member, Outcome::Passed)] {
        let (tell, mut happenings) = Tell::channel();
        let (job, stop) = (job_of(&source, trust), Stop::new());
        let hear = async { while happenings.recv().await.is_some() {} };
        let (built, ()) = tokio::join!(steps::build(&job, &parts, 0, tell, &stop), hear);
        assert_eq!(built.verdict.outcome, outcome, "{:?}", built.verdict);
        assert_eq!(mark.exists(), trust == Trust::Member);
        if trust == Trust::Fork {
            let said = "Not your commit: this agent runs no fork's build without user namespaces ([sandbox] require = \
                        \"none\")";
            assert_eq!(built.verdict.reason, said);
        }
    }
}

#[test]
fn full_builds_nothing_where_a_layer_is_missing() {
    let forge = Forge::start();
    let tables = "[sandbox]\nrequire = \"full\"\n".to_owned();
    let server = Server::start_with(&forge, Settings { tables, ..crate::fence::plain() });
    let repo = forge.repo("acme/shop");
    let moved = repo.push("main", &[(".hookmill.toml", &script("true"))]);
    let id = server.deliver(&repo.pushed(&moved)).build();
    let build = server.finished(id);
    let sandbox = server.get("/readyz").json()["parts"]["sandbox"].clone();
    if sandbox["ok"] == true {
        assert_eq!(build["outcome"], "passed", "{build:#}");
        eprintln!("NOT TRIED: this host has every layer: {sandbox}");
        return;
    }
    let detail = sandbox["detail"].as_str().expect("words");
    let lacks = detail.split_once("; ").expect("a name, and what is missing").1;
    assert!(lacks.starts_with("[sandbox] require = \"full\", and this agent has no "), "{detail}");
    assert_eq!(build["outcome"], "broken", "{build:#}");
    let reason = build["reason"].as_str().expect("a reason");
    assert!(reason.starts_with("Not your commit: [sandbox] require = \"full\", and this agent"), "{reason}");
    assert!(server.log_text().contains("NO BUILD WILL RUN"), "{}", server.log_text());
    assert_eq!(forge.final_status(&moved.after, "hookmill").state, "error");
    forge.finish();
}

/// `doctor` with these lines as its configuration, by a shell that may take something away before.
fn doctor(before: &str, tables: &str) -> (Option<i32>, Value) {
    let dir = tempfile::tempdir().expect("a folder");
    std::fs::write(dir.path().join("hookmill.toml"), tables).expect("written");
    let run = |shell: &mut Command| -> Output {
        shell.current_dir(dir.path()).env_remove("HOOKMILL_CONFIG").stdin(Stdio::null()).output().expect("runs")
    };
    let script = format!("{before} exec {EXE} doctor --json");
    let told = match before {
        "" => run(Command::new("sh").args(["-c", &script])),
        _ => run(Command::new("unshare").args(["-Urm", "sh", "-c", &script])),
    };
    let text = String::from_utf8_lossy(&told.stdout);
    let document = serde_json::from_str(&text);
    let document = document.unwrap_or_else(|error| panic!("{error}: {text}{}", String::from_utf8_lossy(&told.stderr)));
    (told.status.code(), document)
}

fn layer<'a>(document: &'a Value, name: &str) -> &'a Value {
    let all = document["findings"].as_array().expect("a list").iter();
    let mut found = all.filter(|one| one["group"] == "sandbox" && one["name"] == name);
    found.next().unwrap_or_else(|| panic!("no {name}: {document:#}"))
}

/// Whether this host has user namespaces to take away.
fn has_namespaces() -> bool {
    let works = Command::new("unshare").args(["-Urm", "true"]).status().is_ok_and(|status| status.success());
    if !works {
        eprintln!("NOT TRIED: this host has no user namespaces");
    }
    works
}

#[test]
fn doctor_names_each_layer_with_its_fix() {
    let (_, document) = doctor("", "");
    for name in [
        "user namespaces",
        "bubblewrap",
        "network namespaces",
        "proxy",
        "overlay",
        "landlock",
        "seccomp",
        "control groups",
    ] {
        let one = layer(&document, name);
        assert!(one["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{one}");
        assert_eq!(one["state"] == "good", one["fix"].is_null(), "{one}");
    }
}

#[test]
fn a_host_without_user_namespaces_is_a_fault_unless_none_are_wanted() {
    if !has_namespaces() {
        return;
    }
    let none = "echo 0 > /proc/sys/user/max_user_namespaces;";
    let (code, document) = doctor(none, "");
    let userns = layer(&document, "user namespaces");
    assert_eq!((code, &userns["state"]), (Some(1), &"fault".into()), "{document:#}");
    assert!(userns["detail"].as_str().is_some_and(|why| why.contains("no fork's build is run")), "{userns}");
    let fix = userns["fix"].as_str().expect("a fix");
    for word in ["apparmor", "deploy/pod.yaml", "systempaths=unconfined", "user.max_user_namespaces"] {
        assert!(fix.to_lowercase().contains(word), "{word}: {fix}");
    }
    let behind = layer(&document, "landlock").clone();
    assert!(behind["state"] != "good" || behind["detail"].to_string().contains("the machine's programs"), "{behind}");
    let (code, document) = doctor(none, "[sandbox]\nrequire = \"none\"\n");
    assert_eq!(code, Some(0), "{document:#}");
    assert_eq!(layer(&document, "landlock")["detail"], behind["detail"], "the same without being asked for more");
}

/// As in a container: parts of `/proc` are covered, and the kernel lets nobody mount a fresh one.
#[test]
fn a_covered_proc_is_told_with_the_option_that_uncovers_it() {
    if !has_namespaces() {
        return;
    }
    let (code, document) = doctor("mount --bind /dev/null /proc/uptime || exit 9;", "");
    let userns = layer(&document, "user namespaces");
    assert_eq!(code, Some(1), "{document:#}");
    assert!(userns["fix"].as_str().is_some_and(|fix| fix.starts_with("parts of /proc are covered")), "{document:#}");
    assert!(userns["detail"].as_str().is_some_and(|why| why.contains("mount a fresh /proc")), "{document:#}");
}

#[test]
fn full_makes_every_missing_layer_a_fault() {
    let (code, document) = doctor("", "[sandbox]\nrequire = \"full\"\n");
    let all = document["findings"].as_array().expect("a list").iter().filter(|one| one["group"] == "sandbox");
    let states: Vec<&str> = all.map(|one| one["state"].as_str().expect("a state")).collect();
    assert!(!states.contains(&"warning"), "{document:#}");
    assert_eq!(states.contains(&"fault"), code == Some(1), "{document:#}");
}

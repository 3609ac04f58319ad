//! Steps in another root file system: a real server, real npm and webpack, and a root made of what this machine has.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use hookmill::config::root::Root;
use hookmill::confine::Layers;
use hookmill::domain::outcome::Outcome;
use hookmill::runner::{Stop, Tell, build as steps};
use hookmill::toolchain::Toolchain;

use crate::support::forge::Forge;
use crate::support::machine::script;
use crate::support::roots::{self, ONLY_HERE, ONLY_HERE_SAYS};
use crate::support::runner::{job_of, parts_in};
use crate::support::server::{Server, Settings, step};

const MANIFEST: &str = r#"{"name": "shop", "version": "1.0.0", "private": true, "scripts": {"build": "webpack"},
  "devDependencies": {"webpack": "5.99.9", "webpack-cli": "6.0.1"}}"#;
const WEBPACK: &str = "module.exports = { mode: 'production', entry: './src/index.js' };\n";

/// Says what it sees of either root, and tries to change the one that it is in.
const LOOK: &str = r#"
echo "== programs"; only-in-the-root; ls /usr/bin; ls /usr/share /lib/modules 2>&1; which bwrap 2>&1; ls / /etc
echo "== others"; ls /proc/1/root/usr/share /steps /ours /proc/1/root/ours 2>&1; cat /root/letter
echo "== itself"; for f in /usr/x /etc/passwd /x /root/letter /var/x /dev/x; do (: > $f) 2>&1; done; rm /usr/bin/ls 2>&1
echo "== set-uid"; /usr/bin/id-as-owner -u
"#;

/// The lockfile of [`MANIFEST`], by the npm of this machine.
fn lockfile() -> String {
    let dir = tempfile::tempdir().expect("a folder");
    std::fs::write(dir.path().join("package.json"), MANIFEST).expect("a file");
    let npm = Command::new("npm")
        .args(["install", "--package-lock-only", "--no-audit", "--no-fund", "--cache", "cache"])
        .current_dir(dir.path())
        .stdin(Stdio::null())
        .output()
        .expect("npm is installed");
    assert!(npm.status.success(), "{}", String::from_utf8_lossy(&npm.stderr));
    std::fs::read_to_string(dir.path().join("package-lock.json")).expect("it wrote it")
}

/// Whether this host has a fence.
fn is_confined(server: &Server) -> bool {
    let name = server.get("/readyz").json()["parts"]["sandbox"]["detail"].as_str().expect("a name").to_owned();
    if name.starts_with("NONE") {
        eprintln!("NOT TRIED, this host has no fence: {name}");
        return false;
    }
    true
}

#[test]
fn real_tools_run_in_a_root_that_is_not_this_machines() {
    let root = roots::with_node();
    let id = root.path().join("usr/bin/id-as-owner");
    std::fs::copy(root.path().join("usr/bin/id"), &id).expect("copied");
    std::fs::set_permissions(&id, std::os::unix::fs::PermissionsExt::from_mode(0o4755)).expect("set");
    let shown = root.path().display();
    let forge = Forge::start();
    let tables = format!("[sandbox]\nroot = \"{shown}\"\n");
    let server = Server::start_with(&forge, Settings { tables, ..crate::fence::plain() });
    if !is_confined(&server) {
        return;
    }
    let repo = forge.repo("acme/shop");
    let look = format!("[[check]]\nname = \"look\"\ncommand = [\"sh\", \"-c\", {}]\n", serde_json::json!(LOOK));
    let lockfile = lockfile();
    let files = [
        ("package.json", MANIFEST),
        ("package-lock.json", &lockfile),
        ("webpack.config.js", WEBPACK),
        ("src/index.js", "console.log('shop');\n"),
        (".hookmill.toml", &look),
    ];
    let first = server.deliver(&repo.pushed(&repo.push("main", &files))).build();
    let build = server.finished(first);
    let log = server.log(first, "");
    assert_eq!(build["outcome"], "passed", "{build:#}\n{log}\n{}", server.log_text());
    let line = build["sandbox"].as_str().expect("a line");
    assert!(line.ends_with(&format!(", root {shown} (Test Root 1)")), "{line}");
    let log = server.log(first, "look");
    let part = |name: &str| {
        let (_, rest) = log.split_once(&format!("== {name}\n")).unwrap_or_else(|| panic!("no {name}: {log}"));
        rest.split("\n== ").next().expect("a part").to_owned()
    };
    let programs = part("programs");
    assert!(programs.starts_with(ONLY_HERE_SAYS), "{programs}");
    assert!(programs.contains("cannot access '/usr/share'"), "this machine's are not there: {programs}");
    assert!(!programs.contains("bwrap\n"), "{programs}");
    let others = part("others");
    assert_eq!(others.matches("cannot access").count(), 4, "{others}");
    assert!(others.ends_with("of the root's own"), "{others}");
    assert_eq!(part("itself").matches("Read-only file system").count(), 7, "{}", part("itself"));
    assert_eq!(part("set-uid").trim(), "1000");

    // What was installed there is found again, as long as it is the same root.
    server.wait_for(first, |build| build["kept"].as_array().is_some_and(|kept| !kept.is_empty()));
    let second = server.deliver(&repo.pushed(&repo.push("main", &[("src/index.js", "console.log(2);\n")]))).build();
    let build = server.finished(second);
    assert_eq!((&build["outcome"], &step(&build, "npm")["cache"]), (&"passed".into(), &"hit".into()), "{build:#}");
    roots::script(root.path(), "installed-since", "echo new");
    let third = server.deliver(&repo.pushed(&repo.push("main", &[("src/index.js", "console.log(3);\n")]))).build();
    let build = server.finished(third);
    assert_eq!((&build["outcome"], &step(&build, "npm")["cache"]), (&"passed".into(), &"miss".into()), "{build:#}");
    let page = server.get(&format!("/builds/{third}")).body;
    assert!(page.contains("root file system"), "{page}");

    // Whoever watches the server hears of it before the next build does.
    let sandbox = || server.get("/readyz").json()["parts"]["sandbox"].clone();
    let detail = sandbox()["detail"].to_string();
    assert!(detail.contains(&format!(", root {shown} (Test Root 1)")), "{detail}");
    let aside = root.path().with_extension("aside");
    std::fs::rename(root.path(), &aside).expect("moved");
    let part = sandbox();
    let words = format!("; {shown} is not a directory; none of its builds is run");
    assert!(part["ok"] == false && part["detail"].to_string().contains(&words), "{part}");
    assert_eq!(server.get("/readyz").code, 200, "hooks are taken");
    std::fs::rename(&aside, root.path()).expect("moved back");
    forge.finish();
}

#[test]
fn a_repository_has_its_own_root_or_this_machines() {
    let (one, other) = (roots::with_node(), roots::with_node());
    roots::script(other.path(), ONLY_HERE, "echo the other one");
    let forge = Forge::start();
    let tables = format!(
        "[sandbox]\nroot = \"{}\"\n\n[[repo]]\nforge = \"gitea\"\nname = \"acme/own\"\nroot = \"{}\"\n\n\
         [[repo]]\nforge = \"gitea\"\nname = \"acme/machine\"\nroot = \"\"\n",
        one.path().display(),
        other.path().display()
    );
    let server = Server::start_with(&forge, Settings { tables, ..crate::fence::plain() });
    if !is_confined(&server) {
        return;
    }
    for (name, said) in [("acme/shop", ONLY_HERE_SAYS), ("acme/own", "the other one"), ("acme/machine", "none")] {
        let repo = forge.repo(name);
        let file = script(&format!("{ONLY_HERE} || echo none"));
        let id = server.deliver(&repo.pushed(&repo.push("main", &[(".hookmill.toml", &file)]))).build();
        let build = server.finished(id);
        assert_eq!(build["outcome"], "passed", "{build:#}\n{}", server.log(id, ""));
        assert!(server.log(id, "bundle").ends_with(&format!("{said}\n")), "{name}: {}", server.log(id, "bundle"));
    }
    forge.finish();
}

#[tokio::test]
async fn without_a_fence_nothing_runs_on_this_machine_instead() {
    let root = roots::with_node();
    let dir = tempfile::tempdir().expect("a folder");
    let (source, data) = (dir.path().join("source"), dir.path().join("data"));
    std::fs::create_dir_all(&data).and_then(|()| std::fs::create_dir_all(&source)).expect("folders");
    let mark = dir.path().join("it-ran");
    std::fs::write(source.join(".hookmill.toml"), script(&format!("touch {}", mark.display()))).expect("a file");
    let mut parts = parts_in(&data, None).await;
    parts.layers = Arc::new(Layers::none("a test asks for none").on(&data));
    let mut job = job_of(&source, hookmill::domain::trust::Trust::Trusted);
    job.root = Some(Root::open(root.path().to_owned()).expect("a root"));
    let (tell, mut happenings) = Tell::channel();
    let unheard = async { while happenings.recv().await.is_some() {} };
    let stop = Stop::new();
    let (built, ()) = tokio::join!(steps::build(&job, &parts, 0, tell, &stop), unheard);
    assert_eq!(built.verdict.outcome, Outcome::Broken);
    assert!(built.verdict.reason.contains("steps can't be shut into"), "{}", built.verdict.reason);
    assert!(!mark.exists());
}

#[tokio::test]
async fn tools_are_those_of_the_root() {
    let root = roots::with_node();
    // Only there, and started only there: on this machine it would have to be found by this very path.
    roots::script(root.path(), "git", "test -e /usr/bin/only-in-the-root && echo git version 9.9.9");
    let dir = tempfile::tempdir().expect("a folder");
    let parts = parts_in(dir.path(), None).await;
    if parts.layers.mode() == hookmill::confine::Mode::Bare {
        eprintln!("NOT TRIED, this host has no fence: {}", parts.layers.name());
        return;
    }
    let opened = Root::open(root.path().to_owned()).expect("a root");
    let visit = hookmill::confine::Visit::begin(&parts.exe, &parts.layers, dir.path(), root.path()).await;
    let visit = visit.expect("it is entered");
    let host = Arc::new(Toolchain::default());
    let path = std::env::var_os("PATH").expect("set");
    let tools = Toolchain::look_in(&opened, &visit, &path, host).await;
    visit.end().await;
    let version = |name: &str| tools.get(name).and_then(|tool| tool.version.clone());
    assert_eq!(version("git").as_deref(), Some("9.9.9"));
    assert!(version("node").is_some_and(|version| version.contains('.')) && version("npm").is_some(), "{tools:#?}");
    assert_eq!(tools.get("npm").map(|tool| tool.path.as_path()), Some(Path::new("/usr/bin/npm")));
    assert!(tools.get("bower").is_none() && tools.readable().is_empty());
    let missing = tools.require("yarn").expect_err("not there").to_string();
    assert!(missing.starts_with(&format!("yarn is not installed in the root {}", root.path().display())), "{missing}");
    assert_eq!(std::fs::read_dir(dir.path()).expect("a folder").count(), 0, "the visit leaves nothing");
}

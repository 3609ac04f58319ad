//! Who is given a secret, and that nobody sees it.

use std::fs;
use std::process::{Command, Stdio};

use rustix::process::Signal;
use serde_json::Value;
use sqlx::Connection as _;
use tempfile::TempDir;

use crate::secrets::reach::{PLANTED, found_only_what_was_planted, probe};
use crate::secrets::traces::nowhere;
use crate::support::forge::{Forge, Repo};
use crate::support::server::{ADMIN, EXE, Server, Settings, step};

const TOKEN: &str = "canary-5b7f/api+9d2e:token";
const KEY: &str = "-----BEGIN KEY-----\ncanary-line-one-8c41\ncanary-line-two-77e0\n-----END KEY-----";
const LINES: [&str; 2] = ["canary-line-one-8c41", "canary-line-two-77e0"];
const SENTRY: &str = "canary-sentry-1f06-credential";

const PACKAGE: &str = r#"{"name": "shop", "version": "1.0.0", "private": true, "scripts": {"postinstall": "node spy.js"},
  "devDependencies": {"webpack": "5.99.9", "webpack-cli": "6.0.1"}}"#;

/// Says which secrets it was given, and writes each as people do who do not mean to.
const SPY: &str = r#"
const fs = require('fs');
for (const name of ['API_TOKEN', 'DEPLOY_KEY', 'SENTRY', 'LOST']) {
  const value = process.env[name];
  console.log(`${name} ${value === undefined ? 'is not there' : 'has ' + value.length}`);
  if (!value) continue;
  console.log(`${name}=${value}`);
  for (const before of ['', 'x', 'xy', 'user:'])
    for (const form of ['base64', 'base64url', 'hex']) console.log(Buffer.from(before + value + '\n').toString(form));
  console.log(Buffer.from(value).toString('base64'), encodeURIComponent(value), encodeURI(value));
  console.log(new URLSearchParams({ [name]: value }).toString(), JSON.stringify({ value }), process.env);
  for (const byte of Buffer.from(value)) fs.writeSync(1, Buffer.from([byte]));
  if (!process.argv[2]) continue;
  // A prompt is not held back for so long; what may be half of a secret is.
  fs.writeSync(1, '\n' + value.slice(0, 12));
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 400);
  fs.writeSync(1, value.slice(12) + '\n');
}
"#;

const WEBPACK_CONFIG: &str = r#"
require('./spy.js');
const fs = require('fs');
const kept = 'node_modules/.cache/spy/left';
console.log('left behind: ' + (fs.existsSync(kept) ? 'something' : 'nothing'));
fs.mkdirSync('node_modules/.cache/spy', { recursive: true });
fs.writeFileSync(kept, process.env.API_TOKEN);
if (fs.existsSync('break')) {
  console.log('ERROR in ./src/index.js 1:1\nModule not found: Error: Can\'t resolve \'./' + process.env.API_TOKEN + '\' in \'/build/src\'\n');
  process.exit(1);
}
module.exports = { mode: 'production', entry: './src/index.js' };
"#;

const FILE: &str = "[cache]\ninputs = [\"spy.js\"]\n\
                    [[check]]\nname = \"lint\"\ncommand = [\"node\", \"spy.js\", \"slowly\"]\n";

/// Secrets of each form, on a disk of their own.
struct Given {
    folder: TempDir,
    forge: Forge,
    server: Server,
    repo: Repo,
}

impl Given {
    fn start() -> Given {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("key"), format!("{KEY}\n")).expect("written");
        fs::write(folder.path().join("sentry"), SENTRY).expect("written");
        let secrets = format!(
            "[[repo.secret]]\nname = \"API_TOKEN\"\nvalue_env = \"CANARY\"\nsteps = [\"bundle\", \"lint\"]\n\
             branches = [\"main\", \"release/*\"]\n\
             [[repo.secret]]\nname = \"DEPLOY_KEY\"\nvalue_file = {:?}\n\
             [[repo.secret]]\nname = \"SENTRY\"\ncredential = \"sentry\"\nsteps = [\"bundle\"]\n\
             [[repo.secret]]\nname = \"LOST\"\nvalue = \"canary-of-no-step\"\nsteps = [\"bundel\"]\n",
            folder.path().join("key")
        );
        let forge = Forge::start();
        let env = [
            ("CANARY".to_owned(), TOKEN.to_owned()),
            ("CREDENTIALS_DIRECTORY".to_owned(), folder.path().display().to_string()),
        ];
        let settings = Settings { repo: secrets, env: env.to_vec(), ..Settings::default() };
        let server = Server::start_with(&forge, settings);
        let repo = forge.repo("acme/shop");
        Given { folder, forge, server, repo }
    }

    /// A lockfile: what is installed is kept, and only the first build runs npm.
    fn lock(&self) {
        self.repo.write(&[("package.json", PACKAGE)]);
        let args = ["install", "--package-lock-only", "--ignore-scripts", "--no-audit", "--no-fund"];
        let made = Command::new("npm").args(args).current_dir(&self.repo.work).stdin(Stdio::null()).output();
        let made = made.expect("npm is installed");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    }

    fn push(&self, branch: &str, files: &[(&str, &str)]) -> Value {
        let moved = self.repo.push(branch, files);
        self.ended(self.server.deliver(&self.repo.pushed(&moved)).build())
    }

    /// A build that ended, of which nothing shows a secret.
    fn ended(&self, id: i64) -> Value {
        let build = self.server.finished(id);
        nowhere(&[TOKEN, LINES[0], LINES[1], SENTRY, "canary-of-no-step"], &self.server, &self.forge, id);
        build
    }

    fn log(&self, build: &Value, step: &str) -> String {
        self.server.log(build["id"].as_i64().expect("a number"), step)
    }

    /// Which secret the audit knows to have been given to which step of which build.
    fn audited(&self) -> Vec<String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let mut audited = runtime.block_on(secrets_of_the_audit(&self.server));
        audited.sort();
        audited
    }

    #[track_caller]
    fn check(&self, build: &Value, step: &str, lines: &[String]) {
        let log = self.log(build, step);
        for line in lines {
            assert!(log.contains(line.as_str()), "{step} has no {line:?}:\n{log}\n{build:#}");
        }
    }
}

fn has(name: &str, value: &str) -> String {
    format!("{name} has {}\n", value.len())
}

/// Build, step and name of each secret that the audit knows to have been given.
async fn secrets_of_the_audit(server: &Server) -> Vec<String> {
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(server.data().join("hookmill.db")).read_only(true);
    let mut store = sqlx::SqliteConnection::connect_with(&options).await.expect("a store");
    let rows = sqlx::query_as::<_, (i64, String)>("SELECT build_id, act FROM audit WHERE act LIKE '%secret_given%'");
    let rows = rows.fetch_all(&mut store).await.expect("a table");
    let line = |(build, act): &(i64, String)| {
        let act: Value = serde_json::from_str(act).expect("JSON");
        format!("{build} {} {}", act["step"].as_str().expect("a step"), act["name"].as_str().expect("a name"))
    };
    rows.iter().map(line).collect()
}

#[test]
fn the_named_steps_of_the_named_branches_and_nobody_sees_it() {
    let given = Given::start();
    let files = [
        ("spy.js", SPY),
        ("webpack.config.js", WEBPACK_CONFIG),
        ("src/index.js", "console.log(1);\n"),
        (".hookmill.toml", FILE),
    ];
    given.lock();
    let build = given.push("main", &files);
    assert_eq!(build["outcome"], "passed", "{build:#}\n{}", given.log(&build, ""));
    let (token, key) = (has("API_TOKEN", TOKEN), has("DEPLOY_KEY", KEY));
    let none = |name: &str| has(name, "");
    given.check(&build, "bundle", &[token.clone(), key, has("SENTRY", SENTRY), none("LOST")]);
    given.check(&build, "lint", &[token.clone(), none("DEPLOY_KEY"), none("SENTRY")]);
    given.check(&build, "npm", &[none("API_TOKEN"), none("DEPLOY_KEY"), none("SENTRY")]);
    given.check(&build, "bundle", &["API_TOKEN=***\n".into(), "left behind: nothing".into(), "API_TOKEN=***".into()]);
    let page = given.server.get(&format!("/builds/{}", build["id"])).body;
    for words in ["given to bundle, lint", "no step sees the secret LOST", "the steps here are npm, bundle, lint"] {
        assert!(page.contains(words), "{words:?} is not on the page: {page}");
    }

    // Who reads the audit sees which step of which build knew what.
    let expected = ["bundle API_TOKEN", "bundle DEPLOY_KEY", "bundle SENTRY", "lint API_TOKEN"];
    assert_eq!(given.audited(), expected.map(|line| format!("{} {line}", build["id"])));

    let reason = given.push("main", &[("break", "")]);
    assert_eq!(reason["outcome"], "failed", "{reason:#}");
    let sentence = given.forge.final_status(reason["sha"].as_str().expect("a commit"), "hookmill").description;
    assert!(sentence.contains("***"), "{sentence}");
    assert!(step(&reason, "bundle")["reason"].as_str().is_some_and(|why| why.contains("***")), "{reason:#}");

    // What the bundle of main left behind holds its secret: builds that are given none do not find it.
    given.repo.git(&["rm", "-q", "break"]);
    let again = given.push("main", &[("src/index.js", "console.log(2);\n")]);
    given.check(&again, "bundle", &[token.clone(), "left behind: something".into()]);
    let feature = given.push("feature", &[("src/index.js", "console.log(3);\n")]);
    let nothing = [none("API_TOKEN"), none("DEPLOY_KEY"), none("SENTRY"), none("LOST"), "left behind: nothing".into()];
    given.check(&feature, "bundle", &nothing);
    given.check(&feature, "lint", &nothing[..3]);

    // The default branch is the default; a pattern names others.
    let release = given.push("release/1", &[("src/index.js", "console.log(4);\n")]);
    given.check(&release, "bundle", &[token, none("DEPLOY_KEY"), none("SENTRY")]);

    // A pull request of the repository's own, also from a branch that is named.
    let moved = given.repo.push("release/2", &[("src/index.js", "console.log(5);\n")]);
    let request = given.repo.pull_request("opened", 7, "release/2", &moved.after, false);
    let member = given.ended(given.server.deliver(&request).build());
    assert_eq!((&member["trust"], &member["outcome"]), (&"member".into(), &"passed".into()), "{member:#}");
    given.check(&member, "bundle", &nothing);

    // Exchanged: the next build has the new one, and that is hidden too.
    fs::write(given.folder.path().join("sentry"), "canary-the-next-one-40d1").expect("written");
    given.server.signal(Signal::HUP);
    given.forge.wait(
        || given.server.log_text().contains("configuration read again").then_some(()),
        || "it was not read again".to_owned(),
    );
    let exchanged = given.push("main", &[("src/index.js", "console.log(6);\n")]);
    given.check(&exchanged, "bundle", &[has("SENTRY", "canary-the-next-one-40d1"), "SENTRY=***\n".into()]);
    nowhere(&["canary-the-next-one-40d1"], &given.server, &given.forge, exchanged["id"].as_i64().expect("a number"));
    given.forge.finish();
}

/// A fork calls its branch as it likes and writes the scripts that run; a maintainer's word lets them run, and no more.
#[test]
fn a_pull_request_is_given_none_not_even_an_approved_one() {
    let given = Given::start();
    let (server, repo) = (&given.server, &given.repo);
    given.lock();
    let files = [
        ("spy.js", SPY),
        ("webpack.config.js", WEBPACK_CONFIG),
        ("src/index.js", "console.log(1);\n"),
        (".hookmill.toml", FILE),
    ];
    let main = given.push("main", &files);
    given.check(&main, "bundle", &[has("API_TOKEN", TOKEN)]);
    let audited = given.audited();
    assert_eq!(audited.len(), 4, "{audited:?}");

    let secrets = [TOKEN, LINES[0], LINES[1], SENTRY];
    let looks = format!("require('./probe.js');\n{WEBPACK_CONFIG}");
    repo.write(&[("probe.js", &probe(&secrets)), ("planted.txt", PLANTED), ("webpack.config.js", &looks)]);
    let sha = repo.commit("a change of eve's");
    repo.push_head("refs/pull/7/head");
    let request = server.deliver(&repo.pull_request("opened", 7, "main", &sha, true)).build();
    assert_eq!(server.build(request)["state"], "waiting");
    assert_eq!(server.post(&format!("/api/v1/builds/{request}/approve"), "").code, 202);
    repo.push_head("refs/heads/release/3");
    let member = server.deliver(&repo.pull_request("opened", 8, "release/3", &sha, false)).build();
    given.ended(request);
    let again = server.post(&format!("/api/v1/builds/{request}/rerun"), r#"{"cache":false}"#).build();

    let none = |name: &str| has(name, "");
    let nothing = [none("API_TOKEN"), none("DEPLOY_KEY"), none("SENTRY"), none("LOST"), "left behind: nothing".into()];
    for (id, trust, approved) in
        [(request, "fork", "admin".into()), (member, "member", Value::Null), (again, "fork", "admin".into())]
    {
        let build = given.ended(id);
        let of = (&build["trust"], &build["outcome"], &build["approved_by"]);
        assert_eq!(of, (&trust.into(), &"passed".into(), &approved), "{build:#}\n{}", given.log(&build, ""));
        given.check(&build, "bundle", &nothing);
        given.check(&build, "lint", &nothing[..3]);
        found_only_what_was_planted(&given.log(&build, "bundle"), trust);
    }
    // Nobody was given anything since; that eve's commit was approved is there.
    assert_eq!(given.audited(), audited);
    let told = Command::new(EXE)
        .args(["audit", "--server", &server.url()])
        .env("HOOKMILL_TOKEN", ADMIN)
        .output()
        .expect("it ran");
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    assert!(told.contains("approved commit") && told.contains("API_TOKEN") && !told.contains(TOKEN), "{told}");
    given.forge.finish();
}

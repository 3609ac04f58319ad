//! The main job: a push becomes installs side by side, a bundle and one final word at the forge.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::forge::{Forge, Kind, Moved, Repo, TOKEN, Trouble};
use crate::support::git_http::{Behaviour, GitServer};
use crate::support::server;
use crate::support::server::{Server, Settings, reaching, step};

const BUNDLE: &str = "[bundle]\ncommand = ['node', 'bundle.js']\n";
const NOTHING_TO_DO: &[(&str, &str)] = &[("README.md", "# Shop\n")];
const WEBPACK: &str = r#"{"name": "shop", "version": "1.0.0", "private": true,
  "devDependencies": {"webpack": "5.99.9", "webpack-cli": "6.0.1"}}"#;
const WEBPACK_CONFIG: &str = "module.exports = { mode: 'production', entry: './src/index.js' };\n";

/// Pushes a tree whose bundle is this script.
fn push(repo: &Repo, branch: &str, script: &str) -> Moved {
    repo.push(branch, &[(".hookmill.toml", BUNDLE), ("bundle.js", script)])
}

fn time<'s>(step: &'s Value, which: &str) -> &'s str {
    step[which].as_str().unwrap_or_else(|| panic!("no {which}: {step:#}"))
}

#[test]
fn npm_beside_bower_then_webpack_and_a_bundle_that_breaks() {
    let forge = Forge::start();
    let icons = forge.repo("acme/icons");
    icons.write(&[
        ("bower.json", r#"{"name": "icons", "main": "icons.js"}"#),
        ("icons.js", "export const cart = '#';\n"),
    ]);
    icons.commit("a component");
    icons.git(&["tag", "1.0.0"]);
    icons.push_head("refs/tags/1.0.0");
    let repo = forge.repo("acme/shop");
    let steps = Settings { tables: "[statuses]\nmode = \"steps\"".to_owned(), ..Settings::default() };
    let server = Server::start_with(&forge, steps);

    let address = format!("{}/acme/icons.git#1.0.0", forge.git.origin());
    let bower = json!({"name": "shop", "dependencies": {"icons": address}}).to_string();
    let moved = repo.push(
        "main",
        &[
            ("package.json", WEBPACK),
            ("bower.json", &bower),
            ("webpack.config.js", WEBPACK_CONFIG),
            ("src/index.js", "import { cart } from '../bower_components/icons/icons.js';\nconsole.log(cart);\n"),
        ],
    );
    let reply = server.deliver(&repo.pushed(&moved));
    assert_eq!(reply.json()["builds"], json!([reply.build()]));
    let build = server.finished(reply.build());
    assert_eq!(build["outcome"], "passed", "{build:#}\n{}", server.log(reply.build(), ""));
    let names: Vec<_> = build["steps"].as_array().expect("steps").iter().map(|step| step["name"].clone()).collect();
    assert_eq!(names, ["checkout", "npm", "bower", "bundle"]);

    let (npm, bower, bundle) = (step(&build, "npm"), step(&build, "bower"), step(&build, "bundle"));
    assert!(time(npm, "started_at") < time(bower, "finished_at"), "side by side: {build:#}");
    assert!(time(bower, "started_at") < time(npm, "finished_at"), "side by side: {build:#}");
    for install in [npm, bower] {
        assert!(time(bundle, "started_at") >= time(install, "finished_at"), "after both: {build:#}");
    }
    for (step, word) in [("npm", "added "), ("bower", "icons"), ("bundle", "compiled")] {
        let log = server.log(reply.build(), step);
        assert!(log.contains(word), "{step} without {word:?}: {log}");
    }

    let link = format!("{}/builds/{}?key=", server.url(), reply.build());
    for context in ["hookmill", "hookmill/npm", "hookmill/bower", "hookmill/bundle"] {
        let status = forge.final_status(&moved.after, context);
        assert_eq!(status.state, "success", "{status:?}");
        assert!(status.target_url.starts_with(&link), "{status:?}");
    }
    let word = forge.final_status(&moved.after, "hookmill").description;
    assert!(word.starts_with("Passed in ") && word.contains(" beside bower ") && word.contains(" · bundle "), "{word}");
    assert_eq!(forge.states_of(&moved.after), ["pending", "success"]);

    let broken = repo.push(
        "main",
        &[("src/index.js", "import { cart } from '../bower_components/icons/icons.js';\n\nimport price from './prices';\nconsole.log(cart, price);\n")],
    );
    let second = server.deliver(&repo.pushed(&broken)).build();
    let build = server.finished(second);
    assert_eq!((&build["outcome"], &step(&build, "bundle")["exit_code"]), (&json!("failed"), &json!(1)), "{build:#}");
    let status = forge.final_status(&broken.after, "hookmill");
    assert_eq!(status.state, "failure");
    for word in ["Bundle failed: ", "src/index.js:3", "Can't resolve './prices'"] {
        assert!(status.description.contains(word), "{word:?} in {:?}", status.description);
    }
    assert_eq!(forge.final_status(&broken.after, "hookmill/npm").state, "success");
    assert_eq!(forge.final_status(&broken.after, "hookmill/bundle").state, "failure");
    assert!(!server.log(second, "bundle").contains("trying again"), "the commit's own fault is final");
    forge.finish();
}

/// One install fails for good while the other waits for a server that never answers.
#[test]
fn a_conflict_of_versions_fails_at_once_and_stops_the_other_install() {
    let forge = Forge::start();
    let silent = GitServer::start(forge.dir.path());
    silent.behave(Behaviour::Hang);
    let repo = forge.repo("acme/shop");
    let server = Server::start_with(&forge, Settings { tables: reaching(&[silent.origin()]), ..Settings::default() });
    let bower = json!({"name": "shop", "dependencies": {"icons": format!("{}/icons.git#1.0.0", silent.origin())}});
    let package = json!({"name": "shop", "version": "1.0.0", "scripts": {"build": "node bundle.js"},
                         "dependencies": {"react": "19.1.0", "react-dom": "18.3.1"}});
    let moved = repo.push("main", &[("package.json", &package.to_string()), ("bower.json", &bower.to_string())]);
    let id = server.deliver(&repo.pushed(&moved)).build();
    let build = server.finished(id);
    assert_eq!(build["outcome"], "failed", "{build:#}");
    assert_eq!(step(&build, "npm")["outcome"], "failed", "{build:#}");
    assert_eq!(step(&build, "bower")["outcome"], "cancelled", "{build:#}");
    assert_eq!(step(&build, "bundle")["started_at"], Value::Null, "{build:#}");
    let log = server.log(id, "npm");
    assert!(log.contains("ERESOLVE") && !log.contains("trying again"), "{log}");

    let status = forge.final_status(&moved.after, "hookmill");
    assert_eq!(status.state, "failure");
    assert!(status.description.starts_with("npm install failed: ERESOLVE"), "{status:?}");
    forge.finish();
    assert_eq!(forge.states_of(&moved.after), ["pending", "failure"], "one final word");
}

#[test]
fn nothing_to_do_is_a_success_that_says_so() {
    let forge = Forge::start();
    let repo = forge.repo_of(Kind::Github, "acme/shop");
    let server = Server::start(&forge);
    let moved = repo.push("main", NOTHING_TO_DO);
    let build = server.deliver(&repo.pushed(&moved)).build();
    assert_eq!(server.finished(build)["outcome"], "passed");
    let status = forge.final_status(&moved.after, "hookmill");
    assert_eq!(status.state, "success");
    assert!(status.description.contains("nothing to install or bundle"), "{status:?}");
    forge.finish();
}

#[test]
fn a_repetition_without_caches_is_made_so_and_says_so() {
    let forge = Forge::start();
    let repo = forge.repo("acme/shop");
    let server = Server::start(&forge);
    let first = server.deliver(&repo.pushed(&repo.push("main", NOTHING_TO_DO))).build();
    assert_eq!(server.finished(first)["use_cache"], true);

    let token = server.data().join("token-of-this-test");
    std::fs::write(&token, server::ADMIN).expect("written");
    let hookmill = |words: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_hookmill"));
        command.arg("builds").args(words).arg("--server").arg(server.url()).arg("--token-file").arg(&token);
        let output = command.output().expect("started");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).expect("text")
    };
    let said = hookmill(&["rerun", &first.to_string(), "--no-cache"]);
    let again = said.strip_prefix("build ").and_then(|rest| rest.split(':').next()).expect("a number");
    let build = server.finished(again.parse().expect("a number"));
    assert_eq!(
        (&build["use_cache"], &build["rerun_of"], &build["outcome"]),
        (&json!(false), &json!(first), &json!("passed"))
    );
    assert!(hookmill(&["show", again]).contains("attempt 2, without caches"), "{}", hookmill(&["show", again]));
    let page = server.get(&format!("/builds/{again}")).body;
    assert!(page.contains(", without caches</dd>"), "{page}");
    forge.finish();
}

#[test]
fn a_strangers_pull_request_waits_and_runs_nothing() {
    let forge = Forge::start();
    let repo = forge.repo("acme/shop");
    let server = Server::start(&forge);
    repo.push("main", NOTHING_TO_DO);
    let propose = || {
        push(&repo, "main-of-eve", "require('fs').writeFileSync('/tmp/eve-was-here', '');\n");
        repo.git_bare(&["update-ref", "-d", "refs/heads/main-of-eve"]);
        repo.push_head("refs/pull/7/head").after
    };
    let first = propose();
    let opened = server.deliver(&repo.pull_request("opened", 7, "main", &first, true)).build();
    let build = server.build(opened);
    let seen = (&build["state"], &build["trust"], &build["ref"], &build["pull_request"]);
    assert_eq!(seen, (&json!("waiting"), &json!("fork"), &json!("refs/pull/7/head"), &json!(7)));
    let status = forge.status_in(&first, "pending");
    assert!(status.description.starts_with("Waiting for a maintainer"), "{status:?}");

    let second = propose();
    let moved = server.deliver(&repo.pull_request(repo.new_commits(), 7, "main", &second, true)).build();
    let old = server.finished(opened);
    assert_eq!((&old["outcome"], &old["superseded_by"]), (&json!("cancelled"), &json!(moved)), "{old:#}");
    assert!(forge.final_status(&first, "hookmill").description.starts_with("Superseded by "));

    forge.status_in(&second, "pending");
    let closed = server.deliver(&repo.pull_request("closed", 7, "main", &second, true));
    assert_eq!((closed.code, &closed.json()["cancelled"]), (200, &json!([moved])), "{closed:?}");
    let ended = server.finished(moved);
    assert_eq!(
        (&ended["outcome"], &ended["started_at"], &ended["steps"]),
        (&json!("cancelled"), &Value::Null, &json!([]))
    );
    let status = forge.final_status(&second, "hookmill");
    assert_eq!((status.state.as_str(), status.description.as_str()), ("error", "Cancelled: pull request 7 was closed"));
    assert!(forge.git.requests().is_empty(), "nothing of it was even fetched: {:?}", forge.git.requests());
    forge.finish();
}

#[test]
fn a_branch_may_be_called_anything_that_git_allows() {
    let forge = Forge::start();
    let repo = forge.repo("acme/shop");
    let server = Server::start(&forge);
    push(&repo, "main", "");
    for (number, branch) in
        ["--upload-pack=touch${IFS}x", "$(id)", "a;b", "<b>\"quoted\"</b>", "größe/日本"].into_iter().enumerate()
    {
        // A commit of its own, or it would be the same build as another's.
        let script = format!("console.log(`{number} branch=${{process.env.CI_BRANCH}}`);\n");
        let moved = push(&repo, branch, &script);
        let build = server.deliver(&repo.pushed(&moved)).build();
        assert_eq!(server.finished(build)["outcome"], "passed", "{branch}: {}", server.log(build, ""));
        assert_eq!(server.log(build, "bundle").trim(), format!("{number} branch={branch}"));
        assert_eq!(forge.final_status(&moved.after, "hookmill").state, "success");
    }
    forge.finish();
}

/// Prints the names of its environment, and every file below `.git` or HOME that holds the token.
const SPY: &str = r#"
const fs = require('fs'), path = require('path');
const token = [...process.argv[2]].reverse().join('');
const holds = (bytes) => [token, Buffer.from('x-access-token:' + token).toString('base64')]
  .some((secret) => bytes.includes(secret));
const walk = (folder) => fs.readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
  const place = path.join(folder, entry.name);
  if (entry.isDirectory()) return walk(place);
  return entry.isFile() && holds(fs.readFileSync(place)) ? [place] : [];
});
const places = [...walk('.git'), ...walk(process.env.HOME)];
const variables = Object.values(process.env).filter(holds);
const processes = fs.readdirSync('/proc').filter((name) => /^\d+$/.test(name)).filter((pid) =>
  ['cmdline', 'environ'].some((file) => { try {
    const text = fs.readFileSync(`/proc/${pid}/${file}`);
    return file === 'cmdline' ? holds(text) && +pid !== process.pid && !text.includes('bundle.js') : holds(text);
  } catch { return false; } }));
console.log(JSON.stringify({ names: Object.keys(process.env), places, variables, processes }));
"#;

#[test]
fn a_step_sees_no_token_and_only_the_documented_environment() {
    let forge = Forge::start();
    forge.git.behave(Behaviour::Auth("x-access-token".to_owned(), TOKEN.to_owned()));
    let repo = forge.repo("acme/shop");
    let of_the_operator = vec![("SECRET_OF_THE_OPERATOR".to_owned(), TOKEN.to_owned())];
    let server = Server::start_with(&forge, Settings { env: of_the_operator, ..Settings::default() });
    // Backwards, since the command itself is shown.
    let backwards: String = TOKEN.chars().rev().collect();
    let configuration = format!("[bundle]\ncommand = ['node', 'bundle.js', '{backwards}']\n");
    let moved = repo.push("main", &[(".hookmill.toml", &configuration), ("bundle.js", SPY)]);
    let id = server.deliver(&repo.pushed(&moved)).build();
    let build = server.finished(id);
    assert_eq!(build["outcome"], "passed", "{}", server.log(id, ""));
    assert!(forge.git.requests().iter().any(|asked| asked.authorization.is_some()), "the token was needed");

    let seen: Value = serde_json::from_str(server.log(id, "bundle").trim()).expect("the spy's word");
    assert_eq!((&seen["places"], &seen["variables"], &seen["processes"]), (&json!([]), &json!([]), &json!([])));
    let documented = |name: &str| {
        let exact = "PATH HOME USER SHELL LANG TZ TMPDIR TERM FORCE_COLOR CI CI_NAME HOOKMILL CI_EVENT CI_REPO CI_BRANCH \
                     CI_TAG CI_DEFAULT_BRANCH CI_COMMIT_SHA CI_BUILT_SHA CI_COMMIT_REF CI_PULL_REQUEST CI_BASE_BRANCH \
                     CI_TRUST CI_BUILD_ID CI_BUILD_URL SOURCE_DATE_EPOCH BUN_INSTALL_CACHE_DIR NODE_OPTIONS PWD";
        exact.split_whitespace().any(|one| one == name)
            || ["npm_config_", "YARN_", "COREPACK_", "bower_"].iter().any(|start| name.starts_with(start))
    };
    let names: Vec<&str> = seen["names"].as_array().expect("names").iter().filter_map(Value::as_str).collect();
    let others: Vec<_> = names.iter().filter(|name| !documented(name)).collect();
    assert!(others.is_empty(), "not documented: {others:?}");
    assert!(names.contains(&"CI_TRUST") && names.contains(&"HOOKMILL"), "{names:?}");
    for place in [server.log_text(), server.log(id, "checkout"), server.get(&format!("/builds/{id}")).body] {
        assert!(!place.contains(TOKEN), "{place}");
    }
    forge.finish();
}

#[test]
fn a_long_last_word_is_made_short() {
    let forge = Forge::start();
    let repo = forge.repo("acme/shop");
    let server = Server::start(&forge);
    let script = "throw new Error('first\\r\\n\\u001b[31msecond\\t' + 'ü'.repeat(4000) + '\\nlast\\u202e');\n";
    let moved = push(&repo, "main", script);
    let build = server.deliver(&repo.pushed(&moved)).build();
    assert_eq!(server.finished(build)["outcome"], "failed");
    // That it is one line of at most 140 characters is seen by the forge.
    let status = forge.final_status(&moved.after, "hookmill");
    assert_eq!(status.state, "failure");
    assert!(status.description.starts_with("Bundle failed: ") && status.description.contains("first"), "{status:?}");
    forge.finish();
}

#[test]
fn builds_go_on_while_the_forge_is_away_and_it_hears_everything_later_in_order() {
    let forge = Forge::start();
    let repo = forge.repo("acme/shop");
    let server = Server::start(&forge);
    forge.trouble(10_000, Trouble::Status(500));
    let moves: Vec<Moved> = (0..3).map(|number| push(&repo, "main", &format!("console.log({number});\n"))).collect();
    let builds: Vec<i64> = moves.iter().map(|moved| server.deliver(&repo.pushed(moved)).build()).collect();
    for build in builds {
        assert_eq!(server.finished(build)["outcome"], "passed");
    }
    assert_eq!(forge.statuses(), [], "nothing could be told yet");
    let asked = forge.posted().len();
    assert!(asked < 30, "{asked} requests to a forge that is away");

    forge.mend();
    for moved in &moves {
        forge.final_status(&moved.after, "hookmill");
        let states = forge.states_of(&moved.after);
        assert!(states == ["success"] || states == ["pending", "success"], "{states:?}");
    }
    forge.finish();
}

#[test]
fn a_forge_that_hangs_is_asked_again() {
    let forge = Forge::start();
    let repo = forge.repo("acme/shop");
    let server = Server::start(&forge);
    forge.trouble(1, Trouble::Hang);
    let moved = repo.push("main", NOTHING_TO_DO);
    let build = server.deliver(&repo.pushed(&moved)).build();
    assert_eq!(server.finished(build)["outcome"], "passed", "the build does not wait for it");
    assert_eq!(forge.final_status(&moved.after, "hookmill").state, "success");
    forge.finish();
}

#[test]
fn a_forge_that_asks_for_patience_gets_it() {
    const ASKED: u32 = 5;
    let forge = Forge::start();
    let repo = forge.repo("acme/shop");
    let server = Server::start(&forge);
    forge.trouble(1, Trouble::TooMany(ASKED));
    let first = repo.push("main", NOTHING_TO_DO);
    let build = server.deliver(&repo.pushed(&first)).build();
    let outbox = || server.get("/readyz").json()["parts"]["outbox"]["detail"].to_string();
    forge.wait(|| outbox().contains("is left alone").then_some(()), outbox);
    server.finished(build);
    // Another commit's status is for the same forge.
    let second = repo.push("main", &[("README.md", "# Shop again\n")]);
    server.finished(server.deliver(&repo.pushed(&second)).build());
    for moved in [&first, &second] {
        assert_eq!(forge.final_status(&moved.after, "hookmill").state, "success");
    }
    let posted = forge.posted();
    let waited = posted[1].at - posted[0].at;
    assert_eq!(posted[0].answered, 429);
    assert!(waited >= Duration::from_secs(ASKED.into()), "asked again after {waited:?}");
    forge.finish();
}

#[test]
fn a_revoked_token_ends_the_asking_and_shows() {
    let forge = Forge::start();
    let repo = forge.repo("acme/shop");
    let server = Server::start(&forge);
    forge.trouble(10_000, Trouble::Unauthorized);
    let moves: Vec<Moved> = (0..4).map(|number| push(&repo, "main", &format!("console.log({number});\n"))).collect();
    for moved in &moves {
        let build = server.deliver(&repo.pushed(moved)).build();
        assert_eq!(server.finished(build)["outcome"], "passed", "builds go on");
    }
    let outbox = || {
        let ready = server.get("/readyz");
        assert_eq!((ready.code, &ready.json()["ready"]), (200, &json!(true)), "{ready:?}");
        ready.json()["parts"]["outbox"].clone()
    };
    let bad = forge.wait(|| Some(outbox()).filter(|outbox| outbox["ok"] == false), || "it never showed".to_owned());
    let detail = bad["detail"].as_str().expect("a sentence");
    assert!(detail.contains("gitea") && detail.contains("401") && !detail.contains(TOKEN), "{detail}");
    let mut asked = BTreeMap::new();
    for posted in forge.posted() {
        *asked.entry(posted.status.sha).or_insert(0) += 1;
    }
    assert!(asked.values().sum::<usize>() < 10, "a hot loop: {asked:?}");
    forge.finish();
}

//! Dependencies that are private repositories of the forge: read by https with the forge's token, by installs only.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hookmill::config::secret::Secret;
use hookmill::config::server::{InstallHost, Network, Sandbox};
use hookmill::domain::outcome::Outcome;
use hookmill::domain::trust::Trust;
use hookmill::runner::Job;
use hookmill::runner::environment::home::GitAccess;
use serde_json::{Value, json};

use crate::support::forge::{Forge, TOKEN};
use crate::support::git_http::Behaviour;
use crate::support::runner;
use crate::support::server::{Server, Settings, reaching};
use crate::support::way_out::{Proxy, TlsDoor, authority};

/// A token that may only read.
const READ_TOKEN: &str = "t0ken-of-a-reader-77aa01";

/// Passes where nothing in HOME holds a token or says where one is, and both packages are there.
const BUNDLE: &str = "! grep -rqs t0ken-of ~ /tmp && ! test -e ~/.git-credentials && ! grep -qs credential ~/.gitconfig && \
                      test -f node_modules/one/package.json && test -f node_modules/two/package.json";

/// Nobody lists the forge for installs: that they may read its repositories opens it.
fn alone() -> String {
    reaching(&[])
}

/// A forge with two packages in private repositories.
fn forge_with_packages() -> Forge {
    let forge = Forge::start();
    for name in ["one", "two"] {
        let manifest = json!({"name": name, "version": "1.0.0"}).to_string();
        forge.repo(&format!("acme/{name}")).push("main", &[("package.json", &manifest)]);
    }
    forge
}

/// A push of a repository that needs two private ones, one of them by ssh, to a forge that asks everybody for a token.
fn pushed(settings: Settings, behaviour: Behaviour) -> (Forge, Value, String) {
    let forge = forge_with_packages();
    let origin = forge.git.origin();
    let manifest = json!({
        "name": "shop", "version": "1.0.0", "private": true,
        "scripts": {"postinstall": "cat /proc/[0-9]*/cmdline | tr '\\0' ' '; echo"},
        "dependencies": {
            "one": format!("git+{origin}/acme/one.git"),
            "two": "git+ssh://git@127.0.0.1/acme/two.git",
        },
    });
    let file = format!(
        "[[install]]\ntool = \"npm\"\ncommand = [\"npm\", \"install\", \"--no-package-lock\"]\n[bundle]\ncommand = [\"sh\", \"-c\", {}]\n",
        json!(BUNDLE)
    );
    let repo = forge.repo("acme/shop");
    let moved = repo.push("main", &[("package.json", &manifest.to_string()), (".hookmill.toml", &file)]);
    forge.git.behave(behaviour);
    let server = Server::start_with(&forge, settings);
    let build = server.finished(server.deliver(&repo.pushed(&moved)).build());
    let log = server.log(build["id"].as_i64().expect("a number"), "");
    assert!(!log.contains(TOKEN) && !log.contains(READ_TOKEN), "the token is in the log:\n{log}");
    forge.finish();
    (forge, build, log)
}

/// One token for everything.
fn one_token() -> Behaviour {
    Behaviour::Auth("x-access-token".to_owned(), TOKEN.to_owned())
}

/// Whether a repository was asked for with a token. npm answers git's question for one with an echo of the question.
fn opened(forge: &Forge, name: &str, token: &str) -> bool {
    let token = format!("Basic {}", STANDARD.encode(format!("x-access-token:{token}")));
    forge.git.requests().iter().any(|asked| asked.line.contains(name) && asked.authorization.as_ref() == Some(&token))
}

#[test]
fn they_install_where_it_is_configured() {
    let settings = Settings { repo: "git_dependencies = true".to_owned(), tables: alone(), ..Settings::default() };
    let (forge, build, log) = pushed(settings, one_token());
    assert_eq!(build["outcome"], "passed", "{build:#}\n{log}");
    assert!(opened(&forge, "/acme/one.git", TOKEN) && opened(&forge, "/acme/two.git", TOKEN));
}

#[test]
fn and_nowhere_else() {
    let (forge, build, log) = pushed(Settings::default(), one_token());
    assert_eq!(build["outcome"], "failed", "{build:#}\n{log}");
    assert!(!opened(&forge, "/acme/one.git", TOKEN) && !opened(&forge, "/acme/two.git", TOKEN));
}

#[test]
fn the_token_that_only_reads_goes_before_the_other() {
    let settings = Settings {
        repo: "git_dependencies = true".to_owned(),
        forge: format!("read_token = {READ_TOKEN:?}"),
        tables: alone(),
        ..Settings::default()
    };
    let tokens = vec![("/acme/shop.git", TOKEN), ("/acme/", READ_TOKEN)];
    let (forge, build, log) = pushed(settings, Behaviour::Tokens(tokens));
    assert_eq!(build["outcome"], "passed", "{build:#}\n{log}");
    assert!(opened(&forge, "/acme/one.git", READ_TOKEN) && opened(&forge, "/acme/two.git", READ_TOKEN));
    assert!(!opened(&forge, "/acme/one.git", TOKEN) && !opened(&forge, "/acme/two.git", TOKEN));
}

/// Builds a repository with this dependency, where a proxy and an authority stand for GitHub and a company's forge.
async fn depending_on(one: &str, trust: Trust, git: Option<GitAccess>) -> (Forge, Outcome, String) {
    let forge = forge_with_packages();
    forge.git.behave(one_token());
    let door = TlsDoor::before(forge.git.origin().trim_start_matches("http://").parse().expect("an address"));
    let proxy = Proxy::to(&[("github.com:443", door.address()), ("git.acme.test:443", door.address())]);
    let network = Network { proxy: Some(proxy.url()), no_proxy: Vec::new(), ca_file: Some(authority()) };
    let manifest = json!({"name": "shop", "version": "1.0.0", "private": true, "dependencies": {"one": one}});
    let file = "[[install]]\ntool = \"npm\"\ncommand = [\"npm\", \"install\", \"--no-package-lock\"]\n\
                [bundle]\ncommand = [\"test\", \"-f\", \"node_modules/one/package.json\"]\n";
    let manifest = manifest.to_string();
    let files = [("package.json", manifest.as_str()), (".hookmill.toml", file)];
    let listed = InstallHost::Host("git.acme.test:443".to_owned());
    let change = |job: &mut Job| {
        job.git = git;
        let mut sandbox = Sandbox::clone(&job.sandbox);
        sandbox.install_hosts.push(listed);
        job.sandbox = Arc::new(sandbox);
    };
    let (verdict, log) = runner::build_behind(Some(network), &files, trust, change).await;
    let told = format!("{verdict:?}\n{log}\n{:?}", proxy.asked());
    assert!(forge.git.requests().iter().any(|asked| asked.line.contains("/acme/one.git")), "{told}");
    (forge, verdict.outcome, told)
}

#[tokio::test]
async fn githubs_shorthand_too() {
    let access = GitAccess { web_url: "https://github.com".parse().expect("an address"), token: Secret::new(TOKEN) };
    let (forge, outcome, told) = depending_on("github:acme/one", Trust::Member, Some(access)).await;
    assert_eq!(outcome, Outcome::Passed, "{told}");
    assert!(opened(&forge, "/acme/one.git", TOKEN), "{told}");
}

#[tokio::test]
async fn a_fork_has_no_token_for_them() {
    let (forge, outcome, told) = depending_on("git+https://git.acme.test/acme/one.git", Trust::Fork, None).await;
    assert_eq!(outcome, Outcome::Failed, "{told}");
    assert!(!opened(&forge, "/acme/one.git", TOKEN), "{told}");
}

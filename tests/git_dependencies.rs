//! Dependencies that are private repositories of the forge: read by https with the forge's token, by installs only.

#[expect(dead_code, reason = "each file of tests asks for another part")]
#[path = "support/forge.rs"]
mod forge;
#[expect(dead_code, reason = "each file of tests steers another part")]
#[path = "support/git_http.rs"]
mod git_http;
#[expect(dead_code, reason = "each file of tests asks for another part")]
#[path = "support/server.rs"]
mod server;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use forge::{Forge, TOKEN};
use git_http::Behaviour;
use serde_json::{Value, json};
use server::{Server, Settings};

/// Passes where nothing in HOME holds a token or says where one is, and both packages are there.
const BUNDLE: &str = "! grep -rqs t0ken-of ~ /tmp && ! test -e ~/.git-credentials && ! grep -qs credential ~/.gitconfig && \
                      test -f node_modules/one/package.json && test -f node_modules/two/package.json";

/// A push of a repository that needs two private ones, one of them by ssh, to a forge that asks everybody for a token.
fn pushed(keys: &str) -> (Forge, Value, String) {
    let forge = Forge::start();
    for name in ["one", "two"] {
        let manifest = json!({"name": name, "version": "1.0.0"}).to_string();
        forge.repo(&format!("acme/{name}")).push("main", &[("package.json", &manifest)]);
    }
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
    forge.git.behave(Behaviour::Auth("x-access-token".to_owned(), TOKEN.to_owned()));
    let server = Server::start_with(&forge, Settings { repo: keys.to_owned(), ..Settings::default() });
    let build = server.finished(server.deliver(&repo.pushed(&moved)).build());
    let log = server.log(build["id"].as_i64().expect("a number"), "");
    assert!(!log.contains(TOKEN), "the token is in the log:\n{log}");
    forge.finish();
    (forge, build, log)
}

/// Whether a repository was asked for with the token. npm answers git's question for one with an echo of the question.
fn opened(forge: &Forge, name: &str) -> bool {
    let token = format!("Basic {}", STANDARD.encode(format!("x-access-token:{TOKEN}")));
    forge.git.requests().iter().any(|asked| asked.line.contains(name) && asked.authorization.as_ref() == Some(&token))
}

#[test]
fn they_install_where_it_is_configured() {
    let (forge, build, log) = pushed("git_dependencies = true");
    assert_eq!(build["outcome"], "passed", "{build:#}\n{log}");
    assert!(opened(&forge, "/acme/one.git") && opened(&forge, "/acme/two.git"));
}

#[test]
fn and_nowhere_else() {
    let (forge, build, log) = pushed("");
    assert_eq!(build["outcome"], "failed", "{build:#}\n{log}");
    assert!(!opened(&forge, "/acme/one.git") && !opened(&forge, "/acme/two.git"));
}

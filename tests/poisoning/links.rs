//! Folders of HOME that are kept, with a link in their place: what it leads to on this machine is neither kept nor shown.

use std::path::Path;

use hookmill::domain::outcome::Outcome;
use hookmill::domain::trust::Trust;
use hookmill::tree::{self, Visit};

use crate::support::runner::build_in;

/// The name of a file of the host's.
const SECRET: &str = "secret-of-the-host";

#[tokio::test]
async fn what_a_link_leads_to_is_neither_kept_nor_shown() {
    let dir = tempfile::tempdir().expect("a folder");
    let host = tempfile::tempdir().expect("a folder");
    std::fs::write(host.path().join(SECRET), "never to be read").expect("a file");
    let link = |folders: &str| {
        let to = host.path().display();
        format!("for one in {folders}; do rm -rf $HOME/$one; mkdir -p $HOME/.hookmill; ln -s {to} $HOME/$one; done")
    };
    let install =
        format!("mkdir -p node_modules/a; echo installed > node_modules/a/index.js; {}", link(".cache .downloads"));
    let bundle = format!(
        "cat node_modules/a/index.js; ls -a $HOME/.cache/ $HOME/.downloads/ 2>&1; {}",
        link(".hookmill/webpack")
    );
    let configuration = format!("[cache]\ninputs = ['links.sh']\n[bundle]\ncommand = ['sh', '-c', '{bundle}']\n");
    let lockfile = r#"{"name":"shop","lockfileVersion":3,"requires":true,"packages":{"":{"name":"shop"}}}"#;
    for word in ["first", "second"] {
        let files = [
            (".hookmill.toml", configuration.as_str()),
            ("package.json", r#"{"name":"shop","scripts":{"postinstall":"sh links.sh"}}"#),
            ("package-lock.json", lockfile),
            ("links.sh", install.as_str()),
            ("word", word),
        ];
        let ran = build_in(dir.path(), None, &files, Trust::Trusted, |job| job.build.use_cache = true).await;
        assert_eq!(ran.built.verdict.outcome, Outcome::Passed, "{}: {}", ran.built.verdict.reason, ran.log);
        // The second one is given what the first one left.
        assert_eq!(ran.log.contains("npm: hit"), word == "second", "{}", ran.log);
        assert!(ran.log.contains("installed") && !ran.log.contains(SECRET), "{}", ran.log);
        assert!(!ran.built.keep().await.is_empty(), "the rest is kept");
        assert_eq!(found(dir.path()), [] as [std::path::PathBuf; 0]);
        assert!(host.path().join(SECRET).exists());
    }
}

/// Where the host's file, or a copy of it, lies among what the agent has.
fn found(data: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    tree::walk(data, |entry| {
        if entry.path.ends_with(SECRET) {
            found.push(entry.path.clone());
        }
        // overlayfs leaves its own folder without any rights, where nothing is but what overlayfs put there.
        if entry.path.ends_with("work/work") { Visit::Skip } else { Visit::Continue }
    })
    .expect("a folder of ours");
    found
}

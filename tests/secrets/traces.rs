//! Where a secret could have left a trace.

use std::path::Path;
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

use crate::support::events::Stream;
use crate::support::forge::Forge;
use crate::support::server::Server;

/// What is recognisable of a secret in every form in which it is hidden.
fn forms(secret: &str) -> Vec<String> {
    let mut forms = vec![secret.to_owned(), hex::encode(secret), hex::encode_upper(secret)];
    for before in ["", "x", "xy"] {
        let bytes = format!("{before}{secret}");
        for text in [STANDARD.encode(&bytes), URL_SAFE_NO_PAD.encode(&bytes)] {
            // The middle, which depends on nothing that stands around it.
            forms.push(text[4..text.len() - 4].to_owned());
        }
    }
    forms.push(form_urlencoded::byte_serialize(secret.as_bytes()).collect());
    forms
}

/// Fails if any of the secrets stands in a text, in any form.
#[track_caller]
pub(crate) fn holds_none(secrets: &[&str], text: &[u8], what: &str) {
    for secret in secrets {
        for form in forms(secret) {
            let at = text.windows(form.len()).position(|window| window == form.as_bytes());
            if let Some(at) = at {
                let around = &text[at.saturating_sub(200)..(at + form.len() + 200).min(text.len())];
                panic!("{what} holds {form:?} of {secret:?}: {}", String::from_utf8_lossy(around));
            }
        }
    }
}

/// Fails if a file below a folder holds any of the secrets. How many files that are.
#[track_caller]
pub(crate) fn holds_none_below(secrets: &[&str], folder: &Path) -> usize {
    let all: Vec<String> = secrets.iter().flat_map(|secret| forms(secret)).collect();
    let grep = |pattern: &str| {
        let args = ["-r", "-a", "-l", "-s", "-D", "skip", "-F", "-e", pattern];
        let found = Command::new("grep").args(args).arg(folder).output().expect("grep is installed");
        String::from_utf8_lossy(&found.stdout).into_owned()
    };
    // Patterns of several lines are any of them.
    let found = grep(&all.join("\n"));
    assert_eq!(found, "", "these hold a secret");
    grep("").lines().count()
}

/// Everything that is shown, sent or kept of a build.
#[track_caller]
pub(crate) fn nowhere(secrets: &[&str], server: &Server, forge: &Forge, build: i64) {
    holds_none(secrets, server.log(build, "").as_bytes(), "the log by the API");
    holds_none(secrets, server.build(build).to_string().as_bytes(), "the build by the API");
    holds_none(secrets, server.get(&format!("/builds/{build}")).body.as_bytes(), "the page");
    let events: Vec<String> =
        Stream::open(server, build, None).rest().iter().map(|event| event.data.to_string()).collect();
    assert!(!events.is_empty());
    holds_none(secrets, events.join("\n").as_bytes(), "the events");
    let statuses: Vec<String> = forge.statuses().iter().map(|status| status.description.clone()).collect();
    holds_none(secrets, statuses.join("\n").as_bytes(), "the statuses");
    holds_none(secrets, server.log_text().as_bytes(), "the server's log");
    assert!(holds_none_below(secrets, &server.data().join(format!("logs/{build}"))) >= 2);
    for name in ["hookmill.db", "hookmill.db-wal"] {
        assert_eq!(holds_none_below(secrets, &server.data().join(name)), 1, "{name}");
    }
}

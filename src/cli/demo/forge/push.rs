//! Delivering a push as Gitea does: its payload (pretty-printed, which the signature covers) and its headers.

use std::time::{Duration, Instant};

use hmac::{Hmac, KeyInit, Mac};
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::Sha256;

use crate::domain::build::BuildId;
use crate::domain::repo::CommitId;

use super::super::repository::AUTHOR;
use super::{Forge, Pushed, REPOSITORY};

/// A push to `main`.
#[derive(Debug)]
pub(in super::super) struct Push<'a> {
    /// The tip before.
    pub before: &'a CommitId,
    /// The commit that was pushed.
    pub after: &'a Pushed,
    /// Paths that it changed.
    pub modified: &'a [&'a str],
}

/// What the hook answered.
#[derive(Debug)]
pub(in super::super) struct Answer {
    /// The HTTP status.
    pub code: u16,
    /// From the first byte sent to the last byte received.
    pub took: Duration,
    /// The build that was made, if one was.
    pub build: Option<BuildId>,
    /// The body, for a person, when no build was made.
    pub body: String,
}

/// Why a delivery got no answer.
#[derive(Debug, thiserror::Error)]
#[error("the push could not be delivered to {url}: {cause}")]
pub(in super::super) struct NotDelivered {
    url: String,
    cause: Box<ureq::Error>,
}

#[derive(Deserialize)]
struct Taken {
    build: Option<BuildId>,
}

impl Forge {
    /// Delivers a push to a hook, signed. Blocks until the answer is there.
    ///
    /// # Errors
    /// When the server can't be reached or does not speak HTTP; any HTTP status is an [`Answer`].
    pub(in super::super) fn deliver(
        &self,
        http: &ureq::Agent,
        hook: &str,
        secret: &str,
        push: &Push<'_>,
    ) -> Result<Answer, NotDelivered> {
        let body = format!("{:#}", payload(self.url(), push));
        let signature = sign(secret, &body);
        let delivery = delivery_id();
        let refused = |cause| NotDelivered { url: hook.to_owned(), cause: Box::new(cause) };
        let begun = Instant::now();
        let mut request = http.post(hook).content_type("application/json");
        for brand in ["Gitea", "Gogs", "GitHub"] {
            request =
                request.header(format!("X-{brand}-Event"), "push").header(format!("X-{brand}-Delivery"), &delivery);
        }
        let mut response = request
            .header("X-Gitea-Event-Type", "push")
            .header("X-Gitea-Signature", &signature)
            .header("X-Gogs-Signature", &signature)
            .header("X-Hub-Signature-256", format!("sha256={signature}"))
            .send(&body)
            .map_err(refused)?;
        let body = response.body_mut().read_to_string().map_err(refused)?;
        let took = begun.elapsed();
        let build = serde_json::from_str::<Taken>(&body).ok().and_then(|taken| taken.build);
        Ok(Answer { code: response.status().as_u16(), took, build, body })
    }
}

/// Ids of deliveries look like UUIDs on every forge.
fn delivery_id() -> String {
    let hex = super::super::random_hex();
    format!("{}-{}-4{}-8{}-{}", &hex[..8], &hex[8..12], &hex[13..16], &hex[17..20], &hex[20..32])
}

/// HMAC-SHA256 over the body as it is sent, in bare hex.
fn sign(secret: &str, body: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("HMAC takes a key of any length");
    mac.update(body.as_bytes());
    mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn payload(forge: &str, push: &Push<'_>) -> Value {
    let page = format!("{forge}/{REPOSITORY}");
    let (before, after) = (push.before.as_str(), push.after.commit.as_str());
    let (owner, name) = REPOSITORY.split_once('/').expect("a constant with a slash");
    let person = json!({ "name": AUTHOR.0, "email": AUTHOR.1, "username": AUTHOR.0.to_lowercase() });
    let account = |id: u64, login: &str| {
        json!({
            "id": id, "login": login, "full_name": "", "email": format!("{login}@example.invalid"), "username": login,
        })
    };
    let pusher = account(2, &AUTHOR.0.to_lowercase());
    let commit = json!({
        "id": after,
        "message": format!("{}\n", push.after.subject),
        "url": format!("{page}/commit/{after}"),
        "author": person,
        "committer": person,
        "verification": null,
        "timestamp": push.after.at,
        "added": [],
        "removed": [],
        "modified": push.modified,
    });
    json!({
        "ref": "refs/heads/main",
        "before": before,
        "after": after,
        "compare_url": format!("{page}/compare/{before}...{after}"),
        "commits": [commit],
        "total_commits": 1,
        "head_commit": commit,
        "repository": {
            "id": 1,
            "owner": account(1, owner),
            "name": name,
            "full_name": REPOSITORY,
            "description": "The sample repository of hookmill demo",
            "empty": false,
            "private": false,
            "fork": false,
            "parent": null,
            "mirror": false,
            "html_url": page,
            "clone_url": format!("{page}.git"),
            "default_branch": "main",
            "archived": false,
        },
        "pusher": pusher,
        "sender": pusher,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_as_github_documents_it() {
        // The vector of GitHub's "Validating webhook deliveries"; Gitea sends the same digest without a prefix.
        let signature = sign("It's a Secret to Everybody", "Hello, World!");
        assert_eq!(signature, "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17");
    }

    #[test]
    fn a_delivery_id_looks_like_a_uuid() {
        let lengths: Vec<usize> = delivery_id().split('-').map(str::len).collect();
        assert_eq!(lengths, [8, 4, 4, 4, 12]);
    }
}

//! What a person has to fill in at a forge: the webhook's fields, the rights of a token.

use url::Url;

use crate::config::server::ForgeKind;
use crate::domain::repo::{ForgeName, RepoPath};

/// The address of a repository's own hook, or of the forge's one hook.
pub(super) fn hook_url(public_url: &Url, forge: &ForgeName, repo: Option<&RepoPath>) -> String {
    let base = public_url.as_str().trim_end_matches('/');
    match repo {
        Some(path) => format!("{base}/hooks/{forge}/{path}"),
        None => format!("{base}/hooks/{forge}"),
    }
}

/// The page on which a repository's webhook is added.
pub(super) fn hook_page(kind: ForgeKind, web_url: &Url, repo: &RepoPath) -> String {
    let base = web_url.as_str().trim_end_matches('/');
    match kind {
        ForgeKind::Github => format!("{base}/{repo}/settings/hooks/new"),
        ForgeKind::Gitea | ForgeKind::Forgejo => format!("{base}/{repo}/settings/hooks/{}/new", kind.as_str()),
    }
}

/// The events to tick, in the forge's own words.
pub(super) fn events(kind: ForgeKind) -> &'static str {
    match kind {
        ForgeKind::Github => "\"Let me select individual events\": Pushes, Pull requests",
        // Gitea tells of a deleted branch by `delete` alone, and of new commits of a pull request by "Synchronized".
        ForgeKind::Gitea | ForgeKind::Forgejo => {
            "\"Custom Events\": Push, Create, Delete, Pull Request, Pull Request Synchronized"
        }
    }
}

/// Where a token is made and which rights it needs, a line each.
pub(super) fn token_steps(kind: ForgeKind, web_url: &Url, repo: &RepoPath) -> Vec<String> {
    let base = web_url.as_str().trim_end_matches('/');
    match kind {
        ForgeKind::Github => vec![
            format!("{base}/settings/personal-access-tokens/new (a fine-grained token)"),
            format!("Repository access: only {repo}"),
            "Permissions: Commit statuses: read and write; Contents: read-only".to_owned(),
        ],
        ForgeKind::Gitea | ForgeKind::Forgejo => vec![
            format!("{base}/user/settings/applications, as a user who may write to {repo}"),
            "Permissions: repository: read and write (write:repository)".to_owned(),
        ],
    }
}

/// What else the forge's operator may have to do before it delivers.
pub(super) fn delivery_notes(kind: ForgeKind, public_url: &Url) -> Vec<String> {
    let host = public_url.host_str().unwrap_or_default();
    let loopback = is_loopback(public_url);
    let mut notes = Vec::new();
    if matches!(kind, ForgeKind::Gitea | ForgeKind::Forgejo) {
        let allowed = if loopback { "loopback" } else { host };
        notes.push(format!(
            "Where {kind} and Hookmill are in one LAN, {kind} refuses to deliver until its app.ini says:\n  [webhook]\n  \
             ALLOWED_HOST_LIST = external,{allowed}",
            kind = kind.as_str()
        ));
    }
    if loopback {
        notes.push(format!(
            "{host} can be reached from this machine only. A forge elsewhere needs an address that it can reach \
             (server.public_url), by a reverse proxy or a tunnel."
        ));
    }
    notes
}

/// Whether an address means the machine itself.
pub(super) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

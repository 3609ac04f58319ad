//! What the sweep asks for: each repository's heads by git, and GitHub's account of failed deliveries.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::addresses;
use super::finding::Finding;
use crate::checkout::client;
use crate::checkout::{AskHeads, Credential, Network};
use crate::config::server::{Forge, RepoRules, Server};
use crate::domain::repo::RepoId;
use crate::forge::api::{Client, PostError, missed};

const HEADS: &str = "heads";
/// For one repository's list of refs.
const PATIENCE: Duration = Duration::from_secs(15);
/// Repositories that are asked for; more would only be slow.
const ASKED: usize = 20;

/// Each repository that is named whole, as the sweep would look at it.
pub(super) async fn heads(exe: &Path, settings: &Server) -> Vec<Finding> {
    let client = Arc::new(Client::new(&settings.network));
    let mut findings = Vec::new();
    for (forge, path) in settings.forges.named().into_iter().take(ASKED) {
        let repo = RepoId { forge, path };
        let Some(rules) = settings.forges.rules(&repo) else { continue };
        let Some(forge) = settings.forges.by_name.get(&repo.forge).cloned() else { continue };
        findings.push(listed(exe, settings, &repo, &rules, &forge).await);
        let own_hook = !rules.hook_secrets.is_empty() && forge.hook_secrets.is_empty();
        if missed::is_kept(forge.kind) && forge.token.is_some() && own_hook {
            let address = format!("{}/hooks/{}/{}", settings.web.base(), repo.forge, repo.path);
            let client = Arc::clone(&client);
            let asked = tokio::task::spawn_blocking(move || {
                let hook = client.hook(&forge, &repo.path, &address);
                account(&repo, &address, hook)
            });
            findings.extend(asked.await);
        }
    }
    findings
}

async fn listed(exe: &Path, settings: &Server, repo: &RepoId, rules: &RepoRules, forge: &Forge) -> Finding {
    let token = forge.token.as_ref();
    let ask = AskHeads {
        clone_url: rules.clone_url.clone(),
        credential: token.map(|token| Credential::of_token(token.expose(), &rules.clone_url)),
        network: Network { patience: PATIENCE, ..Network::from(&*settings.network) },
        tags: rules.tags,
    };
    let name = repo.to_string();
    match client::heads(exe, &ask, PATIENCE).await {
        Ok(heads) => {
            let branches = heads.refs.keys().filter(|name| name.as_branch().is_some()).count();
            let default =
                heads.default_branch.map_or_else(String::new, |name| format!(", {} by default", name.short()));
            Finding::good(HEADS, name, format!("{} lists {branches} branches{default}", rules.clone_url))
        }
        Err(error) => {
            let fix = "correct the name or clone_url of its [[repo]], or let the token's account read it";
            Finding::fault(HEADS, name, addresses::plain(&error.to_string()), fix)
        }
    }
}

/// Whether what could not be delivered can be sent again.
fn account(repo: &RepoId, address: &str, hook: Result<Option<u64>, PostError>) -> Finding {
    let name = format!("{repo} hook");
    match hook {
        Ok(Some(_)) => Finding::good(HEADS, name, "what it could not deliver is sent again"),
        Ok(None) => {
            let detail = format!("no hook of the repository leads to {address}: pushes are found only by asking");
            Finding::warning(HEADS, name, detail, format!("hookmill hook add --print {repo}"))
        }
        Err(error) => {
            let detail = format!("{error}: what it could not deliver is not sent again, heads are compared");
            let fix = "give the token the right to repository hooks (classic: admin:repo_hook; else: Webhooks, read and write)";
            Finding::warning(HEADS, name, detail, fix)
        }
    }
}

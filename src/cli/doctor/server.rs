//! What the configuration adds: the store, the hooks' address, the forges and their tokens.

use std::sync::Arc;

use url::{Host, Url};

use super::addresses;
use super::finding::Finding;
use crate::config::load::Loaded;
use crate::config::server::{Forge, Server, StoreUrl};
use crate::domain::repo::RepoPath;
use crate::forge::api::{Client, PostError, token};
use crate::store::{self, Found, OpenError};

const SETTINGS: &str = "configuration";
const STORE: &str = "store";
const HOOKS: &str = "hooks";
const FORGES: &str = "forges";

/// Repositories that are asked for at one forge; more would only be slow.
const ASKED: usize = 20;

/// What was read, with the warnings of `check`.
pub(super) fn settings(loaded: &Loaded) -> Vec<Finding> {
    let files: Vec<String> = loaded.files.iter().map(|file| file.display().to_string()).collect();
    let read = if files.is_empty() { "the environment".to_owned() } else { files.join(", ") };
    let warnings = loaded.warnings.iter().map(|problem| {
        let place = problem.location().map_or_else(|| "setting".to_owned(), |(_, line, _)| format!("line {line}"));
        Finding::warning(SETTINGS, place, problem.message.clone(), problem.fix.clone().unwrap_or_default())
    });
    std::iter::once(Finding::good(SETTINGS, "read", read)).chain(warnings).collect()
}

/// By so much a database's clock may differ from ours before it is worth a word: leases go by its clock, the times that
/// people see by ours.
const CLOCKS_DIFFER: i64 = 5_000;

/// Whether the store can be opened, and who holds it.
pub(super) async fn store(settings: &Server) -> Vec<Finding> {
    let at = &*settings.store;
    let shown = at.sqlite().map_or_else(|| at.to_string(), |path| path.display().to_string());
    let name = "database";
    match store::examine(at.clone()).await {
        Ok(Found::Nothing) => vec![Finding::good(STORE, name, format!("none yet; the first start makes {shown}"))],
        Ok(Found::Database { version, known }) if version < known => {
            let detail = format!("{shown}, schema {version}; the next start makes it {known}");
            vec![Finding::good(STORE, name, detail)]
        }
        Ok(Found::Database { version, .. }) => {
            vec![Finding::good(STORE, name, format!("{shown}, schema {version}, whole"))]
        }
        Ok(Found::Shared { version, known, server, clock_ahead }) => {
            let next = if version < known { format!("; the next start makes it {known}") } else { String::new() };
            let detail = format!("{shown}, PostgreSQL {server}, schema {version}{next}");
            vec![Finding::good(STORE, name, detail), clock(clock_ahead)]
        }
        Err(OpenError::Held { pid, .. }) => {
            let holder = pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"));
            vec![Finding::good(STORE, name, format!("{shown}, in use by {holder}: the server runs"))]
        }
        Err(OpenError::Postgres(error)) => vec![Finding::fault(STORE, name, error.fault(), error.fix())],
        Err(error) => {
            let fix = "mend the file or its rights, or give [store] url another path";
            vec![Finding::fault(STORE, name, error.to_string(), fix)]
        }
    }
}

fn clock(ahead: i64) -> Finding {
    if ahead.abs() < CLOCKS_DIFFER {
        return Finding::good(STORE, "clock", "the database's and ours agree");
    }
    let word = if ahead > 0 { "ahead of" } else { "behind" };
    let detail = format!("the database's clock is {} s {word} ours", ahead.abs() / 1000);
    Finding::warning(STORE, "clock", detail, "let both machines follow the same time server (NTP)")
}

/// Whether forges can knock: the public address leads here, and from outside.
pub(super) async fn hooks(settings: &Server) -> Vec<Finding> {
    let public = &settings.web.public_url;
    let name = "public_url";
    let mut findings = Vec::new();
    let forges_are_elsewhere = settings.forges.by_name.values().any(|forge| !is_loopback(&forge.web_url));
    if is_loopback(public) && forges_are_elsewhere {
        let detail = format!("{public} is this machine's own: no forge elsewhere can reach it");
        let fix = "set [server] public_url to the address that forges and people use";
        findings.push(Finding::fault(HOOKS, name, detail, fix));
    }
    let runs = matches!(store::examine(StoreUrl::clone(&settings.store)).await, Err(OpenError::Held { .. }));
    let (base, network) = (settings.web.base().to_owned(), Arc::clone(&settings.network));
    let asked = Url::parse(&format!("{base}/healthz")).expect("a checked address with a path added");
    let answered = addresses::ask(network, asked).await;
    findings.push(match answered {
        Ok((200, body)) if body.trim() == "ok" => Finding::good(HOOKS, name, format!("{public} answers from here")),
        Ok((code, _)) => {
            let detail = format!("{base}/healthz answers {code}, which is not hookmill's answer");
            Finding::fault(HOOKS, name, detail, "let the reverse proxy pass everything to [server] listen")
        }
        Err(why) if runs => {
            let fix = "correct [server] public_url, DNS, the reverse proxy or the firewall";
            Finding::fault(HOOKS, name, format!("the server runs, and {public} does not lead to it: {why}"), fix)
        }
        Err(why) => {
            let alone = if settings.store.sqlite().is_some() { ", and no server runs on this store" } else { "" };
            let detail = format!("{public} does not answer ({why}){alone}");
            Finding::warning(HOOKS, name, detail, "start `hookmill serve`, then ask again")
        }
    });
    findings
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// Each forge's word on the token that it was given, and on the repositories that are named whole.
pub(super) async fn forges(settings: &Server) -> Vec<Finding> {
    let client = Arc::new(Client::new(&settings.network));
    let mut findings = Vec::new();
    if settings.forges.by_name.is_empty() {
        let fix = "write a [[forge]], or let `hookmill init` do it";
        findings.push(Finding::warning(FORGES, "none", "no forge is configured: nothing can be pushed here", fix));
    }
    for forge in settings.forges.by_name.values() {
        let named = settings.forges.named();
        let repos: Vec<RepoPath> =
            named.into_iter().filter(|(name, _)| *name == forge.name).map(|(_, repo)| repo).take(ASKED).collect();
        let (forge, client) = (Arc::clone(forge), Arc::clone(&client));
        let told = tokio::task::spawn_blocking(move || judge(&client, &forge, &repos)).await;
        findings.extend(told.unwrap_or_default());
    }
    findings
}

fn judge(client: &Client, forge: &Forge, repos: &[RepoPath]) -> Vec<Finding> {
    let name = forge.name.as_str();
    let fix = format!("make a new token at {} and put it into the token_file of [[forge]] {name:?}", forge.web_url);
    if forge.token.is_none() {
        let detail = "no token: statuses can't be posted, private repositories can't be read";
        return vec![Finding::warning(FORGES, name, detail, fix)];
    }
    let known = match client.token(forge) {
        Ok(known) => known,
        Err(PostError::Unauthorized { why }) => return vec![Finding::fault(FORGES, name, why, fix)],
        Err(PostError::Refused { why, .. }) => {
            let fix = format!("correct api_url of [[forge]] {name:?}: {}", forge.api_url);
            return vec![Finding::fault(FORGES, name, format!("{} is no API of this kind: {why}", forge.api_url), fix)];
        }
        Err(PostError::Retry { why, .. }) => {
            let fix = "look at [network] proxy, no_proxy and ca_file, and at the forge itself";
            return vec![Finding::fault(FORGES, name, addresses::plain(&why), fix)];
        }
    };
    let account = known.account.as_deref().map_or_else(String::new, |account| format!(" of {account}"));
    let expires = known.expires.as_deref().map_or_else(String::new, |at| format!(", until {at}"));
    let mut findings = vec![match token::missing_scope(forge.kind, &known) {
        Some(scope) => {
            let detail = format!("the token{account} lacks the scope {scope:?}: statuses will be refused");
            Finding::fault(FORGES, name, detail, fix)
        }
        None => Finding::good(FORGES, name, format!("{} takes the token{account}{expires}", forge.api_url)),
    }];
    findings.extend(repos.iter().map(|repo| repository(client, forge, repo)));
    findings
}

fn repository(client: &Client, forge: &Forge, repo: &RepoPath) -> Finding {
    let name = repo.as_str();
    match client.rights(forge, repo) {
        Ok(token::Rights { read: true, write: true }) => Finding::good(FORGES, name, "may be read and given statuses"),
        Ok(token::Rights { read: true, write: false }) => {
            let fix = "let the token's account write to the repository";
            Finding::fault(FORGES, name, "the token may read it, and not write its statuses", fix)
        }
        Ok(token::Rights { read: false, .. }) => {
            let fix = "correct the name in its [[repo]], or give the token's account access";
            Finding::fault(FORGES, name, "the token sees no such repository", fix)
        }
        Err(error) => Finding::warning(FORGES, name, error.to_string(), "ask again"),
    }
}

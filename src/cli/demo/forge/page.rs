//! The repository's page: its commits with their checks. No script; it loads itself again.

use std::sync::Arc;
use std::time::SystemTime;

use askama::Template;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{Html, IntoResponse, Response};

use crate::domain::status::StatusState;
use crate::domain::time::{Timestamp, brief};

use super::{Memory, REPOSITORY, Received, Shared};

/// The page; askama escapes what it shows.
#[derive(Template)]
#[template(
    ext = "html",
    source = r#"<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="refresh" content="{{ refresh_seconds }}">
<title>{{ repository }} · demo forge</title>
<style>
  :root { color-scheme: light dark; --line: light-dark(#d8dce2, #353b45); --soft: light-dark(#5b6573, #9aa4b2);
          --pending: light-dark(#9a6700, #e3b341); --success: light-dark(#1a7f37, #56d364);
          --failure: light-dark(#cf222e, #ff7b72); --error: light-dark(#8250df, #d2a8ff); }
  body { font: 16px/1.5 system-ui, sans-serif; max-width: 54rem; margin: 0 auto; padding: 2rem 1.25rem; }
  h1 { font-size: 1.5rem; margin: 0; }
  p { color: var(--soft); margin: .25rem 0 1.5rem; }
  ol { list-style: none; margin: 0; padding: 0; border: 1px solid var(--line); border-radius: .5rem; }
  li { padding: .9rem 1rem; } li + li { border-top: 1px solid var(--line); }
  .subject { font-weight: 600; } .meta { color: var(--soft); font-size: .875rem; }
  .check { display: flex; gap: .6rem; align-items: baseline; margin-top: .4rem; overflow-wrap: anywhere; }
  .state { font-weight: 600; white-space: nowrap; }
  .pending { color: var(--pending); } .success { color: var(--success); }
  .failure { color: var(--failure); } .error { color: var(--error); }
  code { font: .875em ui-monospace, monospace; }
</style>
<main>
<h1>{{ repository }}</h1>
<p>The demo's own forge: what a GitHub, Gitea or Forgejo would show beside each commit.</p>
<ol>
{% for commit in commits %}<li>
  <div class="subject">{{ commit.subject }}</div>
  <div class="meta"><code>{{ commit.short }}</code> · main · pushed {{ commit.age }} ago</div>
  {% for check in commit.checks %}<div class="check">
    <span class="state {{ check.state }}">{{ check.mark }} {{ check.state }}</span>
    <span><strong>{{ check.context }}</strong> {{ check.sentence }}{% if !check.target_url.is_empty() %} <a href="{{ check.target_url }}">Details</a>{% endif %}</span>
  </div>
  {% else %}<div class="check meta">no check</div>
  {% endfor %}
</li>
{% endfor %}</ol>
</main>
</html>
"#
)]
struct Page<'a> {
    repository: &'a str,
    refresh_seconds: u32,
    /// The newest first.
    commits: Vec<Commit<'a>>,
}

struct Commit<'a> {
    subject: &'a str,
    short: &'a str,
    age: String,
    checks: Vec<Check<'a>>,
}

struct Check<'a> {
    state: &'static str,
    mark: &'static str,
    context: &'a str,
    sentence: &'a str,
    target_url: &'a str,
}

pub(super) async fn show(State(shared): State<Arc<Shared>>) -> Response {
    match render(&shared.memory(), Timestamp::from(SystemTime::now())) {
        Ok(page) => Html(page).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

fn render(memory: &Memory, now: Timestamp) -> Result<String, askama::Error> {
    let commits: Vec<Commit<'_>> = memory
        .pushed
        .iter()
        .rev()
        .map(|pushed| Commit {
            subject: &pushed.subject,
            short: pushed.commit.short(),
            age: brief(now.since(pushed.at)),
            checks: memory.statuses.get(&pushed.commit).map(|received| newest(received)).unwrap_or_default(),
        })
        .collect();
    let waits = commits.iter().flat_map(|commit| &commit.checks).any(|check| check.state == "pending");
    Page { repository: REPOSITORY, refresh_seconds: if waits { 1 } else { 4 }, commits }.render()
}

/// The last status of each context, in the order in which the contexts first came.
fn newest(received: &[Received]) -> Vec<Check<'_>> {
    let mut checks: Vec<Check<'_>> = Vec::new();
    for one in received {
        let check = Check {
            state: one.status.state.as_str(),
            mark: mark(one.status.state),
            context: &one.status.context,
            sentence: &one.status.sentence,
            target_url: web_address(&one.target_url),
        };
        match checks.iter_mut().find(|known| known.context == check.context) {
            Some(known) => *known = check,
            None => checks.push(check),
        }
    }
    checks
}

fn mark(state: StatusState) -> &'static str {
    match state {
        StatusState::Pending => "●",
        StatusState::Success => "✓",
        StatusState::Failure => "✗",
        StatusState::Error => "!",
    }
}

/// Escaping does not make a `javascript:` link harmless.
fn web_address(url: &str) -> &str {
    if url.starts_with("http://") || url.starts_with("https://") { url } else { "" }
}

#[cfg(test)]
mod tests {
    use super::super::Pushed;
    use super::*;
    use crate::domain::repo::CommitId;
    use crate::domain::status::Status;

    fn received(commit: &CommitId, state: StatusState, sentence: &str, target_url: &str) -> Received {
        let status = Status { context: "hookmill".into(), state, sentence: sentence.into() };
        Received { commit: commit.clone(), status, target_url: target_url.into(), at: Timestamp(0) }
    }

    #[test]
    fn the_newest_word_of_a_context_counts_and_texts_are_texts() {
        let commit: CommitId = "a".repeat(40).parse().expect("an id");
        let mut memory = Memory::default();
        memory.pushed.push(Pushed { commit: commit.clone(), subject: "<b>Show</b>".into(), at: Timestamp(0) });
        let page = render(&memory, Timestamp(5_000)).expect("rendered");
        assert!(page.contains("no check") && page.contains("pushed 5s ago"), "{page}");

        let words = [
            received(&commit, StatusState::Pending, "Queued", "http://127.0.0.1/builds/1"),
            received(&commit, StatusState::Failure, "<script>", "javascript:alert(1)"),
        ];
        memory.statuses.insert(commit, words.to_vec());
        let page = render(&memory, Timestamp(5_000)).expect("rendered");
        assert!(page.contains("✗ failure") && !page.contains("Queued"), "{page}");
        for raw in ["<b>", "<script>", "javascript:"] {
            assert!(!page.contains(raw), "{raw} in {page}");
        }
    }
}

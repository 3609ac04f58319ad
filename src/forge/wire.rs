//! The shape of an event that GitHub made and Gitea and Forgejo copied, and what it means.
//!
//! Only what is needed is read. `clone_url` and its kin are never read: where git fetches from is
//! configuration, or a payload could point the agent anywhere.

use serde::Deserialize;

use super::BadPayload;
use crate::domain::event::{self, Event, Heard};
use crate::domain::repo::{BadName, CommitId, RefName, RepoPath};
use crate::domain::time::Timestamp;

/// Characters kept of a commit's first line, a pull request's title or a person's name.
const LONGEST_TEXT: usize = 200;

/// What every event may have.
#[derive(Deserialize)]
struct Common {
    action: Option<String>,
    repository: Option<Repository>,
}

#[derive(Deserialize)]
pub(super) struct Repository {
    id: Option<i64>,
    full_name: Option<String>,
    default_branch: Option<String>,
    pushed_at: Option<PushedAt>,
}

/// GitHub's word for when something was pushed: seconds since 1970 in a push, a text in every other event.
#[derive(Deserialize)]
#[serde(untagged)]
enum PushedAt {
    Seconds(i64),
    Other(serde::de::IgnoredAny),
}

/// A branch or tag that moved.
#[derive(Deserialize)]
pub(super) struct Push {
    #[serde(rename = "ref")]
    git_ref: String,
    before: Option<String>,
    after: String,
    forced: Option<bool>,
    head_commit: Option<Commit>,
    repository: Repository,
    pusher: Option<Person>,
    sender: Option<Person>,
}

#[derive(Deserialize)]
struct Commit {
    id: Option<String>,
    message: Option<String>,
}

#[derive(Deserialize)]
struct Person {
    login: Option<String>,
    name: Option<String>,
}

impl Person {
    fn named(self) -> Option<String> {
        self.login.into_iter().chain(self.name).find_map(|name| one_line(&name))
    }
}

/// Something about a pull request that may need a build.
#[derive(Deserialize)]
struct PullRequestEvent {
    pull_request: PullRequest,
    repository: Repository,
}

/// A pull request in an event, and in the API's lists.
#[derive(Deserialize)]
pub(super) struct PullRequest {
    number: u64,
    title: Option<String>,
    user: Option<Person>,
    head: End,
    base: End,
}

#[derive(Deserialize)]
struct End {
    #[serde(rename = "ref")]
    git_ref: String,
    sha: Option<String>,
    repo: Option<Repository>,
}

/// Reads JSON that was checked into a shape.
pub(super) fn shape<'a, T: Deserialize<'a>>(event: &'static str, json: &'a [u8]) -> Result<T, BadPayload> {
    serde_json::from_slice(json).map_err(|error| {
        let text = error.to_string();
        // Other texts of serde quote the value, which may be anything.
        let why = match text.starts_with("missing field") {
            true => text,
            false => format!("unexpected value at line {} column {}", error.line(), error.column()),
        };
        BadPayload::Shape { event, why }
    })
}

/// An event that builds nothing, with the repository if it names one.
pub(super) fn ignored(json: &[u8], because: impl FnOnce(Option<&str>) -> String) -> Heard {
    // Such events have shapes of their own; one that surprises us is still nothing to build.
    let common = serde_json::from_slice(json).unwrap_or(Common { action: None, repository: None });
    let because = because(common.action.as_deref().and_then(one_line).as_deref());
    let (repo, default_branch) = match common.repository {
        Some(repository) => (repository.path("").ok(), repository.default_branch()),
        None => (None, None),
    };
    Heard { repo, default_branch, event: Event::Ignored { because } }
}

/// An event that this version knows no build for.
pub(super) fn unknown(event: &str, json: &[u8]) -> Heard {
    ignored(json, |action| match action {
        Some(action) => format!("{event} ({action}) builds nothing"),
        None => format!("{event} builds nothing"),
    })
}

/// A pull request's event; `new_commits` is the forge's word for "the head moved".
pub(super) fn pull_request(json: &[u8], new_commits: &str) -> Result<Heard, BadPayload> {
    const NAME: &str = PullRequestEvent::NAME;
    match shape::<Common>(NAME, json)?.action.as_deref() {
        None => Err(BadPayload::Shape { event: NAME, why: "missing field `action`".to_owned() }),
        Some("closed") => shape::<PullRequestEvent>(NAME, json)?.closed(),
        Some(action) if ["opened", "reopened", new_commits].contains(&action) => {
            shape::<PullRequestEvent>(NAME, json)?.needs_build()
        }
        Some(_) => {
            Ok(ignored(json, |action| format!("pull_request ({}) brings no new commit", action.unwrap_or_default())))
        }
    }
}

impl Repository {
    fn path(&self, event: &'static str) -> Result<RepoPath, BadPayload> {
        let name = self.full_name.as_deref();
        let name = name.ok_or_else(|| BadPayload::Shape { event, why: "missing field `full_name`".to_owned() })?;
        name.parse().map_err(bad_name(event))
    }

    fn default_branch(&self) -> Option<String> {
        // Gitea leaves it empty for an empty repository.
        self.default_branch.clone().filter(|name| RefName::branch(name).is_ok())
    }

    fn pushed_at(&self) -> Option<Timestamp> {
        match self.pushed_at {
            Some(PushedAt::Seconds(seconds)) => Some(Timestamp(seconds.saturating_mul(1000))),
            Some(PushedAt::Other(_)) | None => None,
        }
    }

    /// The same repository beyond doubt: a doubt makes a fork, which is trusted less.
    fn is(&self, other: &Repository) -> bool {
        let same_id = self.id.is_some() && self.id == other.id;
        match (&self.full_name, &other.full_name) {
            (Some(one), Some(two)) => same_id && one.eq_ignore_ascii_case(two),
            _ => same_id,
        }
    }

    pub(super) fn heard(&self, name: &'static str, event: Event) -> Result<Heard, BadPayload> {
        Ok(Heard { repo: Some(self.path(name)?), default_branch: self.default_branch(), event })
    }
}

fn bad_name(event: &'static str) -> impl Fn(BadName) -> BadPayload {
    move |error| BadPayload::Shape { event, why: one_line(&error.to_string()).unwrap_or_default() }
}

impl Push {
    pub(super) fn heard(self) -> Result<Heard, BadPayload> {
        const NAME: &str = "push";
        let git_ref: RefName = self.git_ref.parse().map_err(bad_name(NAME))?;
        let after: CommitId = self.after.parse().map_err(bad_name(NAME))?;
        let before: Option<CommitId> = self.before.map(|id| id.parse()).transpose().map_err(bad_name(NAME))?;
        if after.is_zero() {
            let pushed_at = self.repository.pushed_at();
            return self.repository.heard(NAME, Event::Deleted { git_ref, tip: before, pushed_at });
        }
        if git_ref.as_branch().is_none() && git_ref.as_tag().is_none() {
            let because = format!("{} is neither a branch nor a tag", git_ref.as_str());
            return self.repository.heard(NAME, Event::Ignored { because });
        }
        if before.as_ref() == Some(&after) {
            // Gitea's test button sends this.
            let because = format!("a test: {} did not move (before and after are the same commit)", git_ref.short());
            return self.repository.heard(NAME, Event::Ignored { because });
        }
        let (head, message) = self.head_commit.map_or((None, None), |commit| (commit.id, commit.message));
        let after = match (git_ref.as_tag(), head) {
            // An annotated tag's `after` is the tag object, which takes no status; the head is its commit.
            (Some(_), Some(head)) => head.parse().map_err(bad_name(NAME))?,
            _ => after,
        };
        let message = message.unwrap_or_default();
        let push = event::Push {
            git_ref,
            before: before.filter(|id| !id.is_zero()),
            after,
            pushed_at: self.repository.pushed_at(),
            forced: self.forced.unwrap_or(false),
            skip_ci: asks_for_no_build(&message),
            title: one_line(&message),
            author: self.pusher.and_then(Person::named).or_else(|| self.sender.and_then(Person::named)),
        };
        self.repository.heard(NAME, Event::Push(push))
    }
}

impl PullRequestEvent {
    const NAME: &str = "pull_request";

    /// It has a head that nobody built yet.
    fn needs_build(self) -> Result<Heard, BadPayload> {
        let into_ours = self.is_into_ours();
        let event = Event::PullRequest(self.pull_request.needs_build(into_ours)?);
        self.repository.heard(Self::NAME, event)
    }

    /// Whether it wants to go into the very repository that the event is about.
    fn is_into_ours(&self) -> bool {
        self.pull_request.base.repo.as_ref().is_some_and(|base| base.is(&self.repository))
    }

    /// It was closed or merged.
    fn closed(self) -> Result<Heard, BadPayload> {
        let (git_ref, fork) = self.pull_request.runs_under(self.is_into_ours())?;
        let event = Event::PullRequestClosed { number: self.pull_request.number, git_ref, fork };
        self.repository.heard(Self::NAME, event)
    }
}

impl PullRequest {
    /// What a build of its head needs; `into_ours`: it wants to go into the repository that was asked about.
    pub(super) fn needs_build(self, into_ours: bool) -> Result<event::PullRequest, BadPayload> {
        const NAME: &str = PullRequestEvent::NAME;
        let (git_ref, fork) = self.runs_under(into_ours)?;
        let base_branch = RefName::branch(&self.base.git_ref).map_err(bad_name(NAME))?;
        let head = self.head.sha.unwrap_or_default().parse().map_err(bad_name(NAME))?;
        Ok(event::PullRequest {
            number: self.number,
            head,
            git_ref,
            fork,
            base_branch: base_branch.as_branch().unwrap_or_default().to_owned(),
            base: self.base.sha.and_then(|sha| sha.parse().ok()),
            title: self.title.as_deref().and_then(one_line),
            author: self.user.and_then(Person::named),
        })
    }

    /// The ref of its builds, and whether it is a fork's: by the forge's ids of the two repositories and nothing else.
    /// Who opened it, who wrote its commits and what its branch is called may be anything.
    fn runs_under(&self, into_ours: bool) -> Result<(RefName, bool), BadPayload> {
        let same = match (&self.head.repo, &self.base.repo) {
            (Some(head), Some(base)) => into_ours && head.is(base),
            _ => false,
        };
        // Gitea's AGit flow lets everybody who may read push `refs/for/…`: the head is then in the base
        // repository, but on no branch of it, and its author is a stranger.
        if !same || self.head.git_ref.starts_with("refs/") {
            return Ok((RefName::pull_request(self.number), true));
        }
        let branch = RefName::branch(&self.head.git_ref).map_err(bad_name(PullRequestEvent::NAME))?;
        Ok((branch, false))
    }
}

/// A commit as the API tells it.
#[derive(Deserialize)]
pub(super) struct ListedCommit {
    commit: Described,
    author: Option<Person>,
}

#[derive(Deserialize)]
struct Described {
    message: String,
    author: Option<Person>,
}

impl ListedCommit {
    /// Whether its message asks for no build, its first line, and its author.
    pub(super) fn words(self) -> (bool, Option<String>, Option<String>) {
        let message = self.commit.message;
        let author = self.author.and_then(Person::named).or_else(|| self.commit.author.and_then(Person::named));
        (asks_for_no_build(&message), one_line(&message), author)
    }
}

/// The words by which GitHub, Gitea and Forgejo users ask for no build.
fn asks_for_no_build(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    ["[skip ci]", "[ci skip]", "[no ci]"].iter().any(|word| message.contains(word))
}

/// The first line that says something, short and without control characters.
fn one_line(text: &str) -> Option<String> {
    let line = text.lines().map(str::trim).find(|line| !line.is_empty())?;
    let kept: String = line.chars().filter(|c| !c.is_control()).take(LONGEST_TEXT).collect();
    (!kept.is_empty()).then_some(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_that_ask_for_no_build() {
        let check = |message, expected| assert_eq!(asks_for_no_build(message), expected, "{message:?}");
        check("docs [skip ci]", true);
        check("docs\n\n[CI skip]", true);
        check("[no ci] docs", true);
        check("skip ci", false);
        check("", false);
    }

    #[test]
    fn one_line_of_hostile_text() {
        let check = |text: &str, expected: Option<&str>| assert_eq!(one_line(text).as_deref(), expected);
        check("first\nsecond", Some("first"));
        check("\n \n  late \n", Some("late"));
        check("a\u{0}\u{1b}[31mb\u{9b}", Some("a[31mb"));
        check("\u{0}", None);
        check("", None);
        check(&"é".repeat(1000), Some(&"é".repeat(LONGEST_TEXT)));
    }

    fn pull(head: &str) -> PullRequestEvent {
        let base = r#"{"ref":"main","sha":"","repo":{"id":1,"full_name":"acme/shop"}}"#;
        let sha = "a".repeat(40);
        let json = format!(
            r#"{{"pull_request":{{"number":7,"head":{{"sha":"{sha}",{head}}},"base":{base}}},
                 "repository":{{"id":1,"full_name":"acme/shop","default_branch":"main"}}}}"#
        );
        shape("pull_request", json.as_bytes()).expect("the shape of a pull request")
    }

    #[test]
    fn a_doubt_about_the_head_makes_a_fork() {
        let check = |head: &str, expected: &str, is_fork: bool| {
            let Event::PullRequest(got) = pull(head).needs_build().expect("readable").event else {
                panic!("{head} is not a pull request")
            };
            assert_eq!((got.git_ref.as_str(), got.fork), (expected, is_fork), "{head}");
        };
        check(r#""ref":"fix","repo":{"id":1,"full_name":"Acme/Shop"}"#, "refs/heads/fix", false);
        check(r#""ref":"fix","repo":{"id":1}"#, "refs/heads/fix", false);
        check(r#""ref":"fix","repo":{"id":2,"full_name":"acme/shop"}"#, "refs/pull/7/head", true);
        check(r#""ref":"fix","repo":{"id":1,"full_name":"eve/shop"}"#, "refs/pull/7/head", true);
        check(r#""ref":"fix","repo":{"full_name":"acme/shop"}"#, "refs/pull/7/head", true);
        check(r#""ref":"fix","repo":null"#, "refs/pull/7/head", true);
        check(r#""ref":"a b","repo":null"#, "refs/pull/7/head", true);
        check(r#""ref":"refs/pull/7/head","repo":{"id":1,"full_name":"acme/shop"}"#, "refs/pull/7/head", true);
        // A fork that bears our name in another case, or had it before a renaming.
        check(r#""ref":"fix","repo":{"id":2,"full_name":"ACME/Shop"}"#, "refs/pull/7/head", true);
        check(r#""ref":"fix","repo":{"id":1,"full_name":"acme/old-shop"}"#, "refs/pull/7/head", true);
        check(r#""ref":"fix","repo":{"id":null,"full_name":"acme/shop"}"#, "refs/pull/7/head", true);
        check(r#""ref":"fix","repo":{}"#, "refs/pull/7/head", true);
        check(r#""ref":"fix""#, "refs/pull/7/head", true);
        // What its author may choose says nothing.
        check(
            r#""ref":"main","label":"acme:main","user":{"login":"acme"},"repo":{"id":2,"full_name":"eve/shop"}"#,
            "refs/pull/7/head",
            true,
        );
        check(
            r#""ref":"fix","repo":{"id":2,"full_name":"eve/shop","fork":false,"owner":{"login":"acme"}}"#,
            "refs/pull/7/head",
            true,
        );
    }

    /// One event of each forge, as it sends it, with what is put in place of its own values.
    fn trust(event: &str, change: &[(&str, serde_json::Value)]) -> Option<(String, bool)> {
        let mut event: serde_json::Value = serde_json::from_str(event).expect("JSON");
        for (place, value) in change {
            *event.pointer_mut(place).unwrap_or_else(|| panic!("no {place}")) = value.clone();
        }
        let action = event["action"].as_str().expect("an action").to_owned();
        let new_commits = if action == "synchronized" { "synchronized" } else { "synchronize" };
        match pull_request(event.to_string().as_bytes(), new_commits).ok()?.event {
            Event::PullRequest(got) => Some((got.git_ref.to_string(), got.fork)),
            Event::PullRequestClosed { git_ref, fork, .. } => Some((git_ref.to_string(), fork)),
            _ => None,
        }
    }

    #[test]
    fn whose_code_it_is_is_the_forges_word() {
        use serde_json::json;
        let github = include_str!("../../tests/data/payloads/github/pull_request.opened.json");
        let gitea = include_str!("../../tests/data/payloads/gitea/05-pull_request.opened.json");
        for event in [github, gitea] {
            let whole: serde_json::Value = serde_json::from_str(event).expect("JSON");
            let number = whole["pull_request"]["number"].as_u64().expect("a number");
            let fork = Some((format!("refs/pull/{number}/head"), true));
            let branch = format!("refs/heads/{}", whole["pull_request"]["head"]["ref"].as_str().expect("a branch"));
            let (ours, id) = (whole["repository"].clone(), whole["repository"]["id"].as_i64().expect("an id"));
            let at = |end: &str| format!("/pull_request/{end}/repo");
            let (head, base, head_id) = (at("head"), at("base"), format!("{}/id", at("head")));
            let check = |story: &str, change: &[(&str, serde_json::Value)], expected: &Option<(String, bool)>| {
                assert_eq!(&trust(event, change), expected, "{story}");
            };
            check("ours", &[(&head, ours.clone())], &Some((branch.clone(), false)));
            check(
                "closed, ours",
                &[(&head, ours.clone()), ("/action", json!("closed"))],
                &Some((branch.clone(), false)),
            );
            check("another id under our name", &[(&head, ours.clone()), (&head_id, json!(id + 1))], &fork);
            check("the fork is gone", &[(&head, json!(null))], &fork);
            check("closed, the fork is gone", &[(&head, json!(null)), ("/action", json!("closed"))], &fork);
            check("where it goes is not said", &[(&head, ours.clone()), (&base, json!(null))], &fork);
            // An event on our repository, of a pull request within somebody else's.
            let theirs = json!({"id": id + 1, "full_name": "eve/shop"});
            check("both ends are theirs", &[(&head, theirs.clone()), (&base, theirs.clone())], &fork);
            let as_us = [(&*head, theirs), ("/pull_request/user", whole["repository"]["owner"].clone())];
            check("our own people opened it", &as_us, &fork);
        }
    }

    #[test]
    fn an_illegal_branch_of_our_own_is_not_the_shape() {
        let error = pull(r#""ref":"a b","repo":{"id":1}"#).needs_build().expect_err("git forbids the name");
        assert!(error.to_string().contains("pull_request event"), "{error}");
    }
}

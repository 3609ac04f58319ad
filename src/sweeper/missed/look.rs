//! One look at one repository: what the forge lists, what differs, and what becomes of that.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use crate::checkout::client::{self, CheckoutError};
use crate::checkout::{self, AskHeads, Credential, Heads, RefusalKind};
use crate::config::server::{Forge, RepoRules};
use crate::domain::event::{Event, Heard, Push};
use crate::domain::repo::{CommitId, RepoId};
use crate::domain::time::{Timestamp, brief};
use crate::forge::api::pulls::Pulls;
use crate::forge::api::{Client, PostError, Scope};
use crate::intake::{self, Arrival, Found};
use crate::store::{Delivery, Head, LookedAt, StoreError};

use super::Missed;
use super::compare::{Compared, Difference, Listing, Manner, compare};

/// For git's list of refs, as a whole and for each pause in it.
const LIST: Duration = Duration::from_secs(60);
const PATIENCE: Duration = Duration::from_secs(20);
/// Commits of which the forge is asked what they say, in one look; the others are built without a title.
const COMMITS: usize = 50;
/// What the forge's pull requests are called where they can't be asked for.
const PULLS: &str = "pull requests";

/// What is remembered of a repository from look to look. Lost with the process, which costs some requests.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// The `ETag` of the list of pull requests, once all of it was taken.
    tag: Option<String>,
    /// The open pull requests with their heads, by that list.
    pub(super) open: Option<BTreeMap<u64, CommitId>>,
    /// When the forge's own account of its deliveries was last looked at.
    pub(super) account_at: Option<Instant>,
    /// How often each failed delivery was asked for.
    pub(super) asked: HashMap<String, u32>,
}

/// Why a repository could not be looked at.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    /// git did not list it.
    #[error("{0}")]
    Git(#[from] CheckoutError),
    /// What was heard could not be read, or what was found not be written.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// It took too long.
    #[error("it was not done within {}", brief(*.0))]
    Late(Duration),
}

impl Trouble {
    /// Whether the server was not reached: then its other repositories aren't either.
    pub(super) fn is_away(&self) -> bool {
        match self {
            Trouble::Git(CheckoutError::Refused(refusal)) => {
                matches!(refusal.kind, RefusalKind::Unreachable | RefusalKind::TimedOut)
            }
            _ => false,
        }
    }
}

/// What is looked at.
pub(super) struct Subject<'s> {
    pub(super) repo: &'s RepoId,
    pub(super) forge: Arc<Forge>,
    pub(super) rules: Arc<RepoRules>,
}

impl Missed {
    /// Looks, and takes what nobody told of. Says what was looked at by now.
    pub(super) async fn look(
        &self,
        repo: &RepoId,
        rules: Arc<RepoRules>,
        before: LookedAt,
        at_once: bool,
        memory: &mut Memory,
    ) -> Result<LookedAt, Trouble> {
        let Some(forge) = self.forges.borrow().by_name.get(&repo.forge).cloned() else { return Ok(before) };
        let subject = Subject { repo, forge, rules };
        // Before the lists: what is heard from here on is newer than they are.
        let known = self.store.heads(repo).await?;
        let heads = self.heads(&subject).await?;
        let pulls = self.pulls(&subject, memory).await?;
        let (tags, polls) = (subject.rules.tags, subject.rules.poll.is_some());
        let listed = pulls.as_ref().map(|pulls| pulls.open.as_slice());
        let listing = Listing { heads: &heads, pulls: listed };
        let compared = compare(&known, &listing, Manner { before, tags, polls });
        let whole = self.take_all(&subject, &known, &heads, compared).await?;
        let has_pulls = before.pulls || pulls.is_some();
        if let Some(pulls) = pulls {
            memory.open = Some(pulls.open.iter().map(|pull| (pull.number, pull.head.clone())).collect());
            memory.tag = pulls.tag.filter(|_| whole);
        }
        self.have_sent_again(&subject, &heads, at_once, memory).await?;
        Ok(LookedAt { branches: true, tags, pulls: has_pulls })
    }

    async fn heads(&self, subject: &Subject<'_>) -> Result<Heads, CheckoutError> {
        let clone_url = &subject.rules.clone_url;
        let token = subject.forge.token.as_ref();
        let ask = AskHeads {
            clone_url: clone_url.clone(),
            credential: token.map(|token| Credential::of_token(token.expose(), clone_url)),
            network: checkout::Network { patience: PATIENCE, ..checkout::Network::from(&*self.network) },
            tags: subject.rules.tags,
        };
        client::heads(&self.exe, &ask, LIST).await
    }

    /// The open pull requests; `None` where they are as they were, or can't be asked for: then it is done without them.
    async fn pulls(&self, subject: &Subject<'_>, memory: &mut Memory) -> Result<Option<Pulls>, StoreError> {
        if subject.forge.token.is_none() {
            return Ok(None);
        }
        let (path, tag) = (subject.repo.path.clone(), memory.tag.clone());
        let asked =
            self.ask(subject, PULLS, move |client, forge| client.open_pulls(forge, &path, tag.as_deref())).await?;
        Ok(asked.flatten())
    }

    /// Asks the forge's API, unless it wants to be left alone. Where it fails, that is noted and done without.
    pub(super) async fn ask<T: Send + 'static>(
        &self,
        subject: &Subject<'_>,
        what: &'static str,
        question: impl FnOnce(&Client, &Forge) -> Result<T, PostError> + Send + 'static,
    ) -> Result<Option<T>, StoreError> {
        let Some(answer) = self.answer(subject, question).await? else { return Ok(None) };
        let why = answer.as_ref().err().map(ToString::to_string);
        let is_news = self.tally.does_without(subject.repo, what, why.clone());
        match why {
            Some(why) if is_news => tracing::warn!(repo = %subject.repo, "{what} can't be asked for: {why}"),
            None if is_news => tracing::info!(repo = %subject.repo, "{what} can be asked for again"),
            _ => {}
        }
        Ok(answer.ok())
    }

    /// The answer of the forge's API; `None` while it wants to be left alone.
    async fn answer<T: Send + 'static>(
        &self,
        subject: &Subject<'_>,
        question: impl FnOnce(&Client, &Forge) -> Result<T, PostError> + Send + 'static,
    ) -> Result<Option<Result<T, PostError>>, StoreError> {
        let name = &subject.forge.name;
        if let Some(left) = self.store.pause_of(name).await? {
            tracing::debug!(forge = %name, "is left alone for {}", brief(left));
            return Ok(None);
        }
        let (client, forge) = (Arc::clone(&self.client), Arc::clone(&subject.forge));
        let asked = tokio::task::spawn_blocking(move || question(&client, &forge)).await;
        let answer = asked.unwrap_or_else(|panic| {
            Err(PostError::Retry { after: None, scope: Scope::Request, why: format!("the question failed: {panic}") })
        });
        if let Err(error @ PostError::Retry { after: Some(after), .. }) = &answer {
            self.store.pause_forge(name, *after, &error.to_string()).await?;
        }
        Ok(Some(answer))
    }

    /// Takes all that differs, in its order; false when something is left for the next look.
    async fn take_all(
        &self,
        subject: &Subject<'_>,
        known: &[Head],
        heads: &Heads,
        compared: Compared,
    ) -> Result<bool, StoreError> {
        let Compared { noted, mut found, vanished, doubtful } = compared;
        if !noted.is_empty() {
            tracing::info!(repo = %subject.repo, heads = noted.len(), known = known.len(), "heads known from now on");
            self.store.note_heads(subject.repo, noted).await?;
        }
        let mut whole = !doubtful;
        for gone in vanished {
            match self.is_open(subject, &gone).await? {
                Some(false) => found.insert(0, gone),
                Some(true) => {}
                None => whole = false,
            }
        }
        let mut commits = COMMITS;
        for mut difference in found {
            if let Event::Push(push) = &mut difference.event
                && commits > 0
            {
                // A forge that does not answer would keep the others waiting.
                commits = if self.describe(subject, push).await? { commits - 1 } else { 0 };
            }
            whole &= self.take(subject, heads, difference).await?;
        }
        Ok(whole)
    }

    async fn is_open(&self, subject: &Subject<'_>, gone: &Difference) -> Result<Option<bool>, StoreError> {
        let Event::PullRequestClosed { number, .. } = gone.event else { return Ok(None) };
        let path = subject.repo.path.clone();
        self.ask(subject, PULLS, move |client, forge| client.is_open(forge, &path, number)).await
    }

    /// Adds what the commit says of itself: a title, and whether it asks for no build. False where the forge does not tell:
    /// it is built as if it asked for a build, since one too many is better than one that is missed.
    async fn describe(&self, subject: &Subject<'_>, push: &mut Push) -> Result<bool, StoreError> {
        if subject.forge.token.is_none() {
            return Ok(false);
        }
        let (path, sha) = (subject.repo.path.clone(), push.after.clone());
        match self.answer(subject, move |client, forge| client.commit(forge, &path, &sha)).await? {
            Some(Ok(commit)) => {
                (push.skip_ci, push.title, push.author) = (commit.skip_ci, commit.title, commit.author);
                Ok(true)
            }
            Some(Err(error)) => {
                tracing::debug!(repo = %subject.repo, %error, "a commit could not be asked for");
                Ok(false)
            }
            None => Ok(false),
        }
    }

    /// Through the same rules as a delivery; false when a newer word came meanwhile.
    async fn take(&self, subject: &Subject<'_>, heads: &Heads, difference: Difference) -> Result<bool, StoreError> {
        let Difference { event, stands_on } = difference;
        let now = Timestamp::from(SystemTime::now());
        let mut random = [0; 16];
        // Without random numbers it is the time that tells two apart; a repeat would be answered as one.
        let _ = getrandom::fill(&mut random);
        let random: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        let arrival = Arrival {
            delivery: Delivery {
                forge: subject.repo.forge.clone(),
                repo: Some(subject.repo.path.clone()),
                id: format!("sweep-{}-{random}", now.0),
                event: "sweep".to_owned(),
                received_at: now,
                body_bytes: 0,
                body_sha256: [0; 32],
            },
            heard: Heard {
                repo: Some(subject.repo.path.clone()),
                default_branch: heads.default_branch.as_ref().and_then(|name| name.as_branch()).map(str::to_owned),
                event: event.clone(),
            },
            rules: Some(Arc::clone(&subject.rules)),
            context: self.statuses.borrow().context.clone(),
            found: Some(Found { stands_on }),
        };
        let accepted = intake::take(&self.store, arrival).await?;
        if accepted.ignored.as_deref() == Some(intake::OUTRUN) {
            return Ok(false);
        }
        self.tally.found(&event);
        let builds: Vec<i64> = accepted.builds.iter().map(|build| build.0).collect();
        let what = accepted.ignored.as_deref().unwrap_or("a build");
        tracing::info!(repo = %subject.repo, happened = %told(&event), ?builds, "found by the sweep: {what}");
        Ok(true)
    }
}

/// An event in a few words.
fn told(event: &Event) -> String {
    match event {
        Event::Push(push) => format!("{} is at {}", push.git_ref.short(), push.after.short()),
        Event::Deleted { git_ref, .. } => format!("{} is gone", git_ref.short()),
        Event::PullRequest(pull) => format!("pull request {} is at {}", pull.number, pull.head.short()),
        Event::PullRequestClosed { number, .. } => format!("pull request {number} is closed"),
        Event::Ignored { because } => because.clone(),
    }
}

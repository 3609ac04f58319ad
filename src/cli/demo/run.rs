//! The stage (repositories, forge, server) and what is played on it: pushes, one after another.

use std::future::Future;
use std::path::Path;
use std::pin::pin;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedReceiver;

use crate::domain::build::{Build, BuildId};
use crate::domain::outcome::Outcome;
use crate::domain::repo::CommitId;
use crate::domain::status::{Status, StatusState};

use super::author::Author;
use super::follow::{Heard, follow};
use super::forge::{Forge, Push, Pushed, Received};
use super::prerequisites::Ready;
use super::sample::Condition;
use super::server::{Server, Settings};
use super::terminal::{Key, Keyboard};
use super::tools::share_bower;
use super::{Args, DemoError, Ending, random_hex, story};
use crate::cli::lanes::Lanes;

/// How long the forge waits for the final status after the build's end: the reporter may have to try again.
pub(super) const STATUS_LIMIT: Duration = Duration::from_secs(20);
/// No answer of our own server takes longer, apart from the stream of events.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);
/// The context of the build's own status.
const CONTEXT: &str = "hookmill";

/// Sets the stage, plays, and takes everything down again, whatever happened. `None` when `interrupted` came first.
pub(super) async fn stage(
    args: &Args,
    ready: &Ready,
    folder: &Path,
    interactive: bool,
    interrupted: impl Future<Output = ()>,
) -> Result<Option<Ending>, DemoError> {
    let mut interrupted = pin!(interrupted);
    let lanes = Lanes::new(interactive);
    lanes.say(&story::prerequisites(&ready.items));
    let bower = tokio::select! {
        bower = share_bower(folder) => bower,
        () = &mut interrupted => return Ok(None),
    };
    if let Some(bower) = &bower {
        lanes.say(&story::prerequisite("bower", &format!("{}, the agent's own", bower.version)));
    }

    let secrets = (random_hex(), random_hex());
    let (hook_secret, forge_token) = (&secrets.0, &secrets.1);
    let (sender, heard) = tokio::sync::mpsc::unbounded_channel();
    let forge =
        Forge::start(&folder.join("repositories"), forge_token.clone(), sender).await.map_err(DemoError::Forge)?;
    let forge = Arc::new(forge);
    let author = Author::set_up(forge.clone())?;
    let http = http();
    let settings = Settings {
        folder,
        port: args.port,
        forge_url: forge.url(),
        hook_secret,
        forge_token,
        ready,
        path: bower.map(|bower| bower.path),
    };

    let mut server = tokio::select! {
        started = Server::start(&settings, &http) => started?,
        () = &mut interrupted => return Ok(None),
    };
    let told = {
        let keyboard = if interactive { Keyboard::open().ok() } else { None };
        let (_restored_at_the_end, keys) = keyboard.unzip();
        let mut play = Play { http, hook_secret, forge, author, server: &server, lanes, heard, keys };
        play.lanes.say(&elsewhere(server.url(), play.forge.url()));
        tokio::select! {
            told = play.all(args.broken) => told.map(Some),
            () = &mut interrupted => Ok(None),
        }
    };
    // The forge still answers now, so that the server can send what it has to say.
    server.stop().await;
    told
}

/// Everything is on loopback: a proxy of the environment has no part in it.
fn http() -> ureq::Agent {
    ureq::Agent::config_builder()
        .proxy(None)
        .http_status_as_error(false)
        .timeout_connect(Some(ANSWER_LIMIT))
        .timeout_recv_response(Some(ANSWER_LIMIT))
        .build()
        .into()
}

fn elsewhere(server: &str, forge: &str) -> String {
    let port = |url: &'_ str| url.rsplit(':').next().unwrap_or_default().to_owned();
    let user = std::env::var("USER").or_else(|_| std::env::var("LOGNAME")).ok();
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let connection = std::env::var("SSH_CONNECTION").ok();
    story::from_elsewhere([&port(server), &port(forge)], connection.as_deref(), user.as_deref(), &host)
}

/// What is played on the stage.
struct Play<'a> {
    http: ureq::Agent,
    hook_secret: &'a str,
    forge: Arc<Forge>,
    author: Author,
    server: &'a Server,
    lanes: Lanes,
    /// Statuses as the forge gets them.
    heard: UnboundedReceiver<Received>,
    /// `None` when there is nobody to press keys: then one push is all.
    keys: Option<UnboundedReceiver<Key>>,
}

impl Play<'_> {
    async fn all(&mut self, broken: bool) -> Result<Ending, DemoError> {
        let mut condition = if broken { Condition::Broken } else { Condition::Sound };
        loop {
            let (before, pushed) = self.author.commit(condition)?;
            let build = self.deliver(before, &pushed).await?;
            let Some((ended, link)) = self.watch(build, &pushed.commit).await? else { return Ok(Ending::Quit) };
            self.tell(&ended, &link);
            if self.keys.is_none() {
                return Ok(Ending::Built(ended.outcome.unwrap_or(Outcome::Broken)));
            }
            self.lanes.say(story::KEYS);
            match self.next_push(&link.target_url).await {
                Some(next) => condition = next,
                None => return Ok(Ending::Quit),
            }
        }
    }

    /// The push, and what the hook answers to it.
    async fn deliver(&mut self, before: CommitId, pushed: &Pushed) -> Result<BuildId, DemoError> {
        self.lanes.say(&format!("\n{}", story::push(pushed)));
        let (forge, http, hook) = (self.forge.clone(), self.http.clone(), self.server.hook());
        let (secret, before, after) = (self.hook_secret.to_owned(), before, pushed.clone());
        let delivered = tokio::task::spawn_blocking(move || {
            let push = Push { before: &before, after: &after, modified: &["src/cart.js", "src/headline.js"] };
            forge.deliver(&http, &hook, &secret, &push)
        });
        let answer = delivered.await.expect("a delivery does not panic and is not aborted")?;
        self.lanes.say(&story::answer(&answer, self.server.url()));
        answer.build.ok_or(DemoError::NoBuild { code: answer.code, body: answer.body })
    }

    /// Shows a build while it runs, until it has ended and the forge knows. `None` when the person wants the end.
    async fn watch(&mut self, build: BuildId, commit: &CommitId) -> Result<Option<(Build, Received)>, DemoError> {
        let mut events = follow(&self.http, self.server.url(), build);
        let mut ended: Option<Build> = None;
        let mut last_word: Option<Received> = None;
        let mut limit = pin!(tokio::time::sleep(Duration::MAX));
        loop {
            if let (Some(_), Some(_)) = (&ended, &last_word) {
                self.lanes.clear();
                return Ok(ended.zip(last_word));
            }
            tokio::select! {
                heard = events.recv(), if ended.is_none() => match heard {
                    Some(Heard::Step(step)) => self.lanes.step(&step),
                    Some(Heard::Line { step, text }) => self.lanes.line(&step, &text),
                    Some(Heard::End(build)) => {
                        ended = Some(*build);
                        limit.set(tokio::time::sleep(STATUS_LIMIT));
                    }
                    Some(Heard::Broke(why)) => return Err(DemoError::Lost { build, why, tail: self.server.log_tail() }),
                    None => {
                        let why = "its events stopped".to_owned();
                        return Err(DemoError::Lost { build, why, tail: self.server.log_tail() });
                    }
                },
                Some(received) = self.heard.recv() => {
                    let Received { commit: named, status: Status { context, state, .. }, .. } = &received;
                    if context == CONTEXT && named == commit && *state != StatusState::Pending {
                        last_word = Some(received);
                    } else {
                        self.lanes.say(&story::meanwhile(&received));
                    }
                },
                key = next_key(&mut self.keys) => match key {
                    Key::Quit => return Ok(None),
                    Key::Open => open(&format!("{}/builds/{build}", self.server.url())),
                    Key::Push | Key::Break | Key::Fix => self.lanes.say("one build at a time: press it again when this one has ended"),
                },
                () = &mut limit => return Err(DemoError::NoStatus { build, tail: self.server.log_tail() }),
            }
        }
    }

    fn tell(&self, build: &Build, last_word: &Received) {
        if let Some(line) = story::beside(&build.steps) {
            self.lanes.say(&line);
        }
        self.lanes.say(&story::status(last_word));
        self.lanes.say(&format!("page: {}", last_word.target_url));
        self.lanes.say(&format!("forge: {}", self.forge.page()));
        self.lanes.say(&story::build(build));
    }

    /// Waits for a key that asks for a push; `None` at q.
    async fn next_push(&mut self, page: &str) -> Option<Condition> {
        loop {
            match next_key(&mut self.keys).await {
                Key::Push | Key::Fix => return Some(Condition::Sound),
                Key::Break => return Some(Condition::Broken),
                Key::Open => open(page),
                Key::Quit => return None,
            }
        }
    }
}

/// The next key; a terminal that is gone means the end.
async fn next_key(keys: &mut Option<UnboundedReceiver<Key>>) -> Key {
    match keys {
        Some(keys) => keys.recv().await.unwrap_or(Key::Quit),
        None => std::future::pending().await,
    }
}

/// Opens a page in the person's browser, if there is one; the address is on the screen anyway.
fn open(url: &str) {
    let program = if cfg!(target_os = "macos") { "open" } else { "xdg-open" };
    let mut command = tokio::process::Command::new(program);
    // Dropped, not waited for: tokio reaps it in the background.
    drop(command.arg(url).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn());
}

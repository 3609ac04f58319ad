//! A store with builds in it, and senders that are in more of a hurry than a server's.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hookmill::config::load;
use hookmill::config::server::{Forges, Network, Web};
use hookmill::config::surroundings::Surroundings;
use hookmill::domain::build::BuildId;
use hookmill::domain::event::{Event, Heard, Push};
use hookmill::domain::link::InstanceKey;
use hookmill::domain::outcome::{Outcome, Verdict};
use hookmill::domain::repo::{RefName, RepoId};
use hookmill::domain::status::{Status, StatusState};
use hookmill::domain::time::Timestamp;
use hookmill::forge::api::Client;
use hookmill::intake::{self, Arrival};
use hookmill::reporter::{Pace, Reporter};
use hookmill::store::{self, Claimed, Options, Store};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::support::forge::{Forge, HOOK_SECRET, Kind, TOKEN};

/// A claim of these tests holds until their end.
const LEASE: Duration = Duration::from_secs(600);

/// A store in a folder of its own, and the settings of a server for one fake forge.
pub(crate) struct Bench {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) store: Store,
    pub(crate) forges: Arc<Forges>,
    web: Arc<Web>,
}

/// Senders in a hurry: what a server does in minutes, in fractions of a second.
pub(crate) fn hurry() -> Pace {
    Pace {
        first_wait: Duration::from_millis(20),
        longest_wait: Duration::from_millis(150),
        refused_wait: Duration::from_millis(200),
        longest_refused_wait: Duration::from_millis(400),
        poll: Duration::from_millis(20),
        lingers: Duration::from_millis(30),
        ..Pace::default()
    }
}

impl Bench {
    pub(crate) async fn with(forge: &Forge) -> Bench {
        let folder = tempfile::tempdir().expect("a folder");
        let config = folder.path().join("hookmill.toml");
        let mut text = String::from("[server]\npublic_url = \"http://127.0.0.1:1\"\n");
        for kind in [Kind::Gitea, Kind::Github] {
            let (name, api) = (kind.name(), forge.api_url(kind));
            text.push_str(&format!(
                "[[forge]]\nname = \"{name}\"\nkind = \"{name}\"\nweb_url = \"{api}\"\napi_url = \"{api}\"\n\
                 token = \"{TOKEN}\"\n[[repo]]\nforge = \"{name}\"\nname = \"acme/*\"\nhook_secret = \"{HOOK_SECRET}\"\n"
            ));
        }
        std::fs::write(&config, text).expect("written");
        let around = Surroundings { env: BTreeMap::new(), ..Surroundings::of_this_process().expect("a directory") };
        let loaded = load::load(Some(&config), &around).expect("a good configuration");
        let store = open(&folder.path().join("hookmill.db")).await;
        Bench { folder, store, forges: loaded.server.forges, web: loaded.server.web }
    }

    /// A sender, which ends with its token.
    pub(crate) fn sender(&self, name: &str, pace: Pace) -> Reporter {
        Reporter {
            store: self.store.clone(),
            forges: watch::Sender::new(Arc::clone(&self.forges)).subscribe(),
            client: Arc::new(Client::new(&Network::default())),
            web: Arc::clone(&self.web),
            links: InstanceKey::new(self.store.link_key()),
            sender: name.to_owned(),
            pace,
        }
    }

    /// Queues a build of a commit, which says `pending`.
    pub(crate) async fn queue(&self, kind: Kind, repo: &str, branch: &str, sha: &str) -> BuildId {
        let repo = RepoId { forge: kind.name().parse().expect("legal"), path: repo.parse().expect("legal") };
        let rules = self.forges.rules(&repo).map(Arc::new);
        let mut random = [0; 8];
        getrandom::fill(&mut random).expect("random bytes");
        let push = Push {
            git_ref: RefName::branch(branch).expect("legal"),
            before: None,
            after: sha.parse().expect("a commit"),
            pushed_at: None,
            forced: false,
            skip_ci: false,
            title: None,
            author: None,
        };
        let heard =
            Heard { repo: Some(repo.path.clone()), default_branch: Some("main".to_owned()), event: Event::Push(push) };
        let delivery = store::Delivery {
            forge: repo.forge,
            repo: Some(repo.path),
            id: format!("{random:?}"),
            event: "push".to_owned(),
            received_at: Timestamp(0),
            body_bytes: 2,
            body_sha256: [0; 32],
        };
        let arrival = Arrival { delivery, heard, rules, found: None, context: "hookmill".to_owned() };
        let accepted = intake::take(&self.store, arrival).await.expect("taken");
        *accepted.builds.first().unwrap_or_else(|| panic!("no build: {accepted:?}"))
    }

    pub(crate) async fn claim(&self) -> Claimed {
        self.store.claim("agent", LEASE).await.expect("store").expect("a queued build")
    }

    /// Says something of a claimed build that is not its end.
    pub(crate) async fn say(&self, claimed: &Claimed, sentence: &str) {
        let pending = Status { context: "hookmill".into(), state: StatusState::Pending, sentence: sentence.into() };
        self.store.report(&claimed.claim, &[pending]).await.expect("store");
    }

    /// Ends a claimed build.
    pub(crate) async fn finish(&self, claimed: &Claimed, outcome: Outcome, sentence: &str) {
        let last = Status { context: "hookmill".into(), state: outcome.into(), sentence: sentence.into() };
        let verdict = Verdict::new(outcome, sentence);
        assert!(self.store.finish(&claimed.claim, &verdict, &[last]).await.expect("store"), "the claim holds");
    }
}

pub(crate) async fn open(path: &Path) -> Store {
    Store::open(path, Options::default()).await.expect("opens")
}

/// Runs a sender in the background until the token is cancelled.
pub(crate) fn run(sender: Reporter) -> (CancellationToken, tokio::task::JoinHandle<()>) {
    let stop = CancellationToken::new();
    let task = tokio::spawn(sender.run(stop.clone()));
    (stop, task)
}

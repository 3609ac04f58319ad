//! The person who works on the sample: writes its repositories at the forge and commits to it.

use std::sync::Arc;
use std::time::SystemTime;

use crate::domain::repo::CommitId;
use crate::domain::time::Timestamp;

use super::forge::{Forge, Pushed, REPOSITORY};
use super::repository::{self, Message};
use super::sample::{Condition, components, shop};

/// Releases of components were made the day before.
const DAY_SECONDS: i64 = 24 * 60 * 60;

/// Commits to the sample at a forge.
pub(super) struct Author {
    forge: Arc<Forge>,
    /// The tip of `main`.
    tip: CommitId,
    commits: usize,
}

impl Author {
    /// Writes the bower components and the sample with its first commit, which was there before the hook.
    pub(super) fn set_up(forge: Arc<Forge>) -> Result<Self, git2::Error> {
        for component in components(&components_url(&forge)) {
            let repository = repository::create(&forge.repository(&format!("bower/{}", component.name)))?;
            for release in &component.releases {
                let subject = format!("Release {}", release.version);
                let message = Message { subject: &subject, seconds: now().0 / 1000 - DAY_SECONDS };
                repository::commit(&repository, &release.tree, &message)?;
                repository::tag(&repository, release.version)?;
            }
        }
        repository::create(&forge.repository(REPOSITORY))?;
        let first = write(&forge, "Open the shop", 0, Condition::Sound)?;
        forge.remember(first.clone());
        Ok(Self { forge, tip: first.commit, commits: 0 })
    }

    /// Commits on top of `main`, and gives the tip before and the new commit.
    pub(super) fn commit(&mut self, condition: Condition) -> Result<(CommitId, Pushed), git2::Error> {
        self.commits += 1;
        let subject = match (condition, self.commits) {
            (Condition::Broken, _) => "Import a file that is not there".to_owned(),
            (Condition::Sound, 1) => "Greet with a headline".to_owned(),
            (Condition::Sound, number) => format!("Say in the headline that this is push {number}"),
        };
        let pushed = write(&self.forge, &subject, self.commits, condition)?;
        self.forge.remember(pushed.clone());
        Ok((std::mem::replace(&mut self.tip, pushed.commit.clone()), pushed))
    }
}

fn write(forge: &Forge, subject: &str, number: usize, condition: Condition) -> Result<Pushed, git2::Error> {
    let at = now();
    let tree = shop(&components_url(forge), number, condition);
    let repository = git2::Repository::open_bare(forge.repository(REPOSITORY))?;
    let commit = repository::commit(&repository, &tree, &Message { subject, seconds: at.0 / 1000 })?;
    Ok(Pushed { commit, subject: subject.to_owned(), at })
}

fn components_url(forge: &Forge) -> String {
    format!("{}/bower", forge.url())
}

fn now() -> Timestamp {
    Timestamp::from(SystemTime::now())
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::process::Command;

    use super::*;

    fn git(arguments: &[&str], folder: &Path) -> String {
        let output = Command::new("git").args(arguments).current_dir(folder).output().expect("git is there");
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_is_committed_can_be_cloned_and_gets_statuses() {
        let folder = tempfile::tempdir().expect("a folder");
        let (sender, mut heard) = tokio::sync::mpsc::unbounded_channel();
        let forge = Forge::start(&folder.path().join("repositories"), "right".into(), sender).await.expect("started");
        let forge = Arc::new(forge);
        let mut author = Author::set_up(forge.clone()).expect("written");
        let (before, pushed) = author.commit(Condition::Broken).expect("committed");
        assert_ne!(before, pushed.commit);

        let clone = tokio::task::spawn_blocking({
            let (url, folder) = (forge.page(), folder.path().to_owned());
            move || {
                git(&["clone", "--quiet", &format!("{url}.git"), "clone"], &folder);
                git(&["rev-parse", "HEAD"], &folder.join("clone"))
            }
        });
        assert_eq!(clone.await.expect("cloned"), pushed.commit.as_str());
        assert!(folder.path().join("clone/src/cart.js").exists());

        let tags = tokio::task::spawn_blocking({
            let (url, folder) = (format!("{}/bower/shop-charts.git", forge.url()), folder.path().to_owned());
            move || git(&["ls-remote", "--tags", &url], &folder)
        });
        assert_eq!(tags.await.expect("listed").lines().count(), 4);

        let post = |token: &'static str| {
            let url = format!("{}/api/v1/repos/{REPOSITORY}/statuses/{}", forge.url(), pushed.commit);
            let body = r#"{"context":"hookmill","state":"failure","description":"No","target_url":"http://h/1"}"#;
            tokio::task::spawn_blocking(move || {
                let http: ureq::Agent =
                    ureq::Agent::config_builder().proxy(None).http_status_as_error(false).build().into();
                let sent = http.post(url).header("Authorization", format!("token {token}"));
                sent.content_type("application/json").send(body).expect("answered").status().as_u16()
            })
        };
        assert_eq!(post("wrong").await.expect("posted"), 401);
        assert_eq!(post("right").await.expect("posted"), 201);
        let received = heard.recv().await.expect("told");
        assert_eq!((received.status.sentence.as_str(), received.target_url.as_str()), ("No", "http://h/1"));
        assert!(heard.try_recv().is_err(), "a wrong token changes nothing");
    }
}

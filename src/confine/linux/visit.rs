//! A fence in which nothing is built: what another root's programs say of themselves is asked there, never on this machine.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use super::holder::Holder;
use super::probe::Trial;
use crate::confine::{HolderError, Layers, Mode};
use crate::domain::spec::{Network, StepCommand};
use crate::domain::view::{HOME_DIR, Stack, View};

/// A program that does not answer within this time says nothing.
const PATIENCE: Duration = Duration::from_secs(10);

/// A holder in another root.
#[derive(Debug)]
pub struct Visit {
    holder: Holder,
    /// Removed with it.
    _dirs: Trial,
}

impl Visit {
    /// Enters the root: `exe` is this binary, `dir` a directory that can be written.
    ///
    /// # Errors
    /// When this host gives no fence, or the root can't be shown in it.
    pub async fn begin(exe: &Path, layers: &Layers, dir: &Path, root: &Path) -> Result<Visit, HolderError> {
        if layers.mode() == Mode::Bare {
            return Err(HolderError::Refused(format!(
                "show {} to steps as their root: this agent's sandbox is {}",
                root.display(),
                layers.name()
            )));
        }
        let dirs = Trial::new(dir)?;
        let tree = Stack::plain(dirs.view.tree.joined.clone());
        let view = View { tree, root: Some(root.to_owned()), ..dirs.view.clone() };
        let holder = Holder::open(exe, layers, &view).await?;
        Ok(Visit { holder, _dirs: dirs })
    }

    /// What a program prints with this `PATH`, without spaces around it; `None` when it fails, or is not there.
    pub async fn ask(&self, program: &Path, arguments: &[&str], path: &str) -> Option<String> {
        // What it complains of is no answer, and both would come through one pipe.
        let mut argv = ["/bin/sh", "-c", "exec \"$@\" 2> /dev/null", "sh"].map(str::to_owned).to_vec();
        argv.push(program.to_str()?.to_owned());
        argv.extend(arguments.iter().map(|argument| (*argument).to_owned()));
        let env = [("PATH", path), ("HOME", HOME_DIR), ("TMPDIR", "/tmp"), ("LANG", "C.UTF-8")];
        let command = StepCommand {
            argv,
            env: BTreeMap::from(env.map(|(name, value)| (name.to_owned(), value.to_owned()))),
            dir: ".".to_owned(),
            network: Network::Closed,
            processes: 512,
            memory: 4 << 30,
            cpus: None,
        };
        let mut running = self.holder.start(&command).await.ok()?;
        let Ok((said, how)) = tokio::time::timeout(PATIENCE, running.heard()).await else {
            running.kill();
            return None;
        };
        how.is_success().then(|| String::from_utf8(said).ok()).flatten().map(|text| text.trim().to_owned())
    }

    /// Leaves it.
    pub async fn end(self) {
        self.holder.close().await;
    }
}

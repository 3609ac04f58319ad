//! Without Linux there is no fence: steps are plain children in a process group of their own.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use super::{Cgroup, HolderError, Layers, Missing};
use crate::domain::spec::StepCommand;
use crate::domain::view::View;
use crate::process::{Running, Spawn, spawn};

/// Says that there is nothing to try.
///
/// # Errors
/// Never; the signature is that of Linux.
pub async fn probe(_exe: &Path, dir: &Path) -> io::Result<Layers> {
    Ok(Layers::none("namespaces are a matter of Linux").on(dir))
}

/// As [`probe`], for another reason.
///
/// # Errors
/// Never.
pub async fn probe_bare(_exe: &Path, dir: &Path, why: &str) -> io::Result<Layers> {
    Ok(Layers::none(why).on(dir))
}

/// Always the same.
///
/// # Errors
/// Always: there are no control groups.
pub fn look_for_cgroup() -> Result<Cgroup, Missing> {
    Err(Missing("control groups are a matter of Linux".to_owned()))
}

/// As [`look_for_cgroup`].
///
/// # Errors
/// Always.
pub fn take_cgroup() -> Result<Cgroup, Missing> {
    look_for_cgroup()
}

/// There is no other root to enter.
#[derive(Debug)]
pub struct Visit(std::convert::Infallible);

impl Visit {
    /// Says that there is none.
    ///
    /// # Errors
    /// Always.
    pub async fn begin(_exe: &Path, _layers: &Layers, _dir: &Path, root: &Path) -> Result<Visit, HolderError> {
        Err(HolderError::Refused(format!("show {} to steps as their root: that is a matter of Linux", root.display())))
    }

    /// Nobody is there to ask.
    pub async fn ask(&self, _program: &Path, _arguments: &[&str], _path: &str) -> Option<String> {
        match self.0 {}
    }

    /// Nobody is there to leave.
    pub async fn end(self) {
        match self.0 {}
    }
}

/// Starts a build's steps, without a process of its own.
#[derive(Debug, Default)]
pub struct Holder {
    tree: OnceLock<PathBuf>,
}

impl Holder {
    /// Nothing to start.
    ///
    /// # Errors
    /// Never.
    pub async fn start_early(_exe: &Path, _layers: &Layers) -> Result<Holder, HolderError> {
        Ok(Self::default())
    }

    /// Remembers where steps run.
    ///
    /// # Errors
    /// When a view was given before.
    pub async fn mount(&self, view: &View) -> Result<(), HolderError> {
        self.tree.set(view.tree.shown().to_owned()).map_err(|_| HolderError::Refused("mount a second view".into()))
    }

    /// Both in one.
    ///
    /// # Errors
    /// As both.
    pub async fn open(exe: &Path, layers: &Layers, view: &View) -> Result<Holder, HolderError> {
        let holder = Self::start_early(exe, layers).await?;
        holder.mount(view).await?;
        Ok(holder)
    }

    /// Always `None`: there are no networks of one's own.
    ///
    /// # Errors
    /// Never.
    pub async fn start_with_door(
        &self,
        _command: &StepCommand,
        _doors: &[std::net::SocketAddr],
    ) -> Result<Option<(Running, Vec<std::net::TcpListener>)>, HolderError> {
        Ok(None)
    }

    /// Starts a step.
    ///
    /// # Errors
    /// When its program can't be started.
    pub async fn start(&self, command: &StepCommand) -> Result<Running, HolderError> {
        let tree = self.tree.get().ok_or_else(|| HolderError::Refused("start a step before its view".into()))?;
        let step = Spawn { argv: command.argv.clone(), env: command.env.clone(), dir: tree.join(&command.dir) };
        spawn(&step).map_err(|error| HolderError::Start {
            program: command.argv.first().cloned().unwrap_or_default(),
            why: error.to_string(),
        })
    }

    /// Each step was ended with its [`Running`]; nothing is left.
    pub async fn close(self) {}

    /// There is no process of its own.
    pub fn pid(&self) -> Option<u32> {
        None
    }

    /// What is not there can't be lost.
    pub fn is_lost(&self) -> bool {
        false
    }
}

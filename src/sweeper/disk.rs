//! Room on the disk: what can be spared goes while there is too little, and the reserve is held while there is enough.

use std::time::{Duration, SystemTime};

use tokio_util::sync::CancellationToken;

use super::Sweeper;
use crate::checkout;
use crate::disk::{Level, Look};
use crate::domain::time::Timestamp;
use crate::tree;

/// How often the disk is looked at; a fast one is filled with a gigabyte in that time.
const LOOK: Duration = Duration::from_secs(1);
/// How long to wait before what can be spared is looked for again, where that was not enough.
const AGAIN: Duration = Duration::from_secs(30);
/// A tool that nobody used for so long can be fetched again.
const UNUSED_TOOL: Duration = Duration::from_secs(24 * 60 * 60);

impl Sweeper {
    /// Looks at the disk until `stop`, and at once when somebody asks: stops a build that fills it, gives the reserve up
    /// and holds it again, and removes what can be spared.
    pub async fn keep_room(self, stop: CancellationToken) {
        let mut level = Level::Fine;
        let mut spared: Option<tokio::time::Instant> = None;
        while !stop.is_cancelled() {
            let look = self.relieve();
            if let Some(look) = &look {
                tell(level, look);
                level = look.level;
            }
            let look = look.filter(|look| look.level > Level::Fine);
            if let Some(look) = look.filter(|_| spared.is_none_or(|at| at.elapsed() >= AGAIN)) {
                self.spare(&look).await;
                spared = Some(tokio::time::Instant::now());
            } else if level == Level::Fine {
                spared = None;
                self.hold_reserve();
            } else {
                self.empty_trash().await;
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                () = self.disk.asked() => {}
                () = stop.cancelled() => {}
            }
        }
    }

    /// Looks at the disk and does what can't wait: a build that fills it is told to stop, and the reserve is given up.
    pub(super) fn relieve(&self) -> Option<Look> {
        let look = match self.disk.look() {
            Ok(look) => look,
            Err(error) => {
                tracing::warn!(%error, "the disk of the data directory could not be looked at");
                return None;
            }
        };
        if look.level >= Level::Critical
            && let Some((folder, bytes)) = self.disk.stop_largest()
        {
            tracing::error!(folder = %folder.display(), bytes, "the disk is almost full: the build that takes most is stopped");
        }
        if look.level == Level::Spent && self.disk.give_reserve() {
            tracing::warn!("the disk is full: the reserve is given up");
        }
        Some(look)
    }

    fn hold_reserve(&self) {
        match self.disk.hold_reserve() {
            Ok(false) => {}
            Ok(true) => tracing::info!("a reserve is held on the disk"),
            Err(error) => tracing::warn!(%error, "no reserve can be held on the disk"),
        }
    }

    /// Removes what can be spared, the cheapest first, until there is room: the trash, what is too old or over its quota,
    /// tools, snapshots and mirrors that were not used lately.
    async fn spare(&self, look: &Look) {
        self.empty_trash().await;
        if let Err(error) = self.remove_old(Timestamp::from(SystemTime::now())).await {
            tracing::warn!(%error, "what is too old could not be removed");
        }
        self.collect_tools(UNUSED_TOOL).await;
        // What was removed lies in the trash until that is emptied, so each look follows it.
        for kind in [Kept::Snapshots, Kept::Mirrors] {
            self.empty_trash().await;
            let missing = self.missing(look);
            if missing == 0 {
                return;
            }
            let inodes_only = look.level > Level::Fine && self.disk.missing(&look.room) == 0;
            match kind {
                // Inodes have no sizes: half of what is kept has about half of them.
                Kept::Snapshots if inodes_only => self.collect_snapshots(self.kept_bytes(kind).await / 2).await,
                Kept::Snapshots => self.collect_snapshots(self.kept_bytes(kind).await.saturating_sub(missing)).await,
                Kept::Mirrors => self.collect_mirrors(self.kept_bytes(kind).await.saturating_sub(missing)).await,
            }
        }
        self.empty_trash().await;
    }

    /// Bytes that are still missing; something where only inodes are.
    fn missing(&self, look: &Look) -> u64 {
        match self.disk.look() {
            Ok(now) if now.level == Level::Fine => self.disk.missing(&now.room),
            Ok(now) => self.disk.missing(&now.room).max(1),
            Err(_) => self.disk.missing(&look.room),
        }
    }

    async fn empty_trash(&self) {
        let trash = self.data_dir.join("trash");
        if let Ok(Err(error)) = tokio::task::spawn_blocking(move || tree::empty_trash(&trash)).await {
            tracing::warn!(%error, "the trash could not be emptied");
        }
    }

    async fn kept_bytes(&self, kind: Kept) -> u64 {
        let (cache, mirrors) = (self.cache.clone(), self.data_dir.join("mirrors"));
        let counted = tokio::task::spawn_blocking(move || match kind {
            Kept::Snapshots => cache.bytes(),
            Kept::Mirrors => checkout::mirrored_bytes(&mirrors),
        });
        // Where nothing is known nothing is removed.
        counted.await.unwrap_or(u64::MAX)
    }
}

/// What is kept to make later builds faster.
#[derive(Clone, Copy)]
enum Kept {
    Snapshots,
    Mirrors,
}

/// One line when it changes.
fn tell(before: Level, now: &Look) {
    match (before, now.level) {
        (before, now) if before == now => {}
        (_, Level::Fine) => tracing::info!(disk = now.words, "there is room on the disk again: builds are started"),
        _ => tracing::warn!(disk = now.words, "there is little room on the disk: no build is started"),
    }
}

//! How much a commit may bring, counted before the first file is written.
//!
//! Twenty objects are enough to describe a tree of 10^9 files (a "git bomb"): libgit2 would hold
//! all of it in memory before it wrote one. Here the walk ends at the limit.

use serde::{Deserialize, Serialize};

use super::Refusal;
use crate::domain::spec::Limits;

/// No file of a tree may be larger: git keeps a file in memory as a whole, and its forges stop far below.
pub(super) const MAX_FILE: u64 = 256 << 20;

/// The bounds of a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Budget {
    /// Files, and as many folders again.
    pub files: u64,
    /// Bytes of all files.
    pub bytes: u64,
    /// Folders within folders.
    pub depth: usize,
    /// Bytes of one path.
    pub path_bytes: usize,
}

impl From<&Limits> for Budget {
    fn from(limits: &Limits) -> Self {
        // Depth and path length are what Linux (`PATH_MAX`, 4096) and the tools that run later bear.
        Budget { files: limits.checkout_files, bytes: limits.checkout_bytes, depth: 100, path_bytes: 4000 }
    }
}

/// What a tree holds: kept with a workspace, so that the next commit is counted from the difference.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Totals {
    pub(super) files: u64,
    pub(super) folders: u64,
    pub(super) bytes: u64,
}

/// Counts while a tree is walked, and ends the walk at the limit.
pub(super) struct Meter {
    budget: Budget,
    before: Totals,
    added: Totals,
    removed: Totals,
}

impl Meter {
    pub(super) fn new(budget: Budget, before: Totals) -> Self {
        Meter { budget, before, added: Totals::default(), removed: Totals::default() }
    }

    pub(super) fn budget(&self) -> &Budget {
        &self.budget
    }

    pub(super) fn add_file(&mut self, bytes: u64) -> Result<(), Refusal> {
        self.added.files += 1;
        self.added.bytes = self.added.bytes.saturating_add(bytes);
        // All that was added is in the new tree, so this can only be too strict by nothing.
        self.within(self.added)
    }

    pub(super) fn add_folder(&mut self) -> Result<(), Refusal> {
        self.added.folders += 1;
        self.within(self.added)
    }

    pub(super) fn remove_file(&mut self, bytes: u64) {
        self.removed.files += 1;
        self.removed.bytes = self.removed.bytes.saturating_add(bytes);
    }

    pub(super) fn remove_folder(&mut self) {
        self.removed.folders += 1;
    }

    /// What the new tree holds, when it is within the budget.
    pub(super) fn finish(&self) -> Result<Totals, Refusal> {
        let sum =
            |part: fn(&Totals) -> u64| (part(&self.before) + part(&self.added)).saturating_sub(part(&self.removed));
        let totals = Totals { files: sum(|t| t.files), folders: sum(|t| t.folders), bytes: sum(|t| t.bytes) };
        self.within(totals)?;
        Ok(totals)
    }

    fn within(&self, totals: Totals) -> Result<(), Refusal> {
        let Budget { files, bytes, .. } = self.budget;
        if totals.files > files {
            return Err(Refusal::too_much(format_args!("more than {files} files (limits.checkout_files)")));
        }
        if totals.folders > files {
            return Err(Refusal::too_much(format_args!("more than {files} folders (limits.checkout_files)")));
        }
        if totals.bytes > bytes {
            return Err(Refusal::too_much(format_args!("more than {bytes} bytes (limits.checkout_bytes)")));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUDGET: Budget = Budget { files: 3, bytes: 100, depth: 9, path_bytes: 99 };

    #[test]
    fn the_difference_counts_from_what_was_there() {
        let before = Totals { files: 3, folders: 1, bytes: 90 };
        let mut meter = Meter::new(BUDGET, before);
        meter.add_file(60).expect("alone it is within");
        assert!(meter.finish().is_err(), "four files");
        meter.remove_file(80);
        assert_eq!(meter.finish().expect("within"), Totals { files: 3, folders: 1, bytes: 70 });
    }

    #[test]
    fn the_walk_ends_at_the_limit() {
        let mut meter = Meter::new(BUDGET, Totals::default());
        assert!((0..3).all(|_| meter.add_file(1).is_ok()));
        let refusal = meter.add_file(1).expect_err("the fourth");
        assert_eq!(refusal.message, "the commit is too large: more than 3 files (limits.checkout_files)");
    }
}

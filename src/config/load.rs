//! Reads the layers. (Skeleton; the config helper writes it.)
use super::server::*;
use crate::domain::repo::*;
/// one [[repo]] block, unmerged
#[derive(Debug, Clone, Default)]
pub struct RepoBlock {}
pub(super) fn rules_for(_: &Forges, _: &RepoId) -> Option<RepoRules> {
    None
}
pub(super) fn named(_: &Forges) -> Vec<(ForgeName, RepoPath)> {
    Vec::new()
}

//! Gitea and Forgejo, whose events are GitHub's with differences (seen on Gitea 1.15.3).

mod payload;
pub(super) mod status;

pub(super) use payload::read;

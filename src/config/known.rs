//! Every secret that this process knows, gathered for those who hide them in what builds print.
//!
//! A build is not given them. Should one find one all the same, it is not shown to everybody who reads its log.

use super::secret::{self, Secret};
use super::server::{Access, Blobs, Forge, RepoRules, Server};

impl Server {
    /// Those that are neither a forge's nor a repository's.
    pub fn secrets(&self) -> Vec<Secret> {
        let bucket = self.blobs.iter().filter_map(|blobs| match &**blobs {
            Blobs::S3(bucket) => Some(bucket),
            Blobs::Folder(_) => None,
        });
        let bucket = bucket.flat_map(|bucket| [Some(&bucket.key), bucket.session_token.as_ref()]).flatten();
        let proxy = self.network.proxy.as_deref().and_then(|proxy| secret::password(&proxy.parse().ok()?));
        let mut secrets = self.store.secrets();
        secrets.extend(self.web.admin_token.iter().chain(bucket).cloned());
        secrets.extend(proxy.map(Secret::new));
        secrets
    }
}

impl Forge {
    /// Its tokens, and what it signs with.
    pub fn secrets(&self) -> impl Iterator<Item = &Secret> {
        self.token.iter().chain(&self.read_token).chain(&self.hook_secrets)
    }
}

impl RepoRules {
    /// What its hook is signed with, what opens its registries, and what its steps are given, in other builds too.
    pub fn known_secrets(&self) -> impl Iterator<Item = &Secret> {
        let tokens = self.registries.iter().filter_map(|registry| match &registry.access {
            Access::Token(token) => Some(token),
            Access::Open | Access::Withheld => None,
        });
        let values = self.secrets.iter().map(|secret| &secret.value);
        self.hook_secrets.iter().chain(tokens).chain(values)
    }
}

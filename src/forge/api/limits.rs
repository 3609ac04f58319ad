//! What the forges' hosts may be sent.

use std::time::Duration;

use url::Url;

use crate::config::server::{Forge, ForgeKind};
use crate::domain::budget::{Bound, Budget};

const SECOND: Duration = Duration::from_secs(1);

/// GitHub's secondary limits: 80 requests that create content a minute (a status is one), 500 an hour
/// (docs.github.com, "Rate limits for the REST API", secondary rate limits; its bound of 900 points a minute, which is
/// 180 writes, is wider than that of content). It advises a second between two of many ("Best practices"): ten in
/// ten seconds are that, and let the few words of one push go out at once.
const GITHUB: Budget = Budget(&[
    Bound { window: SECOND.saturating_mul(10), most: 10 },
    Bound { window: SECOND.saturating_mul(60), most: 80 },
    Bound { window: SECOND.saturating_mul(3600), most: 500 },
]);

/// Nobody else publishes a limit; this one is out of politeness.
const OTHERS: Budget = Budget(&[Bound { window: SECOND.saturating_mul(10), most: 200 }]);

/// The host behind a forge, and its budget. A GitHub Enterprise Server has no secondary limits unless its operator turns
/// rate limits on, and then says so in its answers.
pub fn budget(forge: &Forge) -> (String, Budget) {
    let bounds = if forge.kind == ForgeKind::Github && is_hosted(&forge.api_url) { GITHUB } else { OTHERS };
    (forge.api_url.origin().ascii_serialization(), bounds)
}

/// GitHub's own machines: github.com, and Enterprise Cloud with data residency.
fn is_hosted(api_url: &Url) -> bool {
    api_url.host_str().is_some_and(|host| host == "api.github.com" || host.ends_with(".ghe.com"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn github_bounds_hold_where_github_runs_the_machines() {
        let check = |kind, api_url: &str, expected: Budget| {
            let api_url: Url = api_url.parse().expect("a URL");
            let forge = Forge {
                name: "one".parse().expect("a name"),
                kind,
                web_url: api_url.clone(),
                api_url,
                token: None,
                read_token: None,
                hook_secrets: vec![],
            };
            assert_eq!(budget(&forge).1, expected, "{kind:?} {}", forge.api_url);
        };
        check(ForgeKind::Github, "https://api.github.com", GITHUB);
        check(ForgeKind::Github, "https://api.acme.ghe.com", GITHUB);
        check(ForgeKind::Github, "https://github.acme.dev/api/v3", OTHERS);
        check(ForgeKind::Gitea, "https://gitea.lan/api/v1", OTHERS);
    }
}

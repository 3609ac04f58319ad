//! Which events of a pull request build what: a member's and, where nobody is asked, a fork's alike.

use serde_json::json;

use crate::approval::pushed_to_the_fork;
use crate::support::forge::{Forge, Kind};
use crate::support::server::{Server, Settings};

#[test]
fn its_head_is_built_when_it_moves_and_nothing_else_of_it_is() {
    for (kind, fork) in [(Kind::Gitea, false), (Kind::Github, false), (Kind::Gitea, true), (Kind::Github, true)] {
        let forge = Forge::start();
        let repo = forge.repo_of(kind, "acme/shop");
        // Nothing is claimed, so that each build is seen as it was made.
        let settings = Settings { slots: 0, repo: "forks = \"build\"".to_owned(), ..Settings::default() };
        let server = Server::start_with(&forge, settings);
        repo.push("main", &[("README.md", "# Shop\n")]);
        let moves = |text: &str| match fork {
            true => pushed_to_the_fork(&repo, &[("README.md", text)]).after,
            false => repo.push("fix", &[("README.md", text)]).after,
        };
        let told = |action: &str, sha: &str| server.deliver(&repo.pull_request(action, 7, "fix", sha, fork));
        let built = |action: &str, sha: &str| {
            let id = told(action, sha).build();
            let build = server.build(id);
            let trust = if fork { "fork" } else { "member" };
            assert_eq!((&build["sha"], &build["trust"]), (&json!(sha), &json!(trust)), "{action}: {build:#}");
            assert_eq!((&build["pull_request"], &build["state"]), (&json!(7), &json!("queued")), "{action}: {build:#}");
            id
        };
        let reason = |id: i64| server.build(id)["reason"].as_str().unwrap_or_default().to_owned();

        let first_sha = moves("one");
        let first = built("opened", &first_sha);
        let labeled = told("labeled", &first_sha);
        assert_eq!((labeled.code, &labeled.json()["builds"]), (200, &json!([])), "{kind:?}");
        assert_eq!(server.build(first)["state"], "queued");
        let second_sha = moves("two");
        let second = built(repo.new_commits(), &second_sha);
        assert_eq!(reason(first), format!("superseded by #{second}"));
        assert_eq!(told("closed", &second_sha).code, 200, "{kind:?}");
        assert_eq!(reason(second), "pull request 7 was closed");
        let third = built("reopened", &second_sha);
        assert_eq!(told("closed", &second_sha).code, 200, "{kind:?}");
        assert_eq!(reason(third), "pull request 7 was closed");
        assert_eq!(server.builds().len(), 3, "{:#?}", server.builds());
        forge.finish();
    }
}

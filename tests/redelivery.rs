//! Forges send a delivery twice, an organisation has two hooks, and people press "redeliver": one build comes of it.

#[expect(dead_code, reason = "each file of tests asks for another part")]
#[path = "support/forge.rs"]
mod forge;
#[expect(dead_code, reason = "each file of tests steers another part")]
#[path = "support/git_http.rs"]
mod git_http;
#[expect(dead_code, reason = "each file of tests asks for another part")]
#[path = "support/server.rs"]
mod server;

use forge::Forge;
use server::Server;

/// A repository without anything to install or to bundle.
const NOTHING_TO_DO: &[(&str, &str)] = &[("README.md", "# Shop\n")];

#[test]
fn ten_at_once_make_one_build() {
    let forge = Forge::start();
    let repo = forge.repo("acme/shop");
    let server = Server::start(&forge);
    let moved = repo.push("main", NOTHING_TO_DO);
    let delivery = repo.pushed(&moved);

    let mut replies: Vec<_> = std::thread::scope(|scope| {
        let sent: Vec<_> = (0..10).map(|_| scope.spawn(|| server.deliver(&delivery))).collect();
        sent.into_iter().map(|reply| reply.join().expect("answered")).collect()
    });
    replies.sort_by_key(|reply| reply.code);
    let codes: Vec<u16> = replies.iter().map(|reply| reply.code).collect();
    assert_eq!(codes, [200, 200, 200, 200, 200, 200, 200, 200, 200, 202]);
    let build = replies[9].build();
    for repeat in &replies[..9] {
        assert_eq!(repeat.json()["build"], build, "{repeat:?}");
        assert!(
            repeat.json()["ignored"].as_str().is_some_and(|said| said.contains("repeat of delivery")),
            "{repeat:?}"
        );
    }

    assert_eq!(server.finished(build)["outcome"], "passed");
    assert_eq!(server.builds().len(), 1);
    forge.finish();
    let finals = forge.statuses_of(&moved.after).into_iter().filter(|status| status.state != "pending").count();
    assert_eq!(finals, 1);
}

//! The rules as a table: one arrival, what is known, what becomes of it.

mod rules;

use super::*;
use crate::config::server::Supersede;
use crate::domain::build::BuildId;
use crate::domain::outcome::Outcome;
use crate::domain::repo::CommitId;
use crate::domain::time::Timestamp;
use crate::store::{Deletion, Known};

const SECOND: i64 = 1_000;
/// When every arrival of this file was received.
const NOW: Timestamp = Timestamp(100_000 * SECOND);

fn commit(letter: char) -> CommitId {
    letter.to_string().repeat(40).parse().expect("hex")
}

fn rules() -> RepoRules {
    let text = "[[forge]]\nname = 'github'\nkind = 'github'\ntoken = 'a-token-of-the-tests'\nhook_secret = 'a secret of the tests'\n\
                [[repo]]\nforge = 'github'\nname = 'acme/shop'\n";
    let loaded = crate::config::load::from_text(text, std::path::Path::new("/")).expect("legal");
    loaded.server.forges.rules(&"github/acme/shop".parse().expect("legal")).expect("configured")
}

fn arrival(event: Event) -> Arrival {
    Arrival {
        delivery: Delivery {
            forge: "github".parse().expect("legal"),
            repo: Some("Acme/Shop".parse().expect("legal")),
            id: "d-1".into(),
            event: "push".into(),
            received_at: NOW,
            body_bytes: 2,
            body_sha256: [0; 32],
        },
        heard: Heard { repo: None, default_branch: Some("main".into()), event },
        rules: Some(Arc::new(rules())),
        context: "hookmill".into(),
        found: None,
    }
}

fn ruled(event: Event, change: impl FnOnce(&mut RepoRules)) -> Arrival {
    let mut rules = rules();
    change(&mut rules);
    Arrival { rules: Some(Arc::new(rules)), ..arrival(event) }
}

fn push(git_ref: &str, before: char, after: char) -> Push {
    Push {
        git_ref: git_ref.parse().expect("legal"),
        before: Some(commit(before)),
        after: commit(after),
        pushed_at: None,
        forced: false,
        skip_ci: false,
        title: None,
        author: None,
    }
}

fn branch_push(after: char) -> Event {
    Event::Push(push("refs/heads/topic", '0', after))
}

fn main_push(after: char) -> Event {
    Event::Push(push("refs/heads/main", '0', after))
}

fn request(fork: bool, head: char) -> PullRequest {
    let git_ref = if fork { "refs/pull/7/head" } else { "refs/heads/topic" };
    PullRequest {
        number: 7,
        head: commit(head),
        git_ref: git_ref.parse().expect("legal"),
        fork,
        base_branch: "main".into(),
        base: Some(commit('b')),
        title: None,
        author: None,
    }
}

fn closed(fork: bool) -> Event {
    let PullRequest { number, git_ref, fork, .. } = request(fork, 'a');
    Event::PullRequestClosed { number, git_ref, fork }
}

fn known(id: i64, sha: char, state: State) -> Known {
    Known {
        id: BuildId(id),
        sha: commit(sha),
        before: None,
        pushed_at: None,
        state,
        outcome: None,
        cause: Cause::Push,
        pushed: true,
        pull_request: None,
        superseded_by: None,
        attempt: 1,
        ending: false,
        created_at: Timestamp(NOW.0 - 40 * SECOND),
    }
}

fn finished(id: i64, sha: char, outcome: Outcome) -> Known {
    Known { outcome: Some(outcome), ..known(id, sha, State::Finished) }
}

fn by_request(build: Known) -> Known {
    Known { cause: Cause::PullRequest, pushed: false, pull_request: Some(7), ..build }
}

fn nothing() -> Facts {
    Facts::default()
}

fn same(build: Known) -> Facts {
    let unfinished = if build.state == State::Finished { Vec::new() } else { vec![build.clone()] };
    Facts { unfinished, same: Some(build), ..Facts::default() }
}

fn older(builds: impl IntoIterator<Item = Known>) -> Facts {
    Facts { unfinished: builds.into_iter().collect(), ..Facts::default() }
}

/// A decision in one line.
fn say(decision: &Decision) -> String {
    match decision {
        Decision::Repeat { because, first } => format!("repeat {:?}: {because}", first.builds),
        Decision::Ignore { because, .. } => format!("ignore: {because}"),
        Decision::Behind { because, .. } => format!("behind: {because}"),
        Decision::Outrun { because } => format!("outrun: {because}"),
        Decision::Already { build, because, pushed, .. } => {
            format!("#{build} {because}{}", if *pushed { ", now pushed" } else { "" })
        }
        Decision::Make { build, supersedes, .. } => {
            let ended: String =
                supersedes.iter().map(|older| format!(" · ends #{}: {}", older.build, older.sentence)).collect();
            format!("{} {} {}{ended}", build.state.as_str(), build.cause.as_str(), build.trust.as_str())
        }
        Decision::Cancel { because, endings, drops, .. } => {
            let ended: String = endings.iter().map(|ending| format!(" #{}", ending.build)).collect();
            let dropped: String = drops.iter().map(|scope| format!(" · drops {}", scope.trust.as_str())).collect();
            format!("cancel{ended}: {because}{dropped}")
        }
    }
}

#[track_caller]
fn check(arrival: &Arrival, facts: &Facts, expected: &str) {
    assert_eq!(say(&decide(arrival, facts)), expected);
}

#[test]
fn what_is_built_and_what_is_not() {
    let plain = |event| arrival(event);
    check(&plain(branch_push('a')), &nothing(), "queued push trusted");
    check(&plain(Event::PullRequest(request(false, 'a'))), &nothing(), "queued pull_request member");
    check(&plain(Event::PullRequest(request(true, 'a'))), &nothing(), "waiting pull_request fork");
    let ignoring = |rules: &mut RepoRules| rules.forks = Forks::Ignore;
    check(
        &ruled(Event::PullRequest(request(true, 'a')), ignoring),
        &nothing(),
        "ignore: pull requests from forks are not built (forks = \"ignore\")",
    );
    check(&plain(Event::Ignored { because: "ping".into() }), &nothing(), "ignore: ping");
    let skipped = Push { skip_ci: true, ..push("refs/heads/topic", '0', 'a') };
    check(&plain(Event::Push(skipped)), &nothing(), "ignore: the commit's message asks for no build");
    let still = push("refs/heads/topic", 'a', 'a');
    check(&plain(Event::Push(still)), &nothing(), "ignore: before and after are the same commit");
    let note = push("refs/notes/commits", '0', 'a');
    check(&plain(Event::Push(note)), &nothing(), "ignore: refs/notes/commits is neither a branch nor a tag");
    let tag = Event::Push(push("refs/tags/v1", '0', 'a'));
    check(&plain(tag.clone()), &nothing(), "ignore: tags are not built (tags = false)");
    check(&ruled(tag, |rules| rules.tags = true), &nothing(), "queued tag trusted");
    let stranger = Arrival { rules: None, ..plain(branch_push('a')) };
    check(&stranger, &nothing(), "ignore: Acme/Shop is not configured here: it needs a [[repo]] block");
    let mut nameless = plain(branch_push('a'));
    nameless.delivery.repo = None;
    check(&nameless, &nothing(), "ignore: the event names no repository");
}

#[test]
fn branch_patterns() {
    let cases = [
        ("*", "topic", true),
        ("*", "a/b", false),
        ("**", "a/b/c", true),
        ("release/*", "release/1", true),
        ("release/*", "release/1/2", false),
        ("release/**", "release/1/2", true),
        ("main", "maintain", false),
    ];
    for (pattern, branch, built) in cases {
        let event = Event::Push(push(&format!("refs/heads/{branch}"), '0', 'a'));
        let ruled = ruled(event, |rules| rules.branches = vec![pattern.into()]);
        let made = matches!(decide(&ruled, &nothing()), Decision::Make { .. });
        assert_eq!(made, built, "{pattern} {branch}");
    }
    let only_main = |rules: &mut RepoRules| rules.branches = vec!["main".into()];
    let into_main = ruled(Event::PullRequest(request(false, 'a')), only_main);
    check(&into_main, &nothing(), "queued pull_request member");
    let mut elsewhere = request(false, 'a');
    elsewhere.base_branch = "next".into();
    check(&ruled(Event::PullRequest(elsewhere), only_main), &nothing(), "ignore: branch next is outside branches");
}

#[test]
fn one_commit_of_a_ref_is_one_build() {
    let first = Accepted {
        delivery: "d-1".into(),
        builds: vec![BuildId(5)],
        ignored: None,
        cancelled: vec![],
        superseded: vec![],
        made: true,
        rule: None,
    };
    let repeated = Facts { first_answer: Some(first), ..same(known(5, 'a', State::Queued)) };
    check(&arrival(branch_push('a')), &repeated, "repeat [BuildId(5)]: repeat of delivery d-1");

    let (pushed, asked) = (arrival(branch_push('a')), arrival(Event::PullRequest(request(false, 'a'))));
    check(&pushed, &same(known(5, 'a', State::Running)), "#5 already building");
    check(&asked, &same(known(5, 'a', State::Queued)), "#5 already building");
    check(&pushed, &same(by_request(known(5, 'a', State::Queued))), "#5 already building, now pushed");
    let ending = Known { ending: true, ..known(5, 'a', State::Running) };
    check(&pushed, &same(ending), "queued push trusted");

    check(&asked, &same(finished(5, 'a', Outcome::Failed)), "#5 already built");
    check(&pushed, &same(by_request(finished(5, 'a', Outcome::Passed))), "#5 already built, now pushed");
    check(&asked, &same(finished(5, 'a', Outcome::Broken)), "queued pull_request member");
    let superseded = Known { superseded_by: Some(BuildId(6)), ..finished(5, 'a', Outcome::Cancelled) };
    check(&asked, &same(superseded), "#5 superseded by #6");
    check(&pushed, &same(finished(5, 'a', Outcome::Passed)), "queued push trusted");
    check(&asked, &same(by_request(finished(5, 'a', Outcome::Passed))), "queued pull_request member");
}

#[test]
fn the_newest_push_ends_older_builds_by_rule() {
    let two = || older([known(3, 'c', State::Queued), known(4, 'd', State::Running)]);
    let ended = "queued push trusted · ends #3: Superseded by aaaaaaa, pushed 40s later · ends #4: \
                 Superseded by aaaaaaa, pushed 40s later";
    let kept = "queued push trusted";
    check(&arrival(branch_push('a')), &two(), ended);
    check(&arrival(main_push('a')), &two(), kept);
    check(&ruled(main_push('a'), |rules| rules.supersede = Supersede::All), &two(), ended);
    check(&ruled(branch_push('a'), |rules| rules.supersede = Supersede::None), &two(), kept);
    let forced = Event::Push(Push { forced: true, ..push("refs/heads/main", '0', 'a') });
    check(&arrival(forced.clone()), &two(), ended);
    check(&ruled(forced, |rules| rules.supersede = Supersede::None), &two(), kept);
    let tag = Event::Push(Push { forced: true, ..push("refs/tags/v1", '0', 'a') });
    let all_tags = |rules: &mut RepoRules| (rules.tags, rules.supersede) = (true, Supersede::All);
    check(&ruled(tag, all_tags), &two(), "queued tag trusted");
    let mut unknown_default = arrival(branch_push('a'));
    unknown_default.heard.default_branch = None;
    check(&unknown_default, &two(), kept);

    let waiting = by_request(known(3, 'c', State::Waiting));
    let never = ruled(Event::PullRequest(request(true, 'a')), |rules| rules.supersede = Supersede::None);
    check(&never, &older([waiting]), "waiting pull_request fork · ends #3: Superseded by aaaaaaa, pushed 40s later");
    let ending = Known { ending: true, ..known(3, 'c', State::Running) };
    check(&arrival(branch_push('a')), &older([ending]), kept);
}

#[test]
fn a_push_that_is_delivered_late_does_not_end_its_successor() {
    let successor = Known { before: Some(commit('a')), ..known(3, 'c', State::Queued) };
    let late = arrival(branch_push('a'));
    check(&late, &older([successor.clone()]), "behind: superseded by #3: a later push of topic arrived first");
    let back = arrival(Event::Push(push("refs/heads/topic", 'c', 'a')));
    check(&back, &older([successor.clone()]), "queued push trusted · ends #3: Superseded by aaaaaaa, pushed 40s later");
    check(&arrival(main_push('a')), &older([successor]), "queued push trusted");
}

fn found(event: Event) -> Arrival {
    Arrival { found: Some(Found { stands_on: Vec::new() }), ..arrival(event) }
}

fn by_sweep(build: Known) -> Known {
    Known { cause: Cause::Sweep, ..build }
}

#[test]
fn what_the_sweep_found_is_built_by_the_same_rules_and_once() {
    check(&found(branch_push('a')), &nothing(), "queued sweep trusted");
    check(&found(Event::PullRequest(request(false, 'a'))), &nothing(), "queued sweep member");
    check(&found(Event::PullRequest(request(true, 'a'))), &nothing(), "waiting sweep fork");
    check(&found(Event::Push(push("refs/tags/v1", '0', 'a'))), &nothing(), "ignore: tags are not built (tags = false)");
    check(
        &found(branch_push('a')),
        &older([known(3, 'c', State::Queued)]),
        "queued sweep trusted · ends #3: Superseded by aaaaaaa, pushed 40s later",
    );
    check(&found(branch_push('a')), &same(known(5, 'a', State::Queued)), "#5 already building");
    check(&found(branch_push('a')), &same(finished(5, 'a', Outcome::Failed)), "#5 already built");
    check(&found(branch_push('a')), &same(finished(5, 'a', Outcome::Broken)), "queued sweep trusted");
    let gone = Event::Deleted { git_ref: "refs/heads/topic".parse().expect("legal"), tip: None, pushed_at: None };
    check(
        &found(gone),
        &older([known(1, 'a', State::Queued)]),
        "cancel #1: branch topic was deleted · drops trusted · drops member",
    );
    let outrun = Facts { outrun: true, ..nothing() };
    check(&found(branch_push('a')), &outrun, "outrun: a newer delivery came while the forge was asked");
}

#[test]
fn a_delivery_that_comes_after_the_sweep_makes_no_second_build() {
    let still_there = |build| Facts { same_is_head: true, ..same(by_sweep(build)) };
    let late = arrival(branch_push('a'));
    check(&late, &still_there(known(5, 'a', State::Running)), "#5 already building");
    check(&late, &still_there(finished(5, 'a', Outcome::Passed)), "#5 already built");
    check(&late, &still_there(finished(5, 'a', Outcome::Cancelled)), "queued push trusted");
    // Somebody moved the ref back to it.
    check(&late, &same(by_sweep(finished(5, 'a', Outcome::Passed))), "queued push trusted");
    let of_a_request = by_request(by_sweep(finished(5, 'a', Outcome::Passed)));
    let late_request = arrival(Event::PullRequest(request(false, 'a')));
    check(
        &late_request,
        &Facts { same_is_head: true, ..same(Known { cause: Cause::Sweep, ..of_a_request }) },
        "#5 already built",
    );

    // One of the pushes that led to what the sweep found.
    let led_to = Known { before: Some(commit('0')), ..by_sweep(known(3, 'c', State::Queued)) };
    check(&late, &older([led_to.clone()]), "behind: superseded by #3: a later push of topic arrived first");
    let next = arrival(Event::Push(push("refs/heads/topic", 'c', 'a')));
    check(&next, &older([led_to]), "queued push trusted · ends #3: Superseded by aaaaaaa, pushed 40s later");
}

#[test]
fn what_was_found_names_what_it_was_compared_with() {
    let stands_on = vec![("refs/pull/7/head".parse().expect("legal"), Some(4))];
    let swept = Arrival {
        found: Some(Found { stands_on: stands_on.clone() }),
        ..arrival(Event::PullRequest(request(false, 'a')))
    };
    let about = about(&swept).expect("it is about a ref");
    assert_eq!((about.head.as_str(), about.git_ref.as_str()), ("refs/pull/7/head", "refs/heads/topic"));
    assert_eq!((about.stands_on, about.unfinished), (stands_on, true));
    let delivered = super::about(&arrival(main_push('a'))).expect("it is about a ref");
    assert_eq!((delivered.head.as_str(), delivered.unfinished), ("refs/heads/main", false));
}

#[test]
fn what_went_is_cancelled() {
    let builds = || {
        older([
            known(1, 'a', State::Queued),
            by_request(known(2, 'c', State::Running)),
            Known { ending: true, ..known(3, 'd', State::Running) },
        ])
    };
    let deleted =
        |git_ref: &str| Event::Deleted { git_ref: git_ref.parse().expect("legal"), tip: None, pushed_at: None };
    check(
        &arrival(deleted("refs/heads/topic")),
        &builds(),
        "cancel #1 #2: branch topic was deleted · drops trusted · drops member",
    );
    check(&arrival(deleted("refs/tags/v1")), &nothing(), "cancel: tag v1 was deleted");
    let zeros = Event::Push(push("refs/heads/topic", 'a', '0'));
    check(&arrival(zeros), &builds(), "cancel #1 #2: branch topic was deleted · drops trusted · drops member");
    check(&arrival(closed(false)), &builds(), "cancel #2: pull request 7 was closed · drops member");
    check(
        &arrival(closed(true)),
        &older([by_request(known(2, 'c', State::Waiting))]),
        "cancel #2: pull request 7 was closed · drops fork",
    );
}

#[test]
fn a_forks_status_says_what_it_waits_for() {
    let Decision::Make { build, .. } = decide(&arrival(Event::PullRequest(request(true, 'a'))), &nothing()) else {
        panic!("a build");
    };
    let sentence = "Waiting for a maintainer: first build of a fork's commit aaaaaaa needs approval";
    assert_eq!((build.status.context.as_str(), build.status.sentence.as_str()), ("hookmill", sentence));
    assert_eq!(build.status.state, StatusState::Pending);
}

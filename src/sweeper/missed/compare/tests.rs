//! What differs, as a table: what was heard, what is listed, what follows.

use super::*;

fn name(text: &str) -> RefName {
    let full = if text.starts_with("refs/") { text.to_owned() } else { format!("refs/heads/{text}") };
    full.parse().expect("legal")
}

fn commit(letter: char) -> CommitId {
    letter.to_string().repeat(40).parse().expect("hex")
}

/// `-` is a head that is gone.
fn known(heads: &[(&str, char)]) -> Vec<Head> {
    let head = |(number, (text, sha)): (i64, &(&str, char))| Head {
        name: name(text),
        git_ref: name(if *text == "refs/pull/7/head" { "topic" } else { text }),
        sha: (*sha != '-').then(|| commit(*sha)),
        changes: number,
    };
    (1..).zip(heads).map(head).collect()
}

fn heads(refs: &[(&str, char)]) -> Heads {
    Heads { default_branch: Some(name("main")), refs: refs.iter().map(|(at, sha)| (name(at), commit(*sha))).collect() }
}

fn pull(number: u64, head: char) -> PullRequest {
    let fork = number != 7;
    PullRequest {
        number,
        head: commit(head),
        git_ref: if fork { RefName::pull_request(number) } else { name("topic") },
        fork,
        base_branch: "main".into(),
        base: None,
        title: None,
        author: None,
    }
}

const LATER: Manner =
    Manner { before: LookedAt { branches: true, tags: true, pulls: true }, tags: false, polls: false };
const FIRST: Manner =
    Manner { before: LookedAt { branches: false, tags: false, pulls: false }, tags: false, polls: false };

fn say(difference: &Difference) -> String {
    let short = |id: &CommitId| id.as_str()[..1].to_owned();
    let what = match &difference.event {
        Event::Push(push) => {
            let before = push.before.as_ref().map_or("-".to_owned(), short);
            format!("{} {before}>{}", push.git_ref.short(), short(&push.after))
        }
        Event::Deleted { git_ref, .. } => format!("{} gone", git_ref.short()),
        Event::PullRequest(pull) => format!("!{} {}", pull.number, short(&pull.head)),
        Event::PullRequestClosed { number, fork, .. } => {
            format!("!{number} closed{}", if *fork { " fork" } else { "" })
        }
        Event::Ignored { because } => because.clone(),
    };
    let on: String = difference.stands_on.iter().map(|(_, changes)| format!(" {changes:?}")).collect();
    format!("{what} on{on}")
}

#[track_caller]
fn check(known: &[Head], heads: &Heads, pulls: Option<&[PullRequest]>, manner: Manner, expected: &[&str]) -> Compared {
    let compared = compare(known, &Listing { heads, pulls }, manner);
    let said: Vec<String> = compared.found.iter().map(say).collect();
    assert_eq!(said, expected);
    compared
}

#[test]
fn heads_that_moved_came_or_went() {
    let heard = known(&[("main", 'a'), ("topic", 'b'), ("gone", 'c'), ("long-gone", '-')]);
    let listed = heads(&[("main", 'a'), ("topic", 'd'), ("new", 'e')]);
    check(&heard, &listed, None, LATER, &["new ->e on None", "topic b>d on Some(2)", "gone gone on Some(3)"]);
    check(&heard, &heads(&[("main", 'a'), ("topic", 'b'), ("gone", 'c')]), None, LATER, &[]);
    let back = heads(&[("main", 'a'), ("topic", 'b'), ("gone", 'c'), ("long-gone", 'f')]);
    check(&heard, &back, None, LATER, &["long-gone ->f on Some(4)"]);
    check(&heard, &heads(&[]), None, LATER, &[]);
}

#[test]
fn the_first_look_builds_nothing_old() {
    let listed = heads(&[("main", 'a'), ("topic", 'b')]);
    let compared = check(&[], &listed, Some(&[pull(7, 'b'), pull(8, 'c')]), FIRST, &[]);
    let noted: Vec<String> = compared.noted.iter().map(|(name, ..)| name.to_string()).collect();
    assert_eq!(noted, ["refs/pull/7/head", "refs/pull/8/head", "refs/heads/main", "refs/heads/topic"]);
    // What was heard of is known, however first the look.
    check(&known(&[("topic", 'a')]), &listed, None, FIRST, &["topic a>b on Some(1)"]);
    // Without a webhook somebody has to begin.
    check(&[], &listed, None, Manner { polls: true, ..FIRST }, &["main ->a on None"]);
    check(&[], &listed, None, Manner { polls: true, ..LATER }, &["main ->a on None", "topic ->b on None"]);
}

#[test]
fn tags_where_they_are_built() {
    let listed = heads(&[("main", 'a'), ("refs/tags/v1", 'a'), ("refs/tags/v2", 'b')]);
    let heard = known(&[("main", 'a'), ("refs/tags/v1", 'a'), ("refs/tags/v0", 'c')]);
    check(&heard, &listed, None, LATER, &[]);
    let built = Manner { tags: true, ..LATER };
    check(&heard, &listed, None, built, &["v2 ->b on None", "v0 gone on Some(3)"]);
    let first = Manner { before: LookedAt { tags: false, ..LATER.before }, ..built };
    assert_eq!(check(&heard, &listed, None, first, &["v0 gone on Some(3)"]).noted.len(), 1);
}

#[test]
fn pull_requests_that_moved_came_or_went() {
    let listed = heads(&[("main", 'a'), ("topic", 'b')]);
    let heard = known(&[("main", 'a'), ("topic", 'b'), ("refs/pull/7/head", 'c'), ("refs/pull/8/head", 'd')]);
    check(&heard, &listed, Some(&[pull(7, 'b'), pull(8, 'd')]), LATER, &["!7 b on Some(3) Some(2)"]);
    check(
        &heard,
        &listed,
        Some(&[pull(7, 'c'), pull(8, 'e'), pull(9, 'f')]),
        LATER,
        &["!8 e on Some(4)", "!9 f on None"],
    );
    let closed = check(&heard, &listed, Some(&[]), LATER, &[]);
    let said: Vec<String> = closed.vanished.iter().map(say).collect();
    assert_eq!(said, ["!7 closed on Some(3)", "!8 closed fork on Some(4)"]);
    // One of the two lists is older than the other.
    let doubtful = check(&heard, &listed, Some(&[pull(7, 'e'), pull(8, 'd')]), LATER, &[]);
    assert!(doubtful.doubtful && doubtful.vanished.is_empty());
    check(&heard, &listed, None, LATER, &[]);
}

#[test]
fn what_is_sent_again_is_still_so() {
    let listed = heads(&[("main", 'a'), ("topic", 'b')]);
    let open = BTreeMap::from([(7, commit('b'))]);
    let push = |at: &str, after| {
        let git_ref = name(at);
        Event::Push(Push {
            git_ref,
            before: None,
            after: commit(after),
            pushed_at: None,
            forced: false,
            skip_ci: false,
            title: None,
            author: None,
        })
    };
    let closed = |number| Event::PullRequestClosed { number, git_ref: name("topic"), fork: false };
    for (event, so) in [
        (push("topic", 'b'), true),
        (push("topic", 'a'), false),
        (push("gone", 'a'), false),
        (Event::Deleted { git_ref: name("gone"), tip: None, pushed_at: None }, true),
        (Event::Deleted { git_ref: name("topic"), tip: None, pushed_at: None }, false),
        (Event::PullRequest(pull(7, 'b')), true),
        (Event::PullRequest(pull(7, 'a')), false),
        (closed(7), false),
        (closed(9), true),
        (Event::Ignored { because: "ping".into() }, false),
    ] {
        assert_eq!(is_still_so(&event, &listed, &open), so, "{event:?}");
    }
}

//! Every rule of the intake by its name: what is known, what arrives, what becomes of it, and which rule says so.

use super::*;

/// A row of the table.
struct Case {
    rule: Rule,
    /// What happens, for people.
    story: &'static str,
    arrival: Arrival,
    facts: Facts,
    becomes: &'static str,
}

fn case(rule: Rule, story: &'static str, arrival: Arrival, facts: Facts, becomes: &'static str) -> Case {
    Case { rule, story, arrival, facts, becomes }
}

/// A push of topic in a second of the forge's clock.
fn at(second: i64, before: char, after: char) -> Arrival {
    let pushed_at = Some(Timestamp(second * SECOND));
    arrival(Event::Push(Push { pushed_at, ..push("refs/heads/topic", before, after) }))
}

/// A build of such a push.
fn built_at(second: i64, before: char, build: Known) -> Known {
    Known { before: Some(commit(before)), pushed_at: Some(Timestamp(second * SECOND)), ..build }
}

fn creates(after: char) -> Arrival {
    arrival(Event::Push(Push { before: None, ..push("refs/heads/topic", '0', after) }))
}

fn moves(before: char, after: char) -> Arrival {
    arrival(Event::Push(push("refs/heads/topic", before, after)))
}

fn recent(builds: impl IntoIterator<Item = Known>) -> Facts {
    Facts { recent: builds.into_iter().collect(), ..Facts::default() }
}

fn gone(tip: Option<char>) -> Facts {
    let deletion = Deletion { tip: tip.map(commit), pushed_at: None, at: Timestamp(NOW.0 - SECOND) };
    Facts { deletions: vec![deletion], ..Facts::default() }
}

fn forced(git_ref: &str, before: char, after: char) -> Arrival {
    arrival(Event::Push(Push { forced: true, ..push(git_ref, before, after) }))
}

fn answered() -> Facts {
    let first = Accepted {
        delivery: "d-1".into(),
        builds: vec![BuildId(5)],
        ignored: None,
        cancelled: vec![],
        superseded: vec![],
        made: true,
        rule: Some(Rule::PushIsBuilt),
    };
    Facts { first_answer: Some(first), ..Facts::default() }
}

const ENDS_3: &str = "queued push trusted · ends #3: Superseded by aaaaaaa, pushed 40s later";
const YIELDS_TO_3: &str = "behind: superseded by #3: a later push of topic arrived first";
const WAS_DELETED: &str = "behind: topic was deleted after this push, and that arrived first";

fn what_is_made_or_not() -> Vec<Case> {
    use Rule::*;
    let tag = |name: &str, after| Event::Push(push(&format!("refs/tags/{name}"), '0', after));
    let tags = |event| ruled(event, |rules| rules.tags = true);
    let forks = Event::PullRequest(request(true, 'a'));
    let skipped = Push { skip_ci: true, ..push("refs/heads/topic", '0', 'a') };
    let only_main = |rules: &mut RepoRules| rules.branches = vec!["main".into()];
    let stranger = Arrival { rules: None, ..creates('a') };
    vec![
        case(
            RepeatedDelivery,
            "the same id again",
            creates('a'),
            answered(),
            "repeat [BuildId(5)]: repeat of delivery d-1",
        ),
        case(NothingToBuild, "a ping", arrival(Event::Ignored { because: "ping".into() }), nothing(), "ignore: ping"),
        case(
            UnknownRepository,
            "nobody configured it",
            stranger,
            nothing(),
            "ignore: Acme/Shop is not configured here: it needs a [[repo]] block",
        ),
        case(RefNotMoved, "a test", moves('a', 'a'), nothing(), "ignore: before and after are the same commit"),
        case(
            BranchesAsConfigured,
            "another branch",
            ruled(branch_push('a'), only_main),
            nothing(),
            "ignore: branch topic is outside branches",
        ),
        case(
            TagsAsConfigured,
            "a tag",
            arrival(tag("v1", 'a')),
            nothing(),
            "ignore: tags are not built (tags = false)",
        ),
        case(
            ForksAsConfigured,
            "a fork",
            ruled(forks.clone(), |rules| rules.forks = Forks::Ignore),
            nothing(),
            "ignore: pull requests from forks are not built (forks = \"ignore\")",
        ),
        case(
            SkipCi,
            "[skip ci]",
            arrival(Event::Push(skipped)),
            nothing(),
            "ignore: the commit's message asks for no build",
        ),
        case(PushIsBuilt, "a new branch", creates('a'), nothing(), "queued push trusted"),
        case(
            PushIsBuilt,
            "on the default branch every push is built, and none ends another",
            arrival(main_push('a')),
            older([known(3, 'c', State::Running)]),
            "queued push trusted",
        ),
        case(TagsStandAlone, "two tags of one commit", tags(tag("v1", 'a')), nothing(), "queued tag trusted"),
        case(
            TagsStandAlone,
            "the second of them, while the builds of a moved tag are unfinished",
            tags(tag("v2", 'a')),
            older([known(3, 'c', State::Queued), known(4, 'd', State::Running)]),
            "queued tag trusted",
        ),
        case(
            PullRequestIsBuilt,
            "opened",
            arrival(Event::PullRequest(request(false, 'a'))),
            nothing(),
            "queued pull_request member",
        ),
        case(ForkWaits, "a fork's", arrival(forks.clone()), nothing(), "waiting pull_request fork"),
        case(
            ForkWaits,
            "a fork's commit that was built before: the pull request was closed and opened again",
            arrival(forks.clone()),
            same(by_request(finished(3, 'a', Outcome::Passed))),
            "waiting pull_request fork",
        ),
        case(
            ForkIsBuilt,
            "a fork's, where forks are built",
            ruled(forks.clone(), |rules| rules.forks = Forks::Build),
            nothing(),
            "queued pull_request fork",
        ),
        case(
            NewestPushWins,
            "a fork's next commit, where forks are built: it makes room, as on a branch",
            ruled(forks, |rules| rules.forks = Forks::Build),
            older([known(3, 'c', State::Running)]),
            "queued pull_request fork · ends #3: Superseded by aaaaaaa, pushed 40s later",
        ),
    ]
}

fn one_build_not_two() -> Vec<Case> {
    use Rule::*;
    let asked = || arrival(Event::PullRequest(request(false, 'a')));
    vec![
        case(
            OneBuildNotTwo,
            "the push first, then its pull request",
            asked(),
            same(known(5, 'a', State::Queued)),
            "#5 already building",
        ),
        case(
            OneBuildNotTwo,
            "the pull request first, then the push",
            creates('a'),
            same(by_request(known(5, 'a', State::Running))),
            "#5 already building, now pushed",
        ),
        case(
            OneBuildNotTwo,
            "the pull request after the push's build has ended",
            asked(),
            same(finished(5, 'a', Outcome::Failed)),
            "#5 already built",
        ),
        case(
            AskedAgain,
            "a pull request is reopened",
            asked(),
            same(by_request(finished(5, 'a', Outcome::Passed))),
            "queued pull_request member",
        ),
        case(
            AskedAgain,
            "a branch is moved back to a commit that was built",
            moves('c', 'a'),
            same(finished(5, 'a', Outcome::Passed)),
            "queued push trusted",
        ),
    ]
}

fn whose_place() -> Vec<Case> {
    use Rule::*;
    let running = || known(3, 'c', State::Running);
    vec![
        case(NewestPushWins, "the next push", moves('c', 'a'), older([running()]), ENDS_3),
        case(
            NewestPushWins,
            "two pushes in a second: the second starts from the first",
            at(7, 'c', 'a'),
            older([built_at(7, 'b', running())]),
            ENDS_3,
        ),
        case(
            SameSecondByArrival,
            "two pushes in a second, and neither starts from the other",
            at(7, 'd', 'a'),
            older([built_at(7, 'b', running())]),
            ENDS_3,
        ),
        case(
            ForcePushWins,
            "history of the default branch is rewritten",
            forced("refs/heads/main", 'c', 'a'),
            older([running()]),
            ENDS_3,
        ),
        case(
            NewestPushWins,
            "a forced push of another branch needs no rule of its own",
            forced("refs/heads/topic", 'c', 'a'),
            older([running()]),
            ENDS_3,
        ),
        case(
            LatePushYields,
            "two pushes in a second, delivered in the wrong order",
            at(7, '0', 'a'),
            older([built_at(7, 'a', running())]),
            YIELDS_TO_3,
        ),
        case(
            LatePushYields,
            "the later push has ended already",
            moves('0', 'a'),
            recent([Known { before: Some(commit('a')), ..finished(3, 'c', Outcome::Passed) }]),
            YIELDS_TO_3,
        ),
        case(
            LatePushYields,
            "two pushes came between: a → b → c",
            moves('0', 'a'),
            recent([
                Known { before: Some(commit('b')), ..finished(3, 'c', Outcome::Passed) },
                Known { before: Some(commit('a')), ..finished(2, 'b', Outcome::Cancelled) },
            ]),
            YIELDS_TO_3,
        ),
        case(
            LatePushYields,
            "the push between was not heard, but the forge's clock tells",
            at(6, '0', 'a'),
            older([built_at(8, 'b', running())]),
            YIELDS_TO_3,
        ),
        case(
            PushIsBuilt,
            "moved back by two pushes to a commit that was never built: no late push",
            moves('c', 'a'),
            recent([
                Known { before: Some(commit('a')), ..finished(2, 'b', Outcome::Passed) },
                Known { before: Some(commit('b')), ..finished(3, 'c', Outcome::Passed) },
            ]),
            "queued push trusted",
        ),
        case(
            AskedAgain,
            "pushed again to a commit whose successor was built: a second push of it",
            moves('d', 'a'),
            Facts {
                recent: vec![Known { before: Some(commit('a')), ..finished(3, 'c', Outcome::Passed) }],
                ..same(finished(2, 'a', Outcome::Passed))
            },
            "queued push trusted",
        ),
    ]
}

fn what_went() -> Vec<Case> {
    use Rule::*;
    let deleted = |tip: Option<char>| {
        arrival(Event::Deleted {
            git_ref: "refs/heads/topic".parse().expect("legal"),
            tip: tip.map(commit),
            pushed_at: None,
        })
    };
    let later = |second: i64, mut facts: Facts| {
        facts.deletions[0].pushed_at = Some(Timestamp(second * SECOND));
        facts
    };
    vec![
        case(
            DeletedRefEnds,
            "a branch goes while its build waits",
            deleted(Some('a')),
            older([known(1, 'a', State::Queued)]),
            "cancel #1: branch topic was deleted · drops trusted · drops member",
        ),
        case(
            ClosedPullRequestEnds,
            "closed: what a push wants goes on",
            arrival(closed(false)),
            older([known(1, 'a', State::Queued), by_request(known(2, 'c', State::Running))]),
            "cancel #2: pull request 7 was closed · drops member",
        ),
        case(
            ClosedPullRequestEnds,
            "closed: a fork's",
            arrival(closed(true)),
            older([by_request(known(2, 'c', State::Waiting))]),
            "cancel #2: pull request 7 was closed · drops fork",
        ),
        case(DeletedBeforePush, "the push of what was deleted comes late", creates('a'), gone(Some('a')), WAS_DELETED),
        case(
            DeletedBeforePush,
            "an older push of it, by the forge's clock",
            at(6, '0', 'b'),
            later(8, gone(Some('a'))),
            WAS_DELETED,
        ),
        case(
            DeletedBeforePush,
            "the forge names no commit: what moved the branch came before its end",
            moves('c', 'a'),
            gone(None),
            WAS_DELETED,
        ),
        case(PushIsBuilt, "the branch is made again", creates('b'), gone(Some('a')), "queued push trusted"),
        case(
            PushIsBuilt,
            "made again, where the forge names no commit",
            creates('a'),
            gone(None),
            "queued push trusted",
        ),
        case(
            PushIsBuilt,
            "made again at the same commit, a second later",
            at(9, '0', 'a'),
            later(8, gone(Some('a'))),
            "queued push trusted",
        ),
        case(
            AskedAgain,
            "made again at a commit that was built before",
            creates('a'),
            Facts { same: Some(finished(5, 'a', Outcome::Passed)), ..gone(Some('a')) },
            "queued push trusted",
        ),
        case(
            PushIsBuilt,
            "moved after it was made again, where the forge names no commit",
            moves('c', 'a'),
            Facts { recent: vec![Known { created_at: NOW, ..finished(5, 'c', Outcome::Passed) }], ..gone(None) },
            "queued push trusted",
        ),
    ]
}

fn what_the_sweep_found() -> Vec<Case> {
    use Rule::*;
    let found = |arrival: Arrival| Arrival { found: Some(Found { stands_on: Vec::new() }), ..arrival };
    let by_sweep = |before, build| Known { before: Some(commit(before)), cause: Cause::Sweep, ..build };
    vec![
        case(
            SweepFindsHead,
            "a push that no delivery told of",
            found(moves('0', 'a')),
            nothing(),
            "queued sweep trusted",
        ),
        case(
            SweepFindsHead,
            "a pull request that no delivery told of",
            found(arrival(Event::PullRequest(request(false, 'a')))),
            nothing(),
            "queued sweep member",
        ),
        case(
            ForkWaits,
            "a fork's waits for approval, whoever heard of it",
            found(arrival(Event::PullRequest(request(true, 'a')))),
            nothing(),
            "waiting sweep fork",
        ),
        case(
            SweepOutrun,
            "a delivery came while the forge was asked",
            found(moves('0', 'a')),
            Facts { outrun: true, ..nothing() },
            "outrun: a newer delivery came while the forge was asked",
        ),
        case(
            OneBuildNotTwo,
            "what a delivery told of before",
            found(moves('0', 'a')),
            same(finished(5, 'a', Outcome::Failed)),
            "#5 already built",
        ),
        case(
            OneBuildNotTwo,
            "the late delivery of what the sweep found",
            moves('0', 'a'),
            Facts { same_is_head: true, ..same(by_sweep('0', finished(5, 'a', Outcome::Passed))) },
            "#5 already built",
        ),
        case(
            LatePushYields,
            "the late delivery of a push that led to what the sweep found",
            moves('0', 'a'),
            recent([by_sweep('0', finished(3, 'c', Outcome::Passed))]),
            YIELDS_TO_3,
        ),
        case(
            PushIsBuilt,
            "it starts where the sweep's head once was, and others were pushed since: no late push",
            moves('0', 'a'),
            recent([
                by_sweep('0', finished(3, 'c', Outcome::Passed)),
                Known { before: Some(commit('c')), ..finished(4, 'd', Outcome::Passed) },
            ]),
            "queued push trusted",
        ),
        case(
            SweepFindsHead,
            "the branch is there again, although its end was the last word on it",
            found(creates('a')),
            gone(Some('a')),
            "queued sweep trusted",
        ),
    ]
}

/// The rule that shows: of what is ended where something is, else the decision's own.
fn rule_of(decision: &Decision) -> Rule {
    match decision {
        Decision::Make { supersedes, .. } if !supersedes.is_empty() => supersedes[0].rule,
        other => other.rule(),
    }
}

#[test]
fn every_rule_of_the_intake_by_its_name() {
    let rows = [what_is_made_or_not(), one_build_not_two(), whose_place(), what_went(), what_the_sweep_found()];
    let table: Vec<Case> = rows.into_iter().flatten().collect();
    for Case { rule, story, arrival, facts, becomes } in &table {
        let decision = decide(arrival, facts);
        assert_eq!((rule_of(&decision), say(&decision).as_str()), (*rule, *becomes), "{rule}: {story}");
    }
    // These act where a person, a clock or an agent does, not a delivery.
    let elsewhere = [
        Rule::ForkApproved,
        Rule::ApprovalHolds,
        Rule::RerunIsANewBuild,
        Rule::CancelledByPerson,
        Rule::NobodyApproved,
        Rule::AgentLost,
        Rule::AgentLostTooOften,
        Rule::CancelledWithItsAgent,
        Rule::AgentDrains,
    ];
    for rule in Rule::ALL.iter().filter(|rule| !elsewhere.contains(rule)) {
        assert!(table.iter().any(|case| case.rule == *rule), "{rule} has no row");
    }
}

#[test]
fn a_late_push_names_the_build_whose_history_tells_of_it() {
    let successor = Known { before: Some(commit('a')), ..known(3, 'c', State::Queued) };
    let Decision::Behind { instead, .. } = decide(&moves('0', 'a'), &older([successor])) else { panic!("it yields") };
    assert_eq!(instead, Some(BuildId(3)));
}

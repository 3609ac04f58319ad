//! Which rule moved a build, and why: what a delivery's answer, a build's page and `hookmill builds explain` name.

use serde::{Deserialize, Serialize};

use super::build::BuildId;
use super::time::Timestamp;

/// Each rule with its stable name; its documentation is also what people are shown.
macro_rules! rules {
    ($($(#[doc = $text:literal])+ $rule:ident = $name:literal,)+) => {
        /// A rule by which builds are made, not made, ended or begun again. The names are stable.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum Rule {
            $($(#[doc = $text])+ #[serde(rename = $name)] $rule,)+
        }

        impl Rule {
            /// Every rule there is.
            pub const ALL: &[Rule] = &[$(Rule::$rule),+];

            /// Its name in the store, the API and on pages.
            pub fn as_str(self) -> &'static str {
                match self { $(Rule::$rule => $name),+ }
            }

            /// What it says, for people.
            pub fn says(self) -> &'static str {
                match self { $(Rule::$rule => concat!($($text),+).trim_ascii()),+ }
            }
        }
    };
}

rules! {
    /// A delivery that was answered before is answered the same again, and changes nothing.
    RepeatedDelivery = "repeated_delivery",
    /// An event that brings nothing to build changes nothing.
    NothingToBuild = "nothing_to_build",
    /// A repository without a `[[repo]]` block is not built.
    UnknownRepository = "unknown_repository",
    /// A ref that did not move is not built again.
    RefNotMoved = "ref_not_moved",
    /// Only branches that `branches` names are built, and pull requests into them.
    BranchesAsConfigured = "branches_as_configured",
    /// Tags are built only where `tags` is true.
    TagsAsConfigured = "tags_as_configured",
    /// Pull requests from forks are not built where `forks` is "ignore".
    ForksAsConfigured = "forks_as_configured",
    /// A commit whose message asks for no build gets none.
    SkipCi = "skip_ci",
    /// A push to a branch is built.
    PushIsBuilt = "push_is_built",
    /// Every tag is built by itself, however many come at once: none takes the place of another.
    TagsStandAlone = "tags_stand_alone",
    /// A pull request's head is built when it is opened, reopened or moves.
    PullRequestIsBuilt = "pull_request_is_built",
    /// A fork's commit is built once a maintainer approved it.
    ForkWaits = "fork_waits",
    /// Where `forks` is "build" a fork's commit is built at once, and has no more rights than an approved one.
    ForkIsBuilt = "fork_is_built",
    /// A maintainer approves one commit of a fork, as long as it is the head of its pull request.
    ForkApproved = "fork_approved",
    /// For the commit that was approved the approval holds 14 days, as long as it is the head of its pull request.
    ApprovalHolds = "approval_holds",
    /// What no delivery told of is built once the sweep finds it, by the same rules.
    SweepFindsHead = "sweep_finds_head",
    /// What the sweep found is left alone where a newer delivery came while it asked: it looks again.
    SweepOutrun = "sweep_outrun",
    /// One commit of one ref is one build: a push and its pull request share it.
    OneBuildNotTwo = "one_build_not_two",
    /// The same kind of event that asks for a finished commit again gets a new attempt.
    AskedAgain = "asked_again",
    /// The newest push of a ref takes the place of what is unfinished there, as `supersede` says.
    NewestPushWins = "newest_push_wins",
    /// A push that rewrites history takes the place of what is unfinished, on the default branch too.
    ForcePushWins = "force_push_wins",
    /// Of two pushes of one second that don't start from each other, the one that arrived later is the newer.
    SameSecondByArrival = "same_second_by_arrival",
    /// A push that is delivered after a later one of its ref is not built: it would end its successor.
    LatePushYields = "late_push_yields",
    /// A push that is delivered after the deletion of what it pushed is not built.
    DeletedBeforePush = "deleted_before_push",
    /// With a branch or tag, its unfinished builds end.
    DeletedRefEnds = "deleted_ref_ends",
    /// With a pull request, the unfinished builds end that no push asked for.
    ClosedPullRequestEnds = "closed_pull_request_ends",
    /// A person's request to build a finished commit again makes a new build; asked twice at once, one.
    RerunIsANewBuild = "rerun_is_a_new_build",
    /// A person may end every build that is unfinished.
    CancelledByPerson = "cancelled_by_person",
    /// A fork's build that nobody approved in time ends.
    NobodyApproved = "nobody_approved",
    /// A build whose agent was lost is queued again.
    AgentLost = "agent_lost",
    /// A build whose agent was lost three times ends broken, so that it takes no fourth with it.
    AgentLostTooOften = "agent_lost_too_often",
    /// A build that was to end ends with its agent, and is not queued again.
    CancelledWithItsAgent = "cancelled_with_its_agent",
    /// An agent that drains gives its build back to the queue.
    AgentDrains = "agent_drains",
}

impl std::fmt::Display for Rule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for Rule {
    type Err = super::repo::BadName;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = Rule::ALL.iter().find(|rule| rule.as_str() == text);
        found.copied().ok_or_else(|| super::repo::BadName(format!("{text:?} is not a rule")))
    }
}

/// A line of a build's history: a rule acted on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ruling {
    /// When.
    pub at: Timestamp,
    /// The rule.
    pub rule: Rule,
    /// What it acted on and what follows, one line: `Superseded by a1b2c3d, pushed 40s later`. Hostile text.
    pub because: String,
    /// The other build that it is about: the newer one, the one that is repeated.
    pub other_build: Option<BuildId>,
    /// The forge's id of the delivery that brought it. Hostile text.
    pub delivery: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back_and_every_rule_is_a_sentence() {
        for &rule in Rule::ALL {
            assert_eq!(rule.as_str().parse::<Rule>().ok(), Some(rule));
            assert_eq!(serde_json::to_value(rule).expect("a name"), rule.as_str());
            assert!(rule.says().ends_with('.') && !rule.says().starts_with(' '), "{rule}: {}", rule.says());
        }
        assert!("newest".parse::<Rule>().is_err());
    }
}

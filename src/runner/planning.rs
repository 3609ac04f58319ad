//! From a listing and the repository file in it to a plan, or to the verdict that there can be none.

use crate::config::repo_file::{self, RepoFile};
use crate::config::repo_on::Subject;
use crate::domain::build::Build;
use crate::domain::listing::Listing;
use crate::domain::outcome::{Outcome, Verdict};
use crate::domain::sentence;
use crate::domain::spec::{NOBODY, Network, Plan, Wanted};
use crate::domain::trust::Trust;
use crate::plan::{self, BundleWish, CheckWish, InstallWish, PlanSettings, Wishes};

use super::{Job, Parts};

/// A plan, and the repository file from which it was made.
pub(super) struct Planned {
    pub(super) plan: Plan,
    pub(super) file: RepoFile,
}

/// Plans a build. What can't be planned is the repository's fault and says which file and what mends it.
pub(super) async fn plan(job: &Job, parts: &Parts, listing: &Listing) -> Result<Planned, Verdict> {
    let failed = |why: String| Verdict::new(Outcome::Failed, sentence::one_line(&why, sentence::MAX_CHARS));
    let file = match listing.text(repo_file::FILE_NAME) {
        Some(text) => RepoFile::parse(text, repo_file::FILE_NAME).map_err(|problems| failed(first(&problems)))?,
        None if listing.has(repo_file::FILE_NAME) => {
            return Err(failed(format!("{} is not UTF-8 text of at most 2 MiB", repo_file::FILE_NAME)));
        }
        None => RepoFile::default(),
    };
    let settings = PlanSettings {
        step_timeout: job.limits.step_timeout,
        scripts: job.scripts.clone(),
        node: usual_node(job, parts).await?,
        network: job.bundle_network && job.build.trust != Trust::Fork,
    };
    let file = file.for_build(subject(&job.build));
    let refused = (job.build.trust == Trust::Fork).then(|| asks_for_network(&file)).flatten();
    let mut plan = plan::plan(listing, &wishes(file.clone(), job.build.trust), &settings)
        .map_err(|bad| failed(bad.to_string()))?;
    plan.notices
        .extend(refused.map(|who| format!("{who} gets no network, although it asks for it: this is a fork's build")));
    Ok(Planned { plan, file })
}

/// Our default gives way to a node on `PATH` that is not much older: it is what the machine's people run by hand, and
/// needs no download.
const OLDER_MAJORS: u32 = 2;

/// The node for a repository that asks for none.
async fn usual_node(job: &Job, parts: &Parts) -> Result<Wanted, Verdict> {
    let wanted = |version: &str, asked_by: &str| Wanted {
        tool: "node".to_owned(),
        version: version.to_owned(),
        asked_by: asked_by.to_owned(),
        hash: None,
    };
    let default = &parts.toolchain.node;
    if !parts.toolchain.node_is_chosen {
        let toolchain = parts.toolchain(job.root.as_ref()).await?;
        let major = |version: &str| version.split('.').next().and_then(|major| major.parse::<u32>().ok());
        let own = toolchain.get("node").and_then(|node| node.version.as_deref());
        if let Some(own) = own
            && major(own).is_some_and(|own| major(default).is_some_and(|ours| own + OLDER_MAJORS >= ours))
        {
            return Ok(wanted(own, NOBODY));
        }
    }
    Ok(wanted(default, "the server's [toolchain] node"))
}

/// What `[on]` of the repository file is asked about. A pull request of the repository itself is of its branch, too.
fn subject(build: &Build) -> Subject<'_> {
    Subject {
        branch: build.git_ref.as_branch().filter(|_| build.trust != Trust::Fork),
        pull_request: build.pull_request.is_some(),
        tag: build.git_ref.as_tag().is_some(),
    }
}

/// The first step that wants to reach out.
fn asks_for_network(file: &RepoFile) -> Option<String> {
    let asks = |network: &Option<Network>| network.as_ref().is_some_and(|network| *network != Network::Closed);
    let mut checks = file.checks.iter().filter(|check| asks(&check.network));
    let bundle = asks(&file.bundle.network).then(|| "the bundle".to_owned());
    bundle.or_else(|| Some(format!("the check {}", checks.next()?.name)))
}

/// The first problem, on one line: `.hookmill.toml:3:1: …`. All of them are in `hookmill check`.
fn first(problems: &crate::config::problem::Problems) -> String {
    problems.0.first().map_or_else(
        || format!("{} can't be used", repo_file::FILE_NAME),
        |problem| {
            let place = problem.location().map(|(file, line, column)| format!("{file}:{line}:{column}: "));
            let fix = problem.fix.as_ref().map(|fix| format!("; {fix}"));
            format!("{}{}{}", place.unwrap_or_default(), problem.message, fix.unwrap_or_default())
        },
    )
}

/// What the file asks for, in the planner's words. A fork's file opens no network.
fn wishes(file: RepoFile, trust: Trust) -> Wishes {
    let may_reach_out = trust != Trust::Fork;
    let bundle = file.bundle;
    let bundle_says_something = bundle.command.is_some()
        || bundle.dir.is_some()
        || bundle.timeout.is_some()
        || !bundle.env.is_empty()
        || bundle.network.is_some();
    Wishes {
        env: file.env,
        toolchain: file.toolchain,
        installs: file
            .installs
            .into_iter()
            .map(|install| InstallWish {
                tool: install.tool.as_str().to_owned(),
                dir: Some(install.dir),
                command: install.command,
                env: install.env,
                timeout: install.timeout,
                skip: install.skip,
            })
            .collect(),
        bundle: bundle_says_something.then(|| BundleWish {
            command: bundle.command,
            dir: bundle.dir,
            env: bundle.env,
            timeout: bundle.timeout,
            network: bundle.network.filter(|_| may_reach_out),
        }),
        checks: file
            .checks
            .into_iter()
            .map(|check| CheckWish {
                name: check.name,
                command: check.command,
                after: match check.after {
                    repo_file::After::Install => plan::After::Install,
                    repo_file::After::Bundle => plan::After::Bundle,
                },
                allow_failure: check.allow_failure,
                retry: check.retry,
                dir: Some(check.dir),
                env: check.env,
                timeout: check.timeout,
                network: check.network.filter(|_| may_reach_out),
            })
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_for_a_network() {
        let check = |text: &str, expected: Option<&str>| {
            let file = RepoFile::parse(text, repo_file::FILE_NAME).expect("legal");
            assert_eq!(asks_for_network(&file).as_deref(), expected, "{text}");
        };
        check("", None);
        check("[bundle]\nnetwork = false\n", None);
        check("[bundle]\nnetwork = true\n", Some("the bundle"));
        check("[[check]]\nname = \"e2e\"\ncommand = [\"x\"]\nnetwork = true\n", Some("the check e2e"));
    }
}

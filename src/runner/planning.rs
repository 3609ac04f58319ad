//! From a listing and the repository file in it to a plan, or to the verdict that there can be none.

use crate::config::repo_file::{self, RepoFile};
use crate::domain::listing::Listing;
use crate::domain::outcome::{Outcome, Verdict};
use crate::domain::sentence;
use crate::domain::spec::Plan;
use crate::domain::trust::Trust;
use crate::plan::{self, BundleWish, CheckWish, InstallWish, PlanSettings, Wishes};

use super::{Job, Parts};

/// Plans a build. What can't be planned is the repository's fault and says which file and what mends it.
pub(super) fn plan(job: &Job, parts: &Parts, listing: &Listing) -> Result<Plan, Verdict> {
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
        scripts: job.scripts,
        node: parts.toolchain.node.clone(),
        network: job.bundle_network && job.build.trust != Trust::Fork,
    };
    plan::plan(listing, &wishes(file, job.build.trust), &settings).map_err(|bad| failed(bad.to_string()))
}

/// The first problem, on one line: `.hookmill.toml:3:1: …`. All of them are in `hookmill check`.
fn first(problems: &crate::config::problem::Problems) -> String {
    problems.0.first().map_or_else(
        || format!("{} can't be used", repo_file::FILE_NAME),
        |problem| {
            let place = problem.location().map(|(file, line, column)| format!("{file}:{line}:{column}: "));
            format!("{}{}", place.unwrap_or_default(), problem.message)
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

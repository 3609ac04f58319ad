//! The steps of a plan, run in the views that they are to see.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::SystemTime;

use bytes::Bytes;

use crate::config::server::{Access, Registry};
use crate::confine::{Holder, Seen};
use crate::domain::build::{Build, Cause};
use crate::domain::outcome::{Outcome, Verdict};
use crate::domain::spec::{Plan, Stage, StepSpec};
use crate::domain::step::{CacheUse, Step, StepKind, StepState};
use crate::egress::Rules;

use super::build::{no_home, now};
use super::checkout::CheckedOut;
use super::environment::committed;
use super::environment::home::Settings;
use super::observer::CacheOf;
use super::reach::Reach;
use super::restore::Restored;
use super::stage::{self, Ended, Placed, Scene};
use super::tools::Tools;
use super::{Happening, Job, Parts, Stop, Tell, environment, observer, secrets};

/// Everything that the steps of one build share.
pub(super) struct Course<'a> {
    pub(super) job: &'a Job,
    pub(super) parts: &'a Parts,
    pub(super) tell: &'a Tell,
    pub(super) stop: &'a Stop,
    pub(super) tree: &'a CheckedOut,
    pub(super) plan: &'a Plan,
    pub(super) tools: &'a Tools,
    pub(super) settings: &'a Settings,
    pub(super) restored: Restored,
    /// The sources on this machine, which no step changes.
    pub(super) sources: PathBuf,
    /// Where steps see the tree, HOME and TMPDIR.
    pub(super) place: Seen,
    /// What bundlers are given for a cache that outlives the build; `None` where nothing of them is kept.
    pub(super) observer: Option<observer::Settings>,
}

/// A part of a plan's stages, and the place of its first step in the plan.
#[derive(Clone, Copy)]
pub(super) struct Part<'a> {
    stages: &'a [Stage],
    first: usize,
}

/// All stages.
pub(super) fn whole(plan: &Plan) -> Part<'_> {
    Part { stages: &plan.stages, first: 1 }
}

/// The stages that only install, from the first on; and the others.
pub(super) fn split(plan: &Plan) -> (Part<'_>, Part<'_>) {
    let installs = |stage: &&Stage| stage.steps.iter().all(|step| step.kind == StepKind::Install);
    let (before, after) = plan.stages.split_at(plan.stages.iter().take_while(installs).count());
    let first = 1 + before.iter().map(|stage| stage.steps.len()).sum::<usize>();
    (Part { stages: before, first: 1 }, Part { stages: after, first })
}

impl Course<'_> {
    /// Runs a part of the plan in a holder whose view is mounted; `home` is where this machine has what the steps write
    /// to HOME. The first stage that does not succeed is the verdict, and nothing later starts.
    pub(super) async fn run(&self, holder: &Holder, home: &Path, part: Part<'_>) -> Result<Vec<Vec<Ended>>, Verdict> {
        let ended = self.run_stages(holder, home, part).await;
        self.forget_tokens(home);
        ended
    }

    async fn run_stages(&self, holder: &Holder, home: &Path, part: Part<'_>) -> Result<Vec<Vec<Ended>>, Verdict> {
        let is_restored = |spec: &StepSpec| self.restored.of(spec).0 == CacheUse::Hit;
        let steps = part.stages.iter().flat_map(|stage| &stage.steps);
        let reach = Reach::of(self, steps.filter(|spec| !is_restored(spec))).await;
        let committed = |spec: &StepSpec| committed::variables(&self.sources, spec, &self.job.registries);
        let environment = |spec: &StepSpec| self.environment(spec, &committed(spec), reach.rules(spec).as_ref());
        let withheld: Vec<&Registry> =
            self.job.registries.iter().filter(|one| one.access == Access::Withheld).collect();
        let install_hosts: Vec<String> =
            self.job.sandbox.install_hosts.iter().map(|host| host.as_str().to_owned()).collect();
        let root = self.place.build.to_string_lossy();
        let told = AtomicUsize::new(0);
        let scene = Scene {
            parts: self.parts,
            holder,
            tell: self.tell,
            stop: self.stop,
            environment: &environment,
            limits: &self.job.limits,
            secrets: &|spec| secrets::given(&self.job.secrets, spec).into_keys().collect(),
            mask: &self.job.mask,
            trust: self.job.build.trust,
            root: &root,
            withheld: &withheld,
            sources: &self.sources,
            reach: &reach,
            install_hosts: &install_hosts,
            is_local: self.job.build.cause == Cause::Local,
            last_word: &|spec| observed(spec, home, &told),
            cache: &|spec| self.restored.of(spec),
        };
        let mut ended = Vec::new();
        let mut place = part.first;
        let mut written_for = None;
        let mut ready = None;
        for stage in part.stages {
            // All steps of a part see one HOME: its tokens are there while nothing but installs runs.
            let installs = stage.steps.iter().all(|step| step.kind == StepKind::Install);
            if let Some(settings) = self.observer.as_ref().filter(|_| !installs) {
                // An earlier step may have changed it.
                let ready = *ready.get_or_insert_with(SystemTime::now);
                let settings = observer::Settings { ready, ..settings.clone() };
                observer::write(home, &self.place.home, &settings).map_err(no_home)?;
            }
            if written_for.is_none_or(|written| self.settings.differ() && written != installs) {
                self.settings.write(home, installs).map_err(no_home)?;
                written_for = Some(installs);
            }
            let steps = stage.steps.iter().enumerate().map(|(at, spec)| Placed { place: place + at, spec });
            let (restored, steps): (Vec<_>, Vec<_>) = steps.partition(|placed| installs && is_restored(placed.spec));
            let mut results = Vec::new();
            for placed in restored {
                results.push(self.skip(&placed).await);
            }
            results.extend(stage::run(&scene, &steps).await);
            place += stage.steps.len();
            if let Some(verdict) = stage::verdict(&results) {
                self.cancel_the_rest(place).await;
                return Err(verdict);
            }
            ended.push(results);
        }
        Ok(ended)
    }

    /// An install whose outcome lies in the view already.
    async fn skip(&self, placed: &Placed<'_>) -> Ended {
        let mut step = Step::queued(&placed.spec.name, placed.spec.kind);
        step.state = StepState::Running;
        (step.cache, step.cache_note) = self.restored.of(placed.spec);
        step.started_at = Some(now());
        self.tell.that(Happening::Step(placed.place, step.clone())).await;
        let line = format!("{}\n", self.restored.told(placed.spec));
        self.tell.that(Happening::Output(placed.place, Bytes::from(line))).await;
        (step.state, step.outcome, step.finished_at) = (StepState::Finished, Some(Outcome::Passed), Some(now()));
        self.tell.that(Happening::Step(placed.place, step.clone())).await;
        Ended { step, allow_failure: false, verdict: Verdict::new(Outcome::Passed, "") }
    }

    /// Further paths that steps may read.
    pub(super) fn readable(&self) -> Vec<PathBuf> {
        self.tools.readable.iter().chain(&self.tree.done.objects).cloned().collect()
    }

    /// A build that ended among its installs still has the tokens in its HOME, and the trash is emptied later.
    fn forget_tokens(&self, home: &Path) {
        if !self.settings.holds_tokens() {
            return;
        }
        if let Err(error) = self.settings.write(home, false) {
            tracing::warn!(home = %home.display(), %error, "tokens could not be removed before the trash is emptied");
        }
    }

    /// Shows the steps that were never started as what they are.
    async fn cancel_the_rest(&self, from: usize) {
        let steps = self.plan.steps().enumerate().map(|(at, spec)| (at + 1, spec));
        for (place, spec) in steps.filter(|(place, _)| *place >= from) {
            let mut step = Step::queued(&spec.name, spec.kind);
            step.state = StepState::Finished;
            step.outcome = Some(Outcome::Cancelled);
            step.reason = Some("not started: an earlier step did not succeed".to_owned());
            self.tell.that(Happening::Step(place, step)).await;
        }
    }

    fn environment(
        &self,
        step: &StepSpec,
        committed: &BTreeMap<String, String>,
        gate: Option<&Rules>,
    ) -> BTreeMap<String, String> {
        let Self { job, parts, tree, .. } = self;
        let mut nodes = self.tools.of(step).given.iter().filter(|given| given.tool == "node");
        let observes = nodes.all(|node| observer::runs_on(&node.version));
        let observed = self.observer.is_some() && step.kind != StepKind::Install && observes;
        let mut build = Build { built_sha: Some(tree.sha.clone()), ..job.build.clone() };
        if build.cause == Cause::Local {
            // Only the checkout knows the commit of a folder.
            build.sha = tree.sha.clone();
        }
        let place = environment::Place {
            build: self.place.build.clone(),
            home: self.place.home.clone(),
            tmp: self.place.tmp.clone(),
        };
        let secrets = secrets::given(&job.secrets, step);
        let names = job.secrets.iter().map(|secret| secret.name.as_str());
        let withheld: Vec<&str> = names.filter(|name| !secrets.contains_key(*name)).collect();
        environment::make(&environment::Facts {
            build: &build,
            build_url: &job.url,
            commit_time: tree.done.committed_at,
            step,
            place: &place,
            outfit: self.tools.of(step),
            network: &parts.network,
            gate,
            certificates: &self.tools.certificates,
            node_options: observed.then(|| observer::node_options(&self.place.home)).as_deref(),
            first_on_path: observed.then(|| observer::path_folder(&self.place.home)).as_deref(),
            scripts: job.scripts.run_all(),
            committed,
            registry_tokens: job.registries.iter().any(|one| matches!(one.access, Access::Token(_))),
            withheld: &withheld,
            secrets: &secrets,
            server_env: &job.env,
        })
    }
}

/// What the bundlers that ran since the last call said of themselves.
fn observed(step: &StepSpec, home: &Path, told: &AtomicUsize) -> Option<String> {
    if step.kind == StepKind::Install {
        return None;
    }
    let all = observer::observed(home);
    let mut words = String::new();
    for one in all.iter().skip(told.swap(all.len(), Ordering::Relaxed)) {
        let cache = match one.cache {
            CacheOf::Ours => "its cache is kept between builds",
            CacheOf::Repositorys => "the repository's own cache is kept between builds",
            CacheOf::None => "it has no cache that could be kept",
        };
        let (bundler, version, built) = (&one.bundler, &one.version, one.built);
        let all = built.saturating_add(one.cached);
        // Writing to a String does not fail.
        let _ = writeln!(words, "== {bundler} {version}: {built} of {all} modules built; {cache} ==");
    }
    (!words.is_empty()).then(|| format!("\n{words}"))
}

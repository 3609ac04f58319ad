//! The agent's tools as one build needs them: found, or named as missing.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::future::try_join_all;
use tokio::sync::Mutex;
use url::Url;

use crate::config::root::Root;
use crate::config::server::Network;
use crate::confine::Visit;
use crate::domain::outcome::{Outcome, Verdict};
use crate::domain::sentence;
use crate::domain::spec::{Decision, Plan, StepSpec, Wanted};
use crate::outside;
use crate::toolchain::{self, BowerPlaces, Given, Outfit, Supply, TOOLS, Toolchain, Unmet};

use super::downloads::Lockfiles;
use super::environment::Certificates;
use super::environment::home::{AUTHORITIES, Settings};
use super::{Happening, Job, Parts, Tell};

/// Of each root, what it was known by when it was looked at, and what was found.
type InRoots = BTreeMap<Root, (String, Arc<Toolchain>)>;

/// The toolchain of this machine and those of roots, looked at once and again when something is missing. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Toolbox {
    looked: Arc<Mutex<Option<Arc<Toolchain>>>>,
    in_roots: Arc<Mutex<InRoots>>,
    bower: Arc<Mutex<Option<Arc<BowerPlaces>>>>,
    yarns_own: Arc<Mutex<Option<Url>>>,
}

impl Toolbox {
    /// The toolchain as it was looked at last. The first call takes about as long as starting npm.
    pub async fn toolchain(&self) -> Arc<Toolchain> {
        let mut looked = self.looked.lock().await;
        if let Some(toolchain) = &*looked {
            return Arc::clone(toolchain);
        }
        Arc::clone(looked.insert(Arc::new(look().await)))
    }

    /// Looks anew: somebody may have installed what was missing.
    async fn again(&self) -> Arc<Toolchain> {
        let mut looked = self.looked.lock().await;
        Arc::clone(looked.insert(Arc::new(look().await)))
    }

    /// Where bower goes, asked once of the agent's own, which is fetched for that if need be.
    async fn bower_places(&self, supply: &Supply) -> Option<Arc<BowerPlaces>> {
        let mut known = self.bower.lock().await;
        if known.is_none() {
            *known = toolchain::bower_places_of(supply).await.map(Arc::new);
        }
        known.clone()
    }

    /// The registry that yarn 1 is made with, asked once.
    async fn yarns_own_registry(&self, supply: &Supply) -> Option<Url> {
        let mut known = self.yarns_own.lock().await;
        if known.is_none() {
            *known = toolchain::yarns_own_registry(supply).await;
        }
        known.clone()
    }
}

async fn look() -> Toolchain {
    Toolchain::look(&path_variable()).await
}

fn path_variable() -> OsString {
    std::env::var_os("PATH").unwrap_or_default()
}

impl Parts {
    /// The tools that steps of a root have, or of this machine's own. A root that has changed is looked at anew.
    ///
    /// # Errors
    /// The verdict where the root can't be entered.
    pub(super) async fn toolchain(&self, root: Option<&Root>) -> Result<Arc<Toolchain>, Verdict> {
        let Some(root) = root else { return Ok(self.tools.toolchain().await) };
        let mut looked = self.tools.in_roots.lock().await;
        let identity = toolchain::identity(root);
        match looked.get(root).filter(|(known, _)| *known == identity) {
            Some((_, toolchain)) => Ok(Arc::clone(toolchain)),
            None => {
                let toolchain = Arc::new(self.look_in(root).await.map_err(no_root)?);
                looked.insert(root.clone(), (identity, Arc::clone(&toolchain)));
                Ok(toolchain)
            }
        }
    }

    /// Looks at a root, once, before a build needs it.
    ///
    /// # Errors
    /// In words, why it can't be entered.
    pub async fn prepare_root(&self, root: &Root) -> Result<(), String> {
        self.toolchain(Some(root)).await.map(drop).map_err(|verdict| verdict.reason)
    }

    /// The same, whatever was found before: somebody may have installed what was missing.
    async fn toolchain_again(&self, root: Option<&Root>) -> Result<Arc<Toolchain>, Verdict> {
        if let Some(root) = root {
            self.tools.in_roots.lock().await.remove(root);
            return self.toolchain(Some(root)).await;
        }
        Ok(self.tools.again().await)
    }

    async fn look_in(&self, root: &Root) -> Result<Toolchain, String> {
        // It may have gone, or lost what makes it one.
        Root::open(root.dir().to_owned()).map_err(|error| error.to_string())?;
        let host = self.tools.toolchain().await;
        let visit = Visit::begin(&self.exe, &self.layers, &self.data_dir, root.dir()).await;
        let visit = visit.map_err(|error| error.to_string())?;
        let toolchain = Toolchain::look_in(root, &visit, &path_variable(), host).await;
        visit.end().await;
        Ok(toolchain)
    }
}

fn no_root(why: String) -> Verdict {
    Verdict::new(Outcome::Broken, sentence::broken(&why, 1))
}

/// What the steps of one build are given.
pub(super) struct Tools {
    /// By what a step wants.
    outfits: BTreeMap<Vec<Wanted>, Outfit>,
    /// Files and folders that steps must be able to read.
    pub(super) readable: Vec<PathBuf>,
    /// What steps trust.
    pub(super) certificates: Certificates,
    /// Where the agent's own npm goes.
    pub(super) registry: Option<String>,
    /// Where the agent's node says that its headers are.
    pub(super) node_headers: Option<Url>,
    toolbox: Toolbox,
    /// Where the agent's own tools come from.
    asked: Supply,
}

impl Tools {
    /// Finds what the plan's steps want and start, and fetches what is not there. Different sets are met side by
    /// side; what they share is fetched once. A missing tool is not the commit's fault, unless what asks for it is wrong.
    pub(super) async fn gather(plan: &Plan, parts: &Parts, job: &Job, tell: &Tell) -> Result<Self, Verdict> {
        let root = job.root.as_ref();
        let mut toolchain = parts.toolchain(root).await?;
        if missing(plan, &toolchain).is_some() {
            toolchain = parts.toolchain_again(root).await?;
        }
        if let Some(gone) = missing(plan, &toolchain) {
            return Err(Verdict::new(Outcome::Broken, sentence::tool_missing(&gone.tool, &gone.place, &gone.mend)));
        }
        let tools = parts.tools_dir();
        let mirror = parts.toolchain.node_mirror.clone();
        let supply = Supply::new(Arc::clone(&toolchain), tools.clone(), mirror, &parts.network, &job.registries);
        let sets: BTreeSet<Vec<Wanted>> = plan.steps().map(wanted).collect();
        let outfits = try_join_all(sets.iter().map(|set| supply.outfit(set))).await.map_err(unmet)?;
        tell_what_was_given(&outfits, tell).await;
        let certificates = certificates(&parts.network);
        let mut readable = toolchain.readable().to_vec();
        readable.extend(tools.is_dir().then_some(tools));
        readable.extend(certificates.readable());
        let outfits = sets.into_iter().zip(outfits).collect();
        // What is asked on this machine is this machine's own, whatever root the steps see.
        let asked = match root {
            None => supply,
            Some(_) => {
                let (host, mirror) = (parts.tools.toolchain().await, parts.toolchain.node_mirror.clone());
                Supply::new(host, parts.tools_dir(), mirror, &parts.network, &job.registries)
            }
        };
        Ok(Self {
            outfits,
            readable,
            certificates,
            registry: toolchain.registry().map(str::to_owned),
            node_headers: toolchain.node_headers().cloned(),
            toolbox: parts.tools.clone(),
            asked,
        })
    }

    /// Where the agent's bower goes; `None` where there is none to be had, and so no step that could start it.
    pub(super) async fn bower_places(&self) -> Option<Arc<BowerPlaces>> {
        self.toolbox.bower_places(&self.asked).await
    }

    /// Whether one of these steps is given a yarn 1.
    pub(super) fn give_yarn_1(&self, steps: &[&StepSpec]) -> bool {
        let is_yarn_1 =
            |given: &Given| given.tool == "yarn" && ["0.", "1."].iter().any(|major| given.version.starts_with(major));
        steps.iter().any(|step| self.of(step).given.iter().any(is_yarn_1))
    }

    /// The registry that the lockfiles of yarn 1 name; `None` where no such yarn is to be had.
    pub(super) async fn yarns_own_registry(&self) -> Option<Url> {
        self.toolbox.yarns_own_registry(&self.asked).await
    }

    /// What a step of the plan is given that was gathered for; `PATH` stands behind the tree's own.
    pub(super) fn of(&self, step: &StepSpec) -> &Outfit {
        self.outfits.get(&wanted(step)).expect("it was gathered for every step of the plan")
    }

    /// What the private HOME of a build holds; `home` is where its steps see it.
    pub(super) fn settings(
        &self,
        job: &Job,
        parts: &Parts,
        home: &Path,
        lockfiles: &Lockfiles,
    ) -> Result<Settings, outside::Unusable> {
        // npm and git take one file instead of the system's authorities, so a configured one is written beside them.
        let added = self.certificates.ssl.is_none() && parts.network.ca_file.is_some();
        Ok(Settings {
            registry: self.registry.clone(),
            registries: job.registries.clone(),
            git: job.git.clone(),
            network: Network::clone(&parts.network),
            trusted: self.certificates.ssl.clone().or_else(|| added.then(|| home.join(AUTHORITIES))),
            authorities: if added { Some(outside::authorities_pem(&parts.network)?) } else { None },
            home: home.to_owned(),
            gated: parts.layers.has_netns(),
            yarn_mirror: lockfiles.can_be_mirrored(),
        })
    }
}

fn certificates(network: &Network) -> Certificates {
    Certificates::resolve(network, |name| std::env::var_os(name).filter(|value| *value != OsString::new()))
}

/// What a step wants; one that starts bower wants it also where the plan does not say so.
fn wanted(step: &StepSpec) -> Vec<Wanted> {
    let mut wanted = step.tools.clone();
    let starts_bower = step.argv.first().is_some_and(|program| program == "bower");
    if starts_bower && !wanted.iter().any(|wanted| wanted.tool == "bower") {
        wanted.push(toolchain::bower());
    }
    wanted.sort();
    wanted
}

/// Each tool that somebody asked for, in the version that was found for it. bower is the agent's own choice.
async fn tell_what_was_given(outfits: &[Outfit], tell: &Tell) {
    let given = outfits.iter().flat_map(|outfit| &outfit.given).filter(|given| given.tool != "bower");
    let told: BTreeSet<(&str, &str, &str)> =
        given.map(|given| (given.tool.as_str(), given.version.as_str(), given.asked_by.as_str())).collect();
    for (tool, version, asked_by) in told {
        let because = "this version is on the PATH of the steps that need it".to_owned();
        let decision = Decision { seen: asked_by.to_owned(), decided: format!("{tool} {version}"), because };
        tell.that(Happening::Decided(decision)).await;
    }
}

fn unmet(unmet: Unmet) -> Verdict {
    if let Unmet::Missing(gone) = &unmet {
        return Verdict::new(Outcome::Broken, sentence::tool_missing(&gone.tool, &gone.place, &gone.mend));
    }
    let why = unmet.to_string();
    if unmet.is_the_repositorys() {
        return Verdict::new(Outcome::Failed, sentence::one_line(&why, sentence::MAX_CHARS));
    }
    Verdict::new(Outcome::Broken, sentence::broken(&why, if unmet.may_pass() { Supply::TRIES } else { 1 }))
}

/// The first tool of the agent's that a step starts, that nothing will fetch, and that is not there. node runs
/// everything.
fn missing(plan: &Plan, toolchain: &Toolchain) -> Option<toolchain::Missing> {
    plan.steps().find_map(|step| {
        let program = step.argv.first().filter(|program| TOOLS.contains(&program.as_str()))?;
        let wanted = wanted(step);
        let is_wanted = |tool: &str| wanted.iter().any(|wanted| wanted.tool == tool);
        // With node npm comes along where it is needed, and npx with npm.
        let comes = |program: &str| is_wanted(program) || (program == "npx" && is_wanted("npm"));
        let needed = ["node", program].into_iter().filter(|program| !comes(program));
        needed.into_iter().find_map(|program| toolchain.require(program).err())
    })
}

//! One folder: which rule bundles it.

use super::build_script::{self, Fault};
use super::configuration::{self, Configuration};
use super::{Account, Answer, BadPlan, Scene, inside, relative, tools};
use crate::plan::javascript::{self, Manager};
use crate::plan::manifest::Manifest;
use crate::plan::roots;

/// A folder, and what speaks for its bundle.
pub(super) struct Package<'a> {
    pub(super) scene: &'a Scene<'a>,
    pub(super) dir: &'a str,
    pub(super) manifest: Option<Manifest>,
    /// Those of the folders above: in a workspace the bundler is often a dependency of the root.
    above: Vec<Manifest>,
    pub(super) manager: Manager,
    configurations: Vec<Configuration>,
}

impl<'a> Package<'a> {
    pub(super) fn read(scene: &'a Scene<'a>, dir: &'a str) -> Result<Self, BadPlan> {
        let manifest = Manifest::read(scene.listing, dir, "package.json")?;
        let mut above = Vec::new();
        let mut here = dir;
        while here != "." {
            here = here.rsplit_once('/').map_or(".", |(parent, _)| parent);
            above.extend(Manifest::read(scene.listing, here, "package.json")?);
        }
        let manager = manager(scene, dir, manifest.as_ref());
        let configurations = configuration::all(scene.listing, dir);
        Ok(Self { scene, dir, manifest, above, manager, configurations })
    }

    /// What a script is called in the account.
    fn script(&self, name: &str) -> String {
        inside(self.dir, &format!("package.json scripts.{name}"))
    }

    /// The range under which a package is asked for here, or above.
    pub(super) fn dependency(&self, name: &str) -> Option<&str> {
        self.manifest.iter().chain(&self.above).find_map(|manifest| manifest.dependency(name))
    }

    /// The range under which this folder itself asks for a package.
    pub(super) fn own_dependency(&self, name: &str) -> Option<&str> {
        self.manifest.as_ref()?.dependency(name)
    }

    /// A file of this folder by its name, or by the name before its extension, in any case.
    pub(super) fn file(&self, name: &str) -> Option<String> {
        let is_it = |path: &&String| {
            relative(self.dir, path).is_some_and(|file| {
                let file = file.to_ascii_lowercase();
                file.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
            })
        };
        self.scene.listing.paths.iter().find(is_it).cloned()
    }

    /// The command that starts a program of a dependency. It is started by its name from `node_modules/.bin`, which is
    /// first on a step's PATH: `npx` would find the same file 0.3 s later, and could ask the registry for one that is
    /// not there.
    pub(super) fn program(&self, mut argv: Vec<String>) -> Vec<String> {
        // Plug'n'Play has no node_modules/.bin: there only yarn knows where a program is.
        let project = roots::covering(self.scene.projects, self.dir).map_or(".", |project| &project.dir);
        if self.manager == Manager::YarnModern && self.scene.listing.has(&inside(project, ".yarnrc.yml")) {
            argv.splice(0..0, ["yarn".to_owned(), "run".to_owned()]);
        }
        argv
    }

    /// The build script, else one that says by its name that it builds for production, else a configuration.
    pub(super) fn by_itself(&self, account: &mut Account) -> Answer {
        if let Some(answer) = self.build_script(account) {
            return answer;
        }
        if let Some(argv) = self.named_script(&build_script::FOR_PRODUCTION, account) {
            return Answer::Run(argv);
        }
        match configuration::choose(self, &self.configurations, account) {
            Some(argv) => Answer::Run(argv),
            None => Answer::Unknown,
        }
    }

    /// A script whose name may mean anything but which starts a bundler, else a framework's own command, else the
    /// default task of grunt or gulp.
    pub(super) fn by_its_tools(&self, account: &mut Account) -> Answer {
        let found = self.named_script(&build_script::MAYBE, account);
        let found =
            found.or_else(|| tools::framework_command(self, account)).or_else(|| tools::task_runner(self, account));
        found.map_or(Answer::Unknown, Answer::Run)
    }

    /// A configuration that nothing used is worth a notice.
    pub(super) fn tell_what_was_not_run(&self, account: &mut Account) {
        let why_not = self.configurations.first().and_then(|first| Some((first, account.reason_for(&first.path)?)));
        if let Some((configuration, why)) = why_not {
            let tool = configuration.bundler.name();
            account.notice(format!("{} is there, but {tool} was not run: {why}", configuration.path));
        }
    }

    fn build_script(&self, account: &mut Account) -> Option<Answer> {
        let manifest = self.manifest.as_ref()?;
        let build = manifest.script("build")?;
        let seen = self.script("build");
        if let Some(fault @ Fault::Watches) = build_script::fault(manifest, self.dir, "build") {
            account.notice(format!("{seen} is not run: {fault}, so it would never end; write [bundle] command"));
            account.decide(seen, "not run", fault.to_string());
            return None;
        }
        for configuration in &self.configurations {
            account.decide(&configuration.path, "left to the build script", "a build script goes first");
        }
        if let Some(script) = self.install_script_running(manifest, "build") {
            let because = format!("the {script} script runs it within {}'s install", self.manager.tool());
            account.decide(seen, "not run once more", because);
            return Some(Answer::Done);
        }
        let command = self.manager.run("build");
        account.decide(seen, command.join(" "), format!("the build script: {build}"));
        Some(Answer::Run(command))
    }

    /// The script by which the install of this folder runs another script.
    fn install_script_running(&self, manifest: &Manifest, script: &str) -> Option<&'static str> {
        let installs = |tool: &str| tool == self.manager.tool();
        let by_script = self.scene.projects.iter().any(|one| one.dir == self.dir && one.installed_by.is_some());
        let by_step = || self.scene.installs.iter().any(|step| step.dir == self.dir && installs(&step.tool));
        let runs = self.scene.steps.settings.scripts.run_own() && (by_script || by_step());
        // yarn 2 and later run `prepare` when they pack, not when they install.
        let names: &[&str] = if self.manager == Manager::YarnModern {
            &["preinstall", "install", "postinstall"]
        } else {
            &["preinstall", "install", "postinstall", "prepublish", "preprepare", "prepare", "postprepare"]
        };
        let names = names.iter().filter(|_| runs);
        names.copied().find(|name| build_script::is_run_by(manifest, self.dir, script, name))
    }

    /// The first script of these names that builds and ends.
    fn named_script(&self, names: &[&str], account: &mut Account) -> Option<Vec<String>> {
        let manifest = self.manifest.as_ref()?;
        for name in names {
            let Some(text) = manifest.script(name) else { continue };
            if let Some(fault) = build_script::fault(manifest, self.dir, name) {
                account.decide(self.script(name), "not run", fault.to_string());
                continue;
            }
            let command = self.manager.run(name);
            let because = format!("there is no build script, and this one builds: {text}");
            account.decide(self.script(name), command.join(" "), because);
            return Some(command);
        }
        None
    }
}

/// The manager that installs this folder, or the one that its lockfiles speak for.
fn manager(scene: &Scene<'_>, dir: &str, manifest: Option<&Manifest>) -> Manager {
    let Scene { listing, projects, installs, .. } = scene;
    let mut here = installs.iter().filter(|step| step.dir == dir);
    let installed = here.find_map(|step| Some(javascript::named(listing, dir, &step.tool, manifest)?.manager));
    let covering = || roots::covering(projects, dir).map(|project| project.choice.manager);
    installed.or_else(covering).unwrap_or(Manager::Npm)
}

//! The keys of installs, for all packages together and for bower.

use std::collections::BTreeSet;

use super::manifests::{self, Package};
use super::sources::{Sources, inside, upwards};
use super::{Facts, Group, NotKept, UNLOCKED, bower, scripts, settings};
use crate::domain::snapshot::{Inputs, Level};
use crate::domain::spec::StepSpec;
use crate::domain::step::StepKind;

/// The groups of a plan's installs; one without steps is left out.
pub fn installs(facts: &Facts<'_>) -> Vec<Group> {
    let steps = |is_bower: bool| -> Vec<&StepSpec> {
        let installs = facts.plan.steps().filter(|step| step.kind == StepKind::Install);
        installs.filter(|step| (step.tool == "bower") == is_bower).collect()
    };
    let groups = [(Level::Packages, steps(false)), (Level::Bower, steps(true))];
    groups
        .into_iter()
        .filter(|(_, steps)| !steps.is_empty())
        .map(|(level, steps)| group(facts, level, &steps))
        .collect()
}

fn group(facts: &Facts<'_>, level: Level, steps: &[&StepSpec]) -> Group {
    let mut directories = Vec::new();
    let mut unlocked = level == Level::Bower;
    let inputs = Sources::open(facts.sources).and_then(|sources| {
        let mut inputs = Inputs::default();
        for step in steps {
            facts.step(&mut inputs, step);
            match level {
                Level::Bower => {
                    if !facts.starts(step, "bower") {
                        return Err(any_file(step));
                    }
                    directories.push(bower::add(&mut inputs, facts, &sources, &step.dir)?);
                }
                _ => {
                    let by_bower = packages(&mut inputs, facts, &sources, step)?;
                    unlocked |= !by_bower.is_empty();
                    directories.extend(by_bower);
                }
            }
        }
        for glob in facts.declared {
            sources.add_glob(&mut inputs, glob)?;
        }
        facts.surroundings(&mut inputs);
        Ok(inputs)
    });
    Group {
        level,
        steps: steps.iter().map(|step| step.name.clone()).collect(),
        inputs,
        directories,
        expires: unlocked.then_some(UNLOCKED),
    }
}

impl Facts<'_> {
    /// Whether a step starts its tool and nothing else, as far as the repository has not said what it reads.
    fn starts(&self, step: &StepSpec, tool: &str) -> bool {
        !self.declared.is_empty() || step.argv.first().is_some_and(|program| program == tool)
    }
}

fn any_file(step: &StepSpec) -> NotKept {
    NotKept::Script { place: format!("the step {}", step.name), command: step.argv.join(" ") }
}

/// Adds what a step of npm, yarn, pnpm or bun depends on. Answers with the folders that bower writes when a script of
/// it runs bower, which has no lockfile.
fn packages(
    inputs: &mut Inputs,
    facts: &Facts<'_>,
    sources: &Sources<'_>,
    step: &StepSpec,
) -> Result<Vec<String>, NotKept> {
    if !facts.starts(step, &step.tool) {
        return Err(any_file(step));
    }
    let lockfile = manifests::lockfile(facts, sources, &step.tool, &step.dir)?
        .ok_or_else(|| NotKept::NoLockfile { step: step.name.clone() })?;
    if let Some(fix) = not_frozen(step) {
        return Err(NotKept::NotFrozen { command: step.argv.join(" "), lockfile, fix });
    }
    let locked = sources.read(&lockfile)?.unwrap_or_default();
    inputs.add_bytes(lockfile.as_str(), &locked);
    let (packages, local) = manifests::of(facts, sources, &step.dir)?;
    let mut by_bower = Vec::new();
    for package in &packages {
        by_bower.extend(self_and_scripts(inputs, facts, sources, step, package)?);
    }
    for dir in upwards(&step.dir) {
        settings::add(inputs, sources, dir)?;
    }
    for dir in packages.iter().filter(|package| package.is_linked).map(|package| package.dir.as_str()) {
        settings::add(inputs, sources, dir)?;
    }
    for file in &local.files {
        sources.add(inputs, file)?;
    }
    for folder in &local.folders {
        sources.add_folder(inputs, folder, folder, |_| true)?;
    }
    if facts.scripts.run_some() {
        dependencies_that_read(inputs, sources, &locked, &packages)?;
    }
    Ok(by_bower)
}

/// Adds a package's manifest and what its own install scripts read. Answers with the folder that bower writes when
/// they run it.
fn self_and_scripts(
    inputs: &mut Inputs,
    facts: &Facts<'_>,
    sources: &Sources<'_>,
    step: &StepSpec,
    package: &Package,
) -> Result<Option<String>, NotKept> {
    let mut by_bower = None;
    let mut called = BTreeSet::new();
    // Where scripts are listed the manager runs none, and the repository's own follow.
    let by_manager = facts.scripts.run_all();
    let ignored = !facts.scripts.run_own()
        || (by_manager && step.argv.iter().any(|word| word == "--ignore-scripts"))
        || (by_manager && settings::ignores_scripts(sources, &step.dir)?);
    if package.runs_scripts && !ignored {
        let own = package.scripts();
        for name in scripts::LIFECYCLE {
            let unknown = |command: String| NotKept::Script {
                place: format!("{}'s {name}", inside(&package.dir, "package.json")),
                command,
            };
            match scripts::judge(&own, name) {
                Ok(known) => {
                    called.extend(known.scripts);
                    for glob in known.reads {
                        sources.add_glob(inputs, &manifests::beneath(&package.dir, &glob))?;
                    }
                    if known.bower {
                        by_bower = Some(bower::add(inputs, facts, sources, &package.dir)?);
                    }
                }
                Err(_) if !facts.declared.is_empty() => called.extend(own.keys().cloned()),
                Err(found) => return Err(unknown(found.0)),
            }
        }
        // npm and the others compile a package with this file and without an install script of its own.
        let gyp = inside(&package.dir, "binding.gyp");
        let compiles = !own.contains_key("install") && !own.contains_key("preinstall");
        if compiles && facts.declared.is_empty() && sources.read(&gyp)?.is_some() {
            return Err(NotKept::Script { place: gyp, command: "node-gyp rebuild".to_owned() });
        }
    }
    package.add(inputs, &called);
    // A manager makes the programs of linked packages executable, by which they become part of what it wrote.
    for file in package.bins().iter().filter(|_| package.is_linked) {
        if !sources.is_executable(file) {
            sources.add(inputs, file)?;
        }
    }
    Ok(by_bower)
}

/// Adds what the install scripts of well-known packages read outside of themselves.
fn dependencies_that_read(
    inputs: &mut Inputs,
    sources: &Sources<'_>,
    lockfile: &[u8],
    packages: &[Package],
) -> Result<(), NotKept> {
    const READ: [(&str, &[&str]); 3] = [
        // Generates its client from the schema.
        ("@prisma/client", &scripts::PRISMA),
        ("prisma", &scripts::PRISMA),
        // Where and whether a browser is fetched (https://pptr.dev/guides/configuration).
        ("puppeteer", &[".puppeteerrc*", "puppeteer.config.*"]),
    ];
    let locked = String::from_utf8_lossy(lockfile);
    // A name with a scope is found in a lockfile wherever it stands; others are words that may mean anything.
    let has = |name: &str| {
        packages.iter().any(|package| package.asks_for(name)) || (name.starts_with('@') && locked.contains(name))
    };
    for (name, globs) in READ.into_iter().filter(|(name, _)| has(name)) {
        for package in packages.iter().filter(|package| package.runs_scripts || package.asks_for(name)) {
            for glob in globs {
                sources.add_glob(inputs, &manifests::beneath(&package.dir, glob))?;
            }
        }
    }
    Ok(())
}

/// The command that would install exactly what the lockfile says, where the step's own may not.
fn not_frozen(step: &StepSpec) -> Option<&'static str> {
    let has = |words: &[&str]| step.argv.iter().skip(1).any(|word| words.contains(&word.as_str()));
    let off = has(&[
        "--no-frozen-lockfile",
        "--no-immutable",
        "--no-lockfile",
        "--no-package-lock",
        "--frozen-lockfile=false",
    ]);
    let verb = step.argv.get(1).map_or("", String::as_str);
    match step.tool.as_str() {
        "npm" => (!["ci", "clean-install", "install-clean", "ic"].contains(&verb) || off).then_some("npm ci"),
        "yarn" => (off || !has(&["--frozen-lockfile", "--immutable"])).then_some("yarn install --frozen-lockfile"),
        // With CI=true it insists on the lockfile by itself.
        "pnpm" => (off || !["install", "i"].contains(&verb)).then_some("pnpm install --frozen-lockfile"),
        _ => (off || !(has(&["--frozen-lockfile"]) || verb == "ci")).then_some("bun install --frozen-lockfile"),
    }
}

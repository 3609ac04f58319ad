//! A workspace whose root says nothing about building: its packages, each after those that it needs.

use std::collections::{BTreeMap, BTreeSet};

use super::package::Package;
use super::{Account, BadPlan, Bundle, Scene, inside, words};
use crate::plan::javascript::Manager;
use crate::plan::manifest::{Manifest, major};
use crate::plan::roots::{Member, Project};

/// More packages than this are built by the workspace's own runner, or not by guess: a page of so many lanes helps nobody.
const MOST_STEPS: usize = 60;

/// The stages of a workspace: one step where a runner of its own knows the order, else a step a package.
pub(super) fn plan(
    scene: &Scene<'_>,
    project: &Project,
    root: &Package<'_>,
    account: &mut Account,
) -> Result<Vec<Vec<Bundle>>, BadPlan> {
    let mut building = Vec::new();
    for member in &project.members {
        let manifest = Manifest::read(scene.listing, &member.dir, "package.json")?;
        if manifest.is_some_and(|manifest| manifest.script("build").is_some()) {
            building.push(member);
        }
    }
    let seen = format!("{} packages of the workspace", project.members.len());
    if building.is_empty() {
        account.decide(seen, "nothing to build", "neither the root nor any of them has a build script");
        return Ok(Vec::new());
    }
    let scripts = format!("{} of them have a build script, and the root has none", building.len());
    if let Some((argv, because)) = runner(project, root) {
        account.decide(seen, argv.join(" "), format!("{scripts}; {because}"));
        return Ok(vec![vec![Bundle { dir: project.dir.clone(), argv }]]);
    }
    if building.len() > MOST_STEPS {
        let because = format!("{scripts}, more than the {MOST_STEPS} that are built by guess; write a build script");
        account.notice(format!("{} is not built: {because}", inside(&project.dir, "package.json")));
        account.decide(seen, "not built", because);
        return Ok(Vec::new());
    }
    let stages = in_order(&building, &project.members);
    let many = if stages.len() == 1 { "side by side".to_owned() } else { format!("in {} stages", stages.len()) };
    account.decide(seen, format!("each is built, {many}"), format!("{scripts}; each after those that it depends on"));
    let bundle = |member: &Member| {
        let argv = project.choice.manager.run("build");
        Bundle { dir: member.dir.clone(), argv }
    };
    for member in &building {
        let script = inside(&member.dir, "package.json scripts.build");
        account.decide(script, bundle(member).argv.join(" "), "a package of the workspace");
    }
    Ok(stages.into_iter().map(|stage| stage.into_iter().map(bundle).collect()).collect())
}

/// The command of a tool that builds a workspace in order, and why it is taken.
fn runner(project: &Project, root: &Package<'_>) -> Option<(Vec<String>, String)> {
    let has = |file: &str| root.scene.listing.has(&inside(&project.dir, file));
    let dependency = |name: &str| format!("{name} is a dependency and knows their order");
    if has("turbo.json") && root.own_dependency("turbo").is_some() {
        return Some((root.program(words("turbo run build")), dependency("turbo")));
    }
    if has("nx.json")
        && let Some(range) = ["nx", "@nrwl/cli", "@nrwl/workspace"].iter().find_map(|name| root.own_dependency(name))
    {
        // `--all` is the default since nx 15, and an error later.
        let command = match major(range) {
            Some(0..=14) => "nx run-many --target=build --all",
            _ => "nx run-many -t build",
        };
        return Some((root.program(words(command)), dependency("nx")));
    }
    if has("lerna.json") && root.own_dependency("lerna").is_some() {
        return Some((root.program(words("lerna run build")), dependency("lerna")));
    }
    let yarn =
        root.manifest.as_ref().and_then(|manifest| major(manifest.text("packageManager")?.strip_prefix("yarn@")?));
    match project.choice.manager {
        // https://pnpm.io/cli/recursive: packages are sorted topologically.
        Manager::Pnpm => {
            Some((words("pnpm -r run build"), "pnpm runs them in the order of their dependencies".to_owned()))
        }
        // Part of yarn since 4, a plugin before: https://yarnpkg.com/cli/workspaces/foreach
        Manager::YarnModern if yarn.is_some_and(|major| major >= 4) => {
            let argv = words("yarn workspaces foreach --all --parallel --topological run build");
            Some((argv, "yarn runs them in the order of their dependencies".to_owned()))
        }
        _ => None,
    }
}

/// Packages in stages: each after every one that it needs, also through packages that are not built. Those of a circle
/// come together, once nothing else is left that could come first.
fn in_order<'m>(building: &[&'m Member], members: &[Member]) -> Vec<Vec<&'m Member>> {
    let by_name: BTreeMap<&str, &Member> = members.iter().map(|member| (member.name.as_str(), member)).collect();
    let mut left: Vec<(&Member, BTreeSet<&str>)> =
        building.iter().map(|member| (*member, everything_needed(member, &by_name))).collect();
    let mut stages = Vec::new();
    while !left.is_empty() {
        let waiting: BTreeSet<&str> = left.iter().map(|(member, _)| member.dir.as_str()).collect();
        let is_ready = |needs: &BTreeSet<&str>| needs.is_disjoint(&waiting);
        let (mut ready, mut later): (Vec<_>, Vec<_>) = left.into_iter().partition(|(_, needs)| is_ready(needs));
        if ready.is_empty() {
            // Only circles are left, and what hangs on them: the smallest need is in a circle.
            let least = later.iter().map(|(_, needs)| needs.len()).min().unwrap_or(0);
            (ready, later) = later.into_iter().partition(|(_, needs)| needs.len() == least);
        }
        stages.push(ready.into_iter().map(|(member, _)| member).collect());
        left = later;
    }
    stages
}

/// The folders of everything that a package needs, directly or not; never its own.
fn everything_needed<'m>(member: &Member, by_name: &BTreeMap<&str, &'m Member>) -> BTreeSet<&'m str> {
    let mut needed = BTreeSet::new();
    let mut open: Vec<&str> = member.needs.iter().map(String::as_str).collect();
    while let Some(name) = open.pop() {
        if let Some(other) = by_name.get(name).filter(|other| other.dir != member.dir)
            && needed.insert(other.dir.as_str())
        {
            open.extend(other.needs.iter().map(String::as_str));
        }
    }
    needed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(packages: &[(&str, &[&str])]) -> Vec<Vec<String>> {
        let member = |(name, needs): &(&str, &[&str])| Member {
            dir: format!("packages/{name}"),
            name: (*name).to_owned(),
            needs: needs.iter().map(|need| (*need).to_owned()).collect(),
        };
        let members: Vec<Member> = packages.iter().map(member).collect();
        // What is not built only passes its needs on.
        let building: Vec<&Member> = members.iter().filter(|member| !member.name.starts_with('_')).collect();
        let names = |stage: Vec<&Member>| stage.iter().map(|member| member.name.clone()).collect();
        in_order(&building, &members).into_iter().map(names).collect()
    }

    #[test]
    fn each_after_those_that_it_needs() {
        assert_eq!(order(&[("app", &["ui", "core"]), ("core", &[]), ("ui", &["core"])]), [["core"], ["ui"], ["app"]]);
        assert_eq!(order(&[("a", &[]), ("b", &["react"]), ("c", &[])]), [["a", "b", "c"]]);
        assert_eq!(order(&[("app", &["_types"]), ("_types", &["core"]), ("core", &[])]), [["core"], ["app"]]);
    }

    #[test]
    fn circles_come_together_and_hang_nobody() {
        let circle: [(&str, &[&str]); 4] = [("app", &["a"]), ("a", &["b"]), ("b", &["a"]), ("self", &["self"])];
        assert_eq!(order(&circle), [vec!["self"], vec!["a", "b"], vec!["app"]]);
    }
}

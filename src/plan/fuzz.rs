//! What a plan promises of manifests that anybody wrote.

use std::time::Duration;

use super::{PlanSettings, Wishes, plan};
use crate::domain::listing::Listing;
use crate::domain::lockfile::Lockfile;
use crate::domain::scripts::Scripts;
use crate::domain::spec::Wanted;
use crate::fuzz::Target;

/// See [`crate::fuzz`]. An input is a tree: a line `> path`, and after it what is in that file.
pub const TARGETS: &[Target] = &[Target {
    name: "manifests",
    real: &[
        b"> package.json\n{\"name\":\"shop\",\"packageManager\":\"pnpm@9.1.0\",\"engines\":{\"node\":\">=18 <21\"},\"workspaces\":[\"packages/*\"],\
          \"scripts\":{\"build\":\"webpack --mode production && npm run -s post\",\"post\":\"node x.js\"},\"devDependencies\":{\"webpack\":\"^5.0.0\"}}\n\
          > packages/a/package.json\n{\"name\":\"a\",\"dependencies\":{\"b\":\"workspace:*\"}}\n> pnpm-workspace.yaml\npackages:\n  - 'packages/*'\n> .nvmrc\nlts/iron\n",
        b"> package.json\n{\"dependencies\":{\"react\":\"19\"},\"browserslist\":{},\"volta\":{\"node\":\"20.1.0\"}}\n> package-lock.json\n{\"lockfileVersion\":3,\"packages\":{}}\n\
          > bower.json\n{\"name\":\"shop\",\"dependencies\":{\"jquery\":\"3\"}}\n> .bowerrc\n{\"directory\":\"vendor\"}\n> webpack.config.js\nmodule.exports = {}\n",
        b"> client/package.json\n{\"workspaces\":{\"packages\":[\"*\"],\"nohoist\":[]}}\n> client/yarn.lock\n# yarn lockfile v1\n> client/lerna.json\n{}\n> nx.json\n{}\n> .node-version\nv22\n> .tool-versions\nnodejs 20.1.0\n",
    ],
    words: &[
        "> package.json\n", "> bower.json\n", "> a/package.json\n", "> .nvmrc\n", "> pnpm-workspace.yaml\n", "> yarn.lock\n", "\"scripts\":{\"build\":\"", "npm run build",
        " && ", "\"workspaces\":", "\"packageManager\":\"", "\"engines\":", "[", "{", "}", "]", "**", "../", "*", "!", "null", "1", "\"", "\\u0000", "\\", ",", ":", "- ", "&a", "*a",
    ],
    tries: 1500,
    holds: plans,
}];

/// A tree is planned the same way each time or refused in words, every step stays in the tree and starts something.
fn plans(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let mut listing = Listing::default();
    for file in format!("\n{text}").split("\n> ").skip(1).take(40) {
        let (path, content) = file.split_once('\n').unwrap_or((file, ""));
        // As git would have it in a tree.
        let name = path.rsplit('/').next().unwrap_or(path);
        if path.is_empty()
            || path.len() > 200
            || path.split('/').any(|part| matches!(part, "" | "." | ".."))
            || path.contains('\0')
        {
            continue;
        }
        if !Listing::matters(name) {
            continue;
        }
        listing.paths.insert(path.to_owned());
        if Listing::is_read(name) && content.len() <= 2 << 20 {
            listing.manifests.insert(path.to_owned(), content.as_bytes().to_vec());
        }
        listing.lockfiles.extend(Lockfile::read(name, content.as_bytes()).map(|lockfile| (path.to_owned(), lockfile)));
    }
    let settings = PlanSettings {
        step_timeout: Duration::from_secs(1200),
        scripts: Scripts::All,
        node: Wanted { tool: "node".into(), version: "22".into(), asked_by: "the server".into(), hash: None },
        network: false,
    };
    let first = plan(&listing, &Wishes::default(), &settings);
    assert_eq!(first, plan(&listing, &Wishes::default(), &settings));
    match first {
        Ok(plan) => {
            for step in plan.steps() {
                assert!(step.argv.first().is_some_and(|program| !program.is_empty()), "{step:?}");
                assert!(!step.dir.starts_with('/') && !step.dir.split('/').any(|part| part == ".."), "{step:?}");
            }
        }
        Err(bad) => assert!(!bad.to_string().is_empty()),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn promises_hold() {
        super::TARGETS.iter().for_each(|target| target.try_it());
    }
}

//! Which scripts of a `package.json` build, as their names and what they start tell.

use crate::plan::manifest::Manifest;
use crate::plan::scripts::{self, Command};

/// Names that say so, where there is no `build`; the most common first.
pub(super) const FOR_PRODUCTION: [&str; 22] = [
    "build:prod",
    "build:production",
    "build-prod",
    "build-production",
    "build_prod",
    "prod:build",
    "production",
    "prod",
    "webapp:build:prod",
    "webapp:prod",
    "webapp:build",
    "webpack:build",
    "webpack:build:prod",
    "webpack:prod",
    "webpack:production",
    "build:webpack",
    "build:client",
    "client:build",
    "build:app",
    "build:web",
    "build:all",
    "build:dist",
];

/// Names that may mean it.
pub(super) const MAYBE: [&str; 6] = ["dist", "bundle", "compile", "webpack", "rollup", "assets"];

/// Programs that make a bundle, or a part of one.
const BUILDERS: [&str; 30] = [
    "webpack",
    "webpack-cli",
    "rspack",
    "rsbuild",
    "vite",
    "rollup",
    "parcel",
    "esbuild",
    "browserify",
    "gulp",
    "grunt",
    "ng",
    "next",
    "nuxt",
    "nuxi",
    "vue-cli-service",
    "react-scripts",
    "encore",
    "mix",
    "brunch",
    "ember",
    "gatsby",
    "astro",
    "tsc",
    "babel",
    "swc",
    "turbo",
    "nx",
    "lerna",
    "webpack.js",
];

/// Words of commands that go on until somebody ends them.
const WATCHING: [&str; 5] = ["--watch", "watch", "watchify", "nodemon", "--hot"];
/// Words of commands that wait for visitors.
const SERVING: [&str; 8] =
    ["serve", "start", "webpack-dev-server", "http-server", "live-server", "browser-sync", "pm2", "preview"];
/// Words of commands that give something away.
const PUBLISHING: [&str; 22] = [
    "publish",
    "deploy",
    "release",
    "gh-pages",
    "semantic-release",
    "rsync",
    "scp",
    "ssh",
    "ftp",
    "aws",
    "s3cmd",
    "gsutil",
    "gcloud",
    "firebase",
    "surge",
    "netlify",
    "vercel",
    "heroku",
    "kubectl",
    "docker",
    "push",
    "np",
];

/// Why a script is not run by guess.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Fault {
    #[error("it watches")]
    Watches,
    #[error("it serves")]
    Serves,
    #[error("it deploys or publishes")]
    Publishes,
    #[error("it starts no bundler that is known here")]
    BuildsNothing,
}

/// What speaks against running a script by guess, also in the scripts that it runs.
pub(super) fn fault(manifest: &Manifest, dir: &str, script: &str) -> Option<Fault> {
    let commands = scripts::commands(manifest, dir, script);
    let says = |list: &[&str]| commands.iter().any(|command| says(command, list));
    if says(&WATCHING) {
        return Some(Fault::Watches);
    }
    if says(&SERVING) {
        return Some(Fault::Serves);
    }
    if says(&PUBLISHING) {
        return Some(Fault::Publishes);
    }
    let builds = script.contains("build") || commands.iter().any(|command| BUILDERS.iter().any(|b| command.runs(b)));
    (!builds).then_some(Fault::BuildsNothing)
}

/// True when a word of the command is one of these: as a program, a task, or a part of a script's name.
fn says(command: &Command, list: &[&str]) -> bool {
    command.words().iter().any(|word| {
        let program = word.rsplit('/').next().unwrap_or(word);
        let (first, last) = (word.split(':').next(), word.rsplit(':').next());
        let named = [first, last.filter(|part| WATCHING.contains(part))];
        list.contains(&program) || named.into_iter().flatten().any(|part| list.contains(&part))
    })
}

/// True when one script runs another one, by itself or through others.
pub(super) fn is_run_by(manifest: &Manifest, dir: &str, script: &str, by: &str) -> bool {
    const RUNNERS: [&str; 9] =
        ["run", "run-script", "yarn", "pnpm", "bun", "run-s", "run-p", "npm-run-all", "npm-run-all2"];
    scripts::commands(manifest, dir, by).iter().any(|command| {
        let mut before = command.words().iter().take_while(|word| *word != script);
        command.words().iter().any(|word| word == script)
            && command.folder().as_deref() == Some(dir)
            && before.any(|word| RUNNERS.contains(&word.as_str()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::listing::Listing;

    fn package(scripts: &str) -> Manifest {
        let text = format!(r#"{{"scripts": {scripts}}}"#);
        let manifests = [("package.json".to_owned(), text.into_bytes())].into();
        let listing = Listing { paths: ["package.json".to_owned()].into(), manifests, ..Listing::default() };
        Manifest::read(&listing, ".", "package.json").expect("JSON").expect("there")
    }

    #[test]
    fn what_is_not_run_by_guess() {
        let check = |text: &str, expected: Option<Fault>| {
            let scripts = serde_json::json!({ "prod": text, "deploy:prod": "true", "w": "webpack --watch" });
            assert_eq!(fault(&package(&scripts.to_string()), ".", "prod"), expected, "{text}");
        };
        check("webpack -p --config webpack.prod.js", None);
        check("cross-env NODE_ENV=production node_modules/webpack/bin/webpack.js --no-progress", None);
        check("node server.js", Some(Fault::BuildsNothing));
        check("webpack && npm run w", Some(Fault::Watches));
        check("gulp watch", Some(Fault::Watches));
        check("vite build && vite preview", Some(Fault::Serves));
        check("webpack -p && npm run deploy:prod", Some(Fault::Publishes));
        check("webpack -p && ./node_modules/.bin/gh-pages -d dist", Some(Fault::Publishes));
    }

    #[test]
    fn what_an_install_runs() {
        let check = |text: &str, expected: bool| {
            let scripts = serde_json::json!({ "prepare": text, "build": "tsc", "all": "npm run build" }).to_string();
            assert_eq!(is_run_by(&package(&scripts), ".", "build", "prepare"), expected, "{text}");
        };
        check("npm run build", true);
        check("husky install && yarn build", true);
        check("run-s clean build", true);
        check("npm run all", true);
        check("husky install", false);
        check("cd server && npm run build", false);
        check("node-gyp build", false);
    }
}

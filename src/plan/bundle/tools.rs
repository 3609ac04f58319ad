//! Frameworks and task runners that bundle without a script: by their dependency, their own command.

use super::package::Package;
use super::{Account, inside, words};
use crate::plan::manifest::major;

/// A tool whose command builds for production without being told more.
struct Framework {
    /// The dependency that brings it.
    dependency: &'static str,
    /// What must be there as well: one of these files. Empty: nothing.
    files: &'static [&'static str],
    /// The command.
    command: &'static str,
}

const fn framework(dependency: &'static str, files: &'static [&'static str], command: &'static str) -> Framework {
    Framework { dependency, files, command }
}

/// Those that bring other ones along stand before them. Commands as their own documentation gives them.
const FRAMEWORKS: [Framework; 16] = [
    framework("next", &[], "next build"),
    framework("nuxt", &[], "nuxt build"),
    framework("@angular/cli", &["angular.json", ".angular-cli.json", "angular-cli.json"], "ng build"),
    framework("@vue/cli-service", &[], "vue-cli-service build"),
    framework("react-scripts", &[], "react-scripts build"),
    framework("gatsby", &[], "gatsby build"),
    framework("astro", &[], "astro build"),
    framework("@remix-run/dev", &[], "remix build"),
    framework("ember-cli", &[], "ember build --environment=production"),
    framework("brunch", &["brunch-config.js", "brunch-config.coffee"], "brunch build --production"),
    framework("@rsbuild/core", &["rsbuild.config"], "rsbuild build"),
    framework("laravel-mix", &["webpack.mix"], "mix --production"),
    framework("@sveltejs/kit", &["vite.config"], "vite build"),
    framework("vite", &["vite.config"], "vite build"),
    framework("@symfony/webpack-encore", &["webpack.config"], "encore production"),
    framework("rollup", &["rollup.config"], "rollup -c"),
];

/// The command of the first framework that is a dependency.
pub(super) fn framework_command(package: &Package<'_>, account: &mut Account) -> Option<Vec<String>> {
    let manifest = inside(package.dir, "package.json");
    for Framework { dependency, files, command } in &FRAMEWORKS {
        let Some(range) = package.own_dependency(dependency) else { continue };
        let file = files.iter().find_map(|file| package.file(file));
        if !files.is_empty() && file.is_none() {
            continue;
        }
        let mut argv = words(command);
        // Since 12 `ng build` is for production by itself, and knows no --prod.
        if *dependency == "@angular/cli" && major(range).is_some_and(|major| major < 12) {
            argv.push("--prod".to_owned());
        }
        let argv = package.program(argv);
        let seen = file.unwrap_or_else(|| manifest.clone());
        account.decide(seen, argv.join(" "), format!("{dependency} is a dependency, and no script says how to build"));
        return Some(argv);
    }
    parcel(package, account).or_else(|| {
        if package.own_dependency("esbuild").is_some() {
            let because = "it needs to be told what to bundle: write [bundle] command = [\"npx\", \"esbuild\", …]";
            account.decide(format!("{manifest} esbuild"), "not run", because);
        }
        None
    })
}

/// Parcel 2 bundles what `source` names; otherwise only a person knows the entry.
fn parcel(package: &Package<'_>, account: &mut Account) -> Option<Vec<String>> {
    let manifest = inside(package.dir, "package.json");
    let name = ["parcel", "parcel-bundler"].into_iter().find(|name| package.own_dependency(name).is_some())?;
    if package.manifest.as_ref()?.text("source").is_none() || name == "parcel-bundler" {
        let because =
            "nothing says what to bundle: write [bundle] command = [\"npx\", \"parcel\", \"build\", \"index.html\"]";
        account.decide(format!("{manifest} {name}"), "not run", because);
        return None;
    }
    let argv = package.program(words("parcel build"));
    account.decide(format!("{manifest} source"), argv.join(" "), "parcel is a dependency, and this is its entry");
    Some(argv)
}

/// The task of grunt or gulp that builds: `build` where the file's text is known and has one, else the default one.
pub(super) fn task_runner(package: &Package<'_>, account: &mut Account) -> Option<Vec<String>> {
    for (tool, file) in [("gulp", "gulpfile"), ("grunt", "gruntfile")] {
        let Some(path) = package.file(file) else { continue };
        // grunt's own package has a command since 1.0; before, and for gulp 3, grunt-cli and gulp-cli are enough too.
        let cli = format!("{tool}-cli");
        let has_command = |range: &str| tool == "gulp" || major(range).is_none_or(|major| major >= 1);
        let there = package.own_dependency(tool).is_some_and(has_command) || package.own_dependency(&cli).is_some();
        if !there {
            let because = format!("neither {tool} with its command nor {cli} is a dependency in package.json");
            account.decide(path, "not run", because);
            continue;
        }
        let text = package.scene.listing.text(&path);
        let argv = package.program(match text.map(names_build) {
            Some(true) => vec![tool.to_owned(), "build".to_owned()],
            _ => vec![tool.to_owned()],
        });
        let which = match text.map(names_build) {
            Some(true) => "it has a task called build",
            Some(false) => "it has no task called build, so its default task is run",
            None => "its default task; name another one in [bundle] command",
        };
        account.decide(path, argv.join(" "), format!("no script says how to build; {which}"));
        return Some(argv);
    }
    None
}

/// Whether a Gruntfile or gulpfile has a task called `build`.
fn names_build(text: &str) -> bool {
    let squeezed: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    let tasks = ["task('build'", "task(\"build\"", "registerTask('build'", "registerTask(\"build\"", "exports.build="];
    tasks.iter().any(|task| squeezed.contains(task)) || squeezed.contains("exportconstbuild=")
}

#[cfg(test)]
mod tests {
    use super::names_build;

    #[test]
    fn a_task_called_build() {
        for text in ["gulp.task( 'build', ['js'])", "grunt.registerTask(\"build\", [])", "exports.build = build;"] {
            assert!(names_build(text), "{text}");
        }
        assert!(!names_build("gulp.task('default', ['builder'])"));
    }
}

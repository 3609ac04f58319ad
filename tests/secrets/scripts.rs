//! `scripts = "listed"`, with every manager for real.

use serde_json::{Value, json};

use crate::support::forge::Forge;
use crate::support::managers::path_with;
use crate::support::registry::{Package, Registry};
use crate::support::server::{Server, Settings};

/// Those that have to be installed, once for all tests.
pub(crate) const MANAGERS: &[&str] = &[
    "yarn1",
    "berry",
    "pnpm",
    #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
    "bun",
];

/// Writes down that it ran, into the package that it is of.
const SCRIPT: &str = "require('fs').appendFileSync('ran', process.argv[2] + ' ');\n";

/// Whose scripts ran, as the bundle finds it.
const BUNDLE: &str = r#"
const fs = require('fs');
for (const name of ['wanted', '@acme/wanted', 'other', 'deep', 'far', 'far-other']) {
  const places = [`node_modules/${name}`, `node_modules/.pnpm/node_modules/${name}`, `client/node_modules/${name}`];
  const place = places.find((place) => fs.existsSync(place));
  const ran = place && fs.existsSync(place + '/ran') ? fs.readFileSync(place + '/ran', 'utf8') : '';
  console.log(`${name}: ${place ? ran.trim() || 'nothing' : 'not installed'}`);
}
for (const own of ['own', 'client/own'])
  console.log(`${own}: ` + (fs.existsSync(own) ? fs.readFileSync(own, 'utf8').trim() : 'nothing'));
"#;

fn registry() -> Registry {
    let registry = Registry::start();
    let with_scripts = |name: &str| {
        let scripts = json!({ "preinstall": "node x.js pre", "postinstall": "node x.js post" });
        Package::new(name, "1.0.0")
            .field("scripts", scripts)
            .field("hasInstallScript", json!(true))
            .file("x.js", SCRIPT)
    };
    for name in ["wanted", "@acme/wanted", "other", "deep", "far", "far-other"] {
        registry.publish(&with_scripts(name));
    }
    registry.publish(&Package::new("parent", "1.0.0").field("dependencies", json!({ "deep": "1.0.0" })));
    registry
}

/// A script of the repository's own, which writes down that it ran.
fn note(word: &str) -> String {
    format!("node -e \"require('fs').appendFileSync('own', '{word} ')\"")
}

/// One push to a server that lists some packages; the build, and what its bundle found.
fn pushed(manager: &str, field: &str, scripts: &str, more: &[(&str, &str)]) -> (Value, String) {
    let (registry, forge) = (registry(), Forge::start());
    let tables = format!("[[registry]]\nurl = {:?}\nrepos = [\"acme/*\"]\n", registry.url());
    let settings = Settings { tables, repo: scripts.to_owned(), path: Some(path_with(manager)), ..Settings::default() };
    let server = Server::start_with(&forge, settings);
    let repo = forge.repo("acme/shop");
    let package = json!({
        "name": "shop", "version": "1.0.0", "private": true, "packageManager": field,
        "dependencies": { "wanted": "1.0.0", "@acme/wanted": "1.0.0", "other": "1.0.0", "parent": "1.0.0" },
        // What a pull request could write counts for nothing.
        "trustedDependencies": ["other"], "pnpm": { "onlyBuiltDependencies": ["other"] },
        "dependenciesMeta": { "other": { "built": true } },
        "scripts": { "postinstall": note("post"), "preinstall": note("pre") },
    });
    let package = package.to_string();
    let file = "[bundle]\ncommand = [\"node\", \"bundle.js\"]\n";
    let files = [&[("package.json", package.as_str()), ("bundle.js", BUNDLE), (".hookmill.toml", file)], more].concat();
    let moved = repo.push("main", &files);
    let id = server.deliver(&repo.pushed(&moved)).build();
    let build = server.finished(id);
    let log = server.log(id, "");
    forge.finish();
    (build, log)
}

#[track_caller]
fn listed(manager: &str, field: &str, more: &[(&str, &str)], found: &[&str]) {
    let scripts = "scripts = \"listed\"\nscript_packages = [\"wanted\", \"deep\", \"far\", \"not-installed\"]\n";
    let (build, log) = pushed(manager, field, scripts, more);
    assert_eq!(build["outcome"], "passed", "{build:#}\n{log}");
    let always = ["@acme/wanted: nothing", "other: nothing", "deep: pre post", "own: pre post"];
    for line in always.iter().chain(found) {
        assert!(log.contains(&format!("\n{line}\n")), "{manager} has no {line:?}:\n{log}");
    }
}

#[test]
fn npm() {
    listed("npm", "npm@*", &[], &["wanted: pre post"]);
}

#[test]
fn yarn_1() {
    listed("yarn1", "yarn@1.22.22", &[], &["wanted: pre post"]);
}

#[test]
fn berry() {
    listed("berry", "yarn@4.9.2", &[(".yarnrc.yml", "nodeLinker: node-modules\n")], &["wanted: pre post"]);
}

#[test]
fn pnpm() {
    listed("pnpm", "pnpm@10.12.1", &[], &["wanted: pre post"]);
}

/// What only a member asks for is linked there alone. The scripts of what both ask for run for each: it may be two versions.
#[test]
fn pnpm_in_a_workspace() {
    let member = json!({
        "name": "client", "version": "1.0.0", "private": true,
        "dependencies": { "wanted": "1.0.0", "far": "1.0.0", "far-other": "1.0.0" },
        "scripts": { "postinstall": note("post"), "prepare": note("prepare") },
    });
    let member = member.to_string();
    // A list of the repository's own counts for nothing here either.
    let workspace = "packages: [client]\nonlyBuiltDependencies: [other, far-other]\n";
    let files = [("pnpm-workspace.yaml", workspace), ("client/package.json", &*member)];
    let found = ["wanted: pre post pre post", "far: pre post", "far-other: nothing", "client/own: post prepare"];
    listed("pnpm", "pnpm@10.12.1", &files, &found);
}

#[test]
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
fn bun() {
    listed("bun", "bun@1.2.18", &[], &["wanted: pre post"]);
}

#[test]
fn none_is_nobodys() {
    let (build, log) = pushed("npm", "npm@*", "scripts = \"none\"\n", &[]);
    assert_eq!(build["outcome"], "passed", "{build:#}\n{log}");
    for line in ["wanted: nothing\n", "deep: nothing\n", "own: nothing\n"] {
        assert!(log.contains(&format!("\n{line}")), "no {line:?}:\n{log}");
    }
}

/// Nothing is installed: what lockfiles say is known from the checkout.
#[test]
fn a_pull_request_that_brings_an_install_script_is_noticed() {
    const FILE: &str = "[[install]]\ntool = \"npm\"\nskip = true\n[bundle]\ncommand = [\"true\"]\n";
    let lock = |more: Value| {
        let mut packages =
            json!({ "": { "name": "shop" }, "node_modules/old": { "version": "1.0.0", "hasInstallScript": true } });
        packages.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        json!({ "name": "shop", "lockfileVersion": 3, "packages": packages }).to_string()
    };
    let forge = Forge::start();
    let server = Server::start(&forge);
    let repo = forge.repo("acme/shop");
    let page = |id: i64| {
        let build = server.finished(id);
        assert_eq!(build["outcome"], "passed", "{build:#}");
        server.get(&format!("/builds/{id}")).body
    };
    let before = lock(json!({}));
    let files =
        [("package.json", r#"{"name": "shop"}"#), ("package-lock.json", before.as_str()), (".hookmill.toml", FILE)];
    let moved = repo.push("main", &files);
    assert!(!page(server.deliver(&repo.pushed(&moved)).build()).contains("install script"));
    let brought = json!({ "node_modules/esbuild": { "version": "0.21.5", "hasInstallScript": true },
                          "node_modules/react": { "version": "19.1.0" } });
    repo.push("bump", &[("package-lock.json", &lock(brought)), ("yarn.lock", "react@^19:\n  version \"19.1.0\"\n")]);
    let head = repo.git(&["rev-parse", "HEAD"]);
    let shown = page(server.deliver(&repo.pull_request("opened", 3, "bump", &head, false)).build());
    assert!(shown.contains("esbuild@0.21.5 is new in package-lock.json and has an install script"), "{shown}");
    assert!(!shown.contains("old@1.0.0") && !shown.contains("react is new"), "{shown}");
    forge.finish();
}

//! What package managers downloaded is used again, gives the same tree, and is never believed without its digest.
#![cfg(target_os = "linux")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use hookmill::config::server::{Access, Network as Outside, Registry as Configured};
use hookmill::domain::spec::{Network, StepSpec};
use hookmill::domain::step::StepKind;
use hookmill::domain::trust::Trust;
use hookmill::runner::downloads::{self, DOWNLOADS, Kept, Lockfiles};
use hookmill::runner::environment::home::Settings;
use hookmill::runner::environment::{self, Certificates, Facts, Place};
use hookmill::toolchain::Outfit;
use hookmill::tree::{self, Kind, Visit};

use crate::support::managers::path_with;
use crate::support::registry::{Package, Registry};
use crate::support::runner;

const PROJECT: &str =
    r#"{"name":"shop","version":"1.0.0","license":"MIT","dependencies":{"dep":"^1.0.0","@acme/ui":"^2.0.0"}}"#;

/// A manager, and how it installs what a lockfile says and what it finds without one.
struct Manager {
    name: &'static str,
    locked: &'static [&'static str],
    free: &'static [&'static str],
    lockfile: &'static str,
}

const fn npm(name: &'static str) -> Manager {
    Manager { name, locked: &["npm", "ci"], free: &["npm", "install"], lockfile: "package-lock.json" }
}

const fn pnpm(name: &'static str) -> Manager {
    let (locked, free): (&[&str], &[&str]) =
        (&["pnpm", "install", "--frozen-lockfile"], &["pnpm", "install", "--no-frozen-lockfile"]);
    Manager { name, locked, free, lockfile: "pnpm-lock.yaml" }
}

const YARN: Manager = Manager {
    name: "yarn1",
    locked: &["yarn", "install", "--frozen-lockfile"],
    free: &["yarn", "install"],
    lockfile: "yarn.lock",
};

const BERRY: Manager = Manager {
    name: "berry",
    locked: &["yarn", "install", "--immutable"],
    free: &["yarn", "install", "--no-immutable"],
    lockfile: "yarn.lock",
};

const BUN: Manager = Manager {
    name: "bun",
    locked: &["bun", "install", "--frozen-lockfile"],
    free: &["bun", "install", "--save-text-lockfile"],
    lockfile: "bun.lock",
};

/// A registry, a project, and what was downloaded for it.
struct Scene {
    manager: Manager,
    registry: Registry,
    root: tempfile::TempDir,
}

/// One install. Its HOME and its tree are what it wrote over their lowers.
struct Install {
    home: PathBuf,
    tree: PathBuf,
    passed: bool,
    said: String,
    /// The tarballs that it fetched, and the documents that it asked for.
    tarballs: Vec<String>,
}

impl Scene {
    /// The project has a lockfile, made by the manager itself.
    fn of(manager: Manager) -> Scene {
        let registry = Registry::start();
        registry.publish(&Package::new("dep", "1.0.0").file("index.js", "module.exports = 'sound';\n"));
        let ui = Package::new("@acme/ui", "2.0.0").field("dependencies", serde_json::json!({ "dep": "^1.0.0" }));
        registry
            .publish(&ui.file("lib/index.js", "module.exports = require('dep');\n").program("run.sh", "#!/bin/sh\n"));
        let scene = Scene { manager, registry, root: tempfile::tempdir().expect("a folder") };
        let project = scene.path("project");
        fs::create_dir_all(&project).expect("a folder");
        fs::write(project.join("package.json"), PROJECT).expect("a file");
        if scene.manager.name == "berry" {
            fs::write(project.join("yarn.lock"), "").expect("a file");
        }
        let first = scene.install("first", None, scene.manager.free);
        assert!(first.passed, "{}", first.said);
        let lockfile = first.tree.join(scene.manager.lockfile);
        fs::copy(&lockfile, project.join(scene.manager.lockfile)).expect("it was made");
        scene
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn lockfiles(&self) -> Lockfiles {
        Lockfiles::read(&self.path("project"), ["."])
    }

    /// Installs as a build does, over `layer` in HOME, always at the same two paths.
    fn install(&self, name: &str, layer: Option<&Path>, argv: &[&str]) -> Install {
        let own = self.path(name);
        let empty = self.path("empty");
        let [home, tree] = ["home", "tree"].map(|part| own.join(part).join("upper"));
        let seen = Place { build: self.path("seen/build"), home: self.path("seen/home"), tmp: own.join("tmp") };
        let work = ["home", "tree"].map(|part| own.join(part).join("work"));
        for folder in [&home, &tree, &seen.build, &seen.home, &seen.tmp, &empty].into_iter().chain(&work) {
            fs::create_dir_all(folder).expect("a folder");
        }
        let mount = |lower: &Path, upper: &Path, work: &Path, at: &Path| {
            let [lower, upper, work, at] = [lower, upper, work, at].map(Path::display);
            format!(
                "mount -t overlay overlay -o userxattr,volatile,lowerdir={lower},upperdir={upper},workdir={work} {at}"
            )
        };
        let project = self.path("project");
        let script = [
            mount(layer.unwrap_or(&empty), &home, &work[0], &seen.home),
            mount(&project, &tree, &work[1], &seen.build),
            format!("cd {} && exec \"$@\"", seen.build.display()),
        ];
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount", "sh", "-c", &script.join(" && "), "sh"]).args(argv);
        self.run(command, &home, tree, &seen, argv[0])
    }

    /// The same where nothing can be stacked: HOME and tree are directories of one file system.
    fn install_flat(&self, name: &str, layer: &Path) -> Install {
        let own = self.path(name);
        let seen = Place { build: own.join("build"), home: own.join("home"), tmp: own.join("tmp") };
        tree::copy_tree(&self.path("project"), &seen.build).expect("room");
        tree::copy_tree(layer, &seen.home).expect("room");
        fs::create_dir_all(&seen.tmp).expect("a folder");
        let argv = self.manager.locked;
        let mut command = Command::new(argv[0]);
        command.args(&argv[1..]).current_dir(&seen.build);
        self.run(command, &seen.home.clone(), seen.build.clone(), &seen, argv[0])
    }

    fn run(&self, mut command: Command, home: &Path, tree: PathBuf, seen: &Place, tool: &str) -> Install {
        let url = self.registry.url().parse().expect("an address");
        let settings = Settings {
            registries: vec![Configured { url, scopes: Vec::new(), repos: vec!["**".into()], access: Access::Open }],
            home: seen.home.clone(),
            yarn_mirror: self.lockfiles().can_be_mirrored(),
            ..Settings::default()
        };
        settings.write(home, true).expect("ours");
        let before = self.registry.asked().len();
        let output = command
            .env_clear()
            .envs(environment_of(self.manager.name, tool, seen))
            .stdin(Stdio::null())
            .output()
            .expect("util-linux has unshare");
        let asked = self.registry.asked().into_iter().skip(before).map(|asked| asked.path);
        let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
        let tarballs = asked.filter(|path| path.ends_with(".tgz")).collect();
        Install { home: home.to_owned(), tree, passed: output.status.success(), said, tarballs }
    }

    /// What an install left, made a layer as a passed build's is.
    fn keep(&self, install: &Install, name: &str) -> (PathBuf, Kept) {
        let layer = self.path(name);
        fs::create_dir_all(&layer).expect("a folder");
        fs::rename(install.home.join(DOWNLOADS), layer.join(DOWNLOADS)).expect("it downloaded");
        let kept = downloads::clean(&layer.join(DOWNLOADS), &self.lockfiles()).expect("readable");
        (layer, kept)
    }
}

/// The whole environment of an install step, as a build makes it.
fn environment_of(manager: &str, tool: &str, place: &Place) -> BTreeMap<String, String> {
    let path = path_with(manager).split(':').map(PathBuf::from).collect();
    let step = StepSpec {
        name: tool.into(),
        tool: tool.into(),
        kind: StepKind::Install,
        argv: vec![tool.into()],
        dir: ".".into(),
        then: Vec::new(),
        env: BTreeMap::new(),
        tools: Vec::new(),
        network: Network::Open,
        timeout: Duration::from_secs(60),
        allow_failure: false,
        retry: 0,
    };
    environment::make(&Facts {
        build: &runner::build_of(Trust::Trusted),
        build_url: "",
        commit_time: None,
        step: &step,
        place,
        outfit: &Outfit { path, modules: Vec::new(), headers: None, given: Vec::new() },
        network: &Outside::default(),
        gate: None,
        certificates: &Certificates::default(),
        node_options: None,
        first_on_path: None,
        scripts: true,
        committed: &BTreeMap::new(),
        registry_tokens: false,
        withheld: &[],
        secrets: &BTreeMap::new(),
        server_env: &BTreeMap::new(),
    })
}

/// Every file that was installed: its path, mode and content, or where a link leads.
fn installed(tree: &Path) -> BTreeMap<PathBuf, (u32, String)> {
    // In these a manager writes down when it ran.
    const DATED: [&str; 3] = [".modules.yaml", ".pnpm-workspace-state", "install-state.gz"];
    let mut found = BTreeMap::new();
    tree::walk(tree, |entry| {
        let path = tree.join(&entry.path);
        let content = match entry.kind {
            Kind::File => fs::read(&path).expect("ours"),
            Kind::Link => fs::read_link(&path).expect("ours").into_os_string().into_encoded_bytes(),
            Kind::Dir | Kind::Other => return Visit::Continue,
        };
        let name = entry.path.file_name().unwrap_or_default().to_string_lossy();
        if !DATED.iter().any(|dated| name.starts_with(dated)) {
            found.insert(entry.path.clone(), (entry.mode, String::from_utf8_lossy(&content).into_owned()));
        }
        Visit::Continue
    })
    .expect("ours");
    assert!(found.len() > 1, "{found:?}");
    found
}

/// Edits every package file of a layer so that neither size nor time tell: the code of one that is unpacked, a byte of an
/// archive.
fn poison(layer: &Path) -> usize {
    let mut poisoned = 0;
    tree::walk(layer, |entry| {
        let path = layer.join(&entry.path);
        if entry.kind != Kind::File || path.extension().is_some_and(|ext| ext == "json" || ext == "db") {
            return Visit::Continue;
        }
        let meta = fs::metadata(&path).expect("ours");
        let mut bytes = fs::read(&path).expect("ours");
        let code = bytes.windows(5).position(|window| window == b"sound");
        let is_archive = bytes.starts_with(b"\x1f\x8b") || bytes.starts_with(b"PK");
        match code {
            Some(at) => bytes[at..at + 5].copy_from_slice(b"rotten".split_at(5).0),
            None if is_archive => {
                let middle = bytes.len() / 2;
                bytes[middle] ^= 0xff;
            }
            None => return Visit::Continue,
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("ours");
        fs::write(&path, &bytes).expect("ours");
        let file = fs::File::options().write(true).open(&path).expect("ours");
        file.set_modified(meta.modified().expect("Linux")).expect("ours");
        poisoned += 1;
        Visit::Continue
    })
    .expect("ours");
    poisoned
}

/// The whole story of a manager whose downloads are kept.
fn is_kept(manager: Manager) -> (Scene, PathBuf) {
    let scene = Scene::of(manager);
    let cold = scene.install("cold", None, scene.manager.locked);
    assert!(cold.passed, "{}", cold.said);
    assert_eq!(cold.tarballs.len(), 2, "{:?}", cold.tarballs);
    let (layer, kept) = scene.keep(&cold, "layer");
    assert!(kept.files >= 2 && kept.refusals == 0, "{kept:?}");

    let warm = scene.install("warm", Some(&layer), scene.manager.locked);
    assert!(warm.passed, "{}", warm.said);
    assert_eq!(warm.tarballs, [""; 0], "{}", warm.said);
    assert_eq!(installed(&warm.tree), installed(&cold.tree));

    let rotten = scene.path("rotten");
    tree::copy_tree(&layer, &rotten).expect("room");
    let poisoned = poison(&rotten);
    assert!(poisoned > 0);
    let refused = downloads::clean(&rotten.join(DOWNLOADS), &scene.lockfiles()).expect("ours");
    assert_eq!(refused.refusals, poisoned as u64, "{refused:?}");
    let mended = scene.install("mended", Some(&rotten), scene.manager.locked);
    assert!(mended.passed && !mended.tarballs.is_empty(), "{}", mended.said);
    assert_eq!(installed(&mended.tree), installed(&cold.tree));
    (scene, layer)
}

/// Should a poisoned file get past the agent, this manager itself does not install it.
fn verifies_itself(scene: &Scene, layer: &Path) {
    let rotten = scene.path("unseen");
    tree::copy_tree(layer, &rotten).expect("room");
    assert!(poison(&rotten) > 0);
    let install = scene.install("believing", Some(&rotten), scene.manager.locked);
    let sound = installed(&scene.path("cold/tree/upper"));
    if install.passed {
        assert_eq!(installed(&install.tree), sound);
    } else {
        assert!(!install.said.contains("rotten"), "{}", install.said);
    }
}

/// Without a lockfile an install sees what the registry has now, not what it had.
fn sees_new_versions(scene: &Scene, layer: &Path) {
    scene.registry.publish(&Package::new("dep", "1.0.1").file("index.js", "module.exports = 'newer';\n"));
    fs::remove_file(scene.path("project").join(scene.manager.lockfile)).expect("ours");
    if scene.manager.name == "berry" {
        fs::write(scene.path("project/yarn.lock"), "").expect("a file");
    }
    let install = scene.install("newer", Some(layer), scene.manager.free);
    assert!(install.passed, "{}", install.said);
    assert_eq!(install.tarballs, ["/dep/-/dep-1.0.1.tgz"], "the other is at hand");
}

#[test]
fn npm_6() {
    let (scene, layer) = is_kept(npm("npm6"));
    verifies_itself(&scene, &layer);
}

#[test]
fn npm_8() {
    let (scene, layer) = is_kept(npm("npm8"));
    verifies_itself(&scene, &layer);
    sees_new_versions(&scene, &layer);
}

#[test]
fn npm_10() {
    let (scene, layer) = is_kept(npm("npm10"));
    verifies_itself(&scene, &layer);
    sees_new_versions(&scene, &layer);
}

#[test]
fn npm_of_this_machine() {
    let (scene, layer) = is_kept(npm("npm"));
    verifies_itself(&scene, &layer);
    sees_new_versions(&scene, &layer);
}

#[test]
fn yarn_1() {
    let (scene, layer) = is_kept(YARN);
    verifies_itself(&scene, &layer);
    let kept: Vec<_> =
        fs::read_dir(layer.join(DOWNLOADS)).expect("there").flatten().map(|one| one.file_name()).collect();
    assert_eq!(kept, ["yarn-mirror"], "what it unpacked is not kept");
}

#[test]
fn yarn_1_with_a_mirror_of_the_repositorys_own() {
    let scene = Scene::of(YARN);
    fs::write(scene.path("project/.yarnrc"), "yarn-offline-mirror \"./packages\"\n").expect("a file");
    let install = scene.install("own", None, scene.manager.locked);
    assert!(install.passed && install.tree.join("packages/dep-1.0.0.tgz").is_file(), "{}", install.said);
    assert!(!install.home.join(DOWNLOADS).join("yarn-mirror").exists());
}

#[test]
fn yarn_4() {
    let (scene, layer) = is_kept(BERRY);
    verifies_itself(&scene, &layer);
    let warm = fs::read_to_string(scene.path("warm/tree/upper/.pnp.cjs")).expect("PnP is what it does");
    let zips = downloads::belongs_to_packages("yarn", "4.9.2");
    assert!(zips.iter().all(|zips| warm.contains(zips)), "{zips:?}");
    sees_new_versions(&scene, &layer);
}

#[test]
fn pnpm_8() {
    let (scene, layer) = is_kept(pnpm("pnpm8"));
    has_no_hard_links(&scene, &layer);
    sees_new_versions(&scene, &layer);
}

#[test]
fn pnpm_10() {
    let (scene, layer) = is_kept(pnpm("pnpm"));
    has_no_hard_links(&scene, &layer);
    sees_new_versions(&scene, &layer);
}

#[test]
fn pnpm_12() {
    let (scene, layer) = is_kept(pnpm("pnpm12"));
    has_no_hard_links(&scene, &layer);
}

/// Of two builds of one lockfile the one does not see what the other writes into a dependency, nor does the store.
fn has_no_hard_links(scene: &Scene, layer: &Path) {
    let [one, other] = ["one", "other"].map(|name| scene.install_flat(name, layer));
    assert!(one.passed && other.passed, "{}", one.said);
    let edited = one.tree.join("node_modules/dep/index.js");
    let file = fs::canonicalize(edited).expect("installed");
    assert_eq!(fs::metadata(&file).expect("there").nlink(), 1);
    let before = (installed(&other.tree), installed(&one.home.join(DOWNLOADS)));
    fs::write(file, "module.exports = 'edited';\n").expect("ours");
    assert_eq!((installed(&other.tree), installed(&one.home.join(DOWNLOADS))), before);
}

#[test]
fn bun_downloads_anew() {
    let scene = Scene::of(BUN);
    let cold = scene.install("cold", None, scene.manager.locked);
    assert!(cold.passed, "{}", cold.said);
    let (layer, kept) = scene.keep(&cold, "layer");
    assert_eq!(kept, Kept::default(), "its cache is unpacked, and nothing compares it with the lockfile");
    let next = scene.install("next", Some(&layer), scene.manager.locked);
    assert_eq!((next.passed, next.tarballs.len()), (true, 2), "{}", next.said);
    assert_eq!(installed(&next.tree), installed(&cold.tree));
}

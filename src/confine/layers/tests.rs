use super::{Cgroup, Cpus, FileSystem, Joining, Layers, Missing, Mode};

fn full() -> Layers {
    let files = FileSystem { reflinks: false, tells_changes: true };
    let cgroup = Cgroup { base: "/sys/fs/cgroup/hookmill".into(), memory: true, pids: true, cpu: true };
    Layers {
        userns: Ok(()),
        overlay: Ok(()),
        bubblewrap: Ok("0.8.0".into()),
        netns: Ok(()),
        door: Ok(()),
        landlock: Ok(7),
        seccomp: Ok(()),
        cgroup: Ok(cgroup),
        insisted: false,
        files,
    }
}

#[test]
fn layers_are_named_and_so_is_what_is_missing() {
    let check = |layers: Layers, name: &str, fixes: usize| {
        assert_eq!(layers.name(), name);
        assert_eq!(layers.fixes().len(), fixes, "{name} {:#?}", layers.fixes());
    };
    let missing = || Missing("not here".into());
    check(full(), "userns+mount+pid+net+overlay+bwrap+landlock7+seccomp+cgroup", 0);
    check(Layers { overlay: Err(missing()), ..full() }, "userns+mount+pid+net+bwrap+landlock7+seccomp+cgroup", 1);
    check(
        Layers { landlock: Err(missing()), seccomp: Err(missing()), cgroup: Err(missing()), ..full() },
        "userns+mount+pid+net+overlay+bwrap+rss-watch",
        3,
    );
    let kill_only = Cgroup { memory: false, pids: false, cpu: false, ..full().cgroup.expect("there") };
    check(
        Layers { cgroup: Ok(kill_only), ..full() },
        "userns+mount+pid+net+overlay+bwrap+landlock7+seccomp+cgroup.kill+rss-watch",
        1,
    );
    check(
        Layers { netns: Err(missing()), door: Err(missing()), ..full() },
        "userns+mount+pid+overlay+bwrap+landlock7+seccomp+cgroup (DEGRADED: no network namespace, every step can \
         reach the network)",
        2,
    );
    check(
        Layers { bubblewrap: Err(missing()), ..full() },
        "NONE: no bubblewrap: not here (each step behind landlock7+seccomp)",
        1,
    );
    check(Layers::none("not here"), "NONE: no user namespaces: not here", 1);
    let behind = Layers { landlock: Ok(7), seccomp: Ok(()), ..Layers::none("not here") };
    check(behind, "NONE: no user namespaces: not here (each step behind landlock7+seccomp)", 1);
}

#[test]
fn a_stranger_needs_the_core_and_full_needs_all() {
    let check = |layers: Layers, strangers: bool, expected: Result<(), &str>| {
        assert_eq!(layers.admit(strangers, None), expected.map_err(str::to_owned));
    };
    let missing = || Missing("not here".into());
    check(full(), true, Ok(()));
    check(Layers { insisted: true, ..full() }, true, Ok(()));
    let plain = Layers { landlock: Err(missing()), cgroup: Err(missing()), ..full() };
    check(plain.clone(), true, Ok(()));
    let said = "[sandbox] require = \"full\", and this agent has no landlock (not here)";
    check(Layers { insisted: true, ..plain }, false, Err(said));
    let said = "this agent runs no fork's build without network namespaces (not here)";
    check(Layers { netns: Err(missing()), ..full() }, true, Err(said));
    check(Layers { netns: Err(missing()), ..full() }, false, Ok(()));
    check(Layers::none("off"), false, Ok(()));
    check(Layers::none("off"), true, Err("this agent runs no fork's build without user namespaces (off)"));
    let no_cpu = Cgroup { cpu: false, ..full().cgroup.expect("there") };
    let said = Layers { cgroup: Ok(no_cpu), insisted: true, ..full() }.admit(false, None).expect_err("no cpu");
    assert!(said.contains("no control groups (memory, pids, no cpu; a step takes"), "{said}");
    let kill_only = Cgroup { memory: false, ..full().cgroup.expect("there") };
    let said = Layers { cgroup: Ok(kill_only), insisted: true, ..full() }.admit(false, None).expect_err("no memory");
    assert!(said.contains("no control groups (pids, cpu; the agent looks"), "{said}");
}

#[test]
fn a_bound_on_processors_that_nobody_keeps_is_said() {
    let two = Cpus::of(2.0).expect("a number");
    assert_eq!(full().unkept(two), None);
    let check = |cgroup, words: &str| {
        let said = Layers { cgroup, ..full() }.unkept(two).expect("not kept");
        let expected = format!("limits.cpus = 2 is not kept on this agent: {words}; hookmill doctor has the fix");
        assert_eq!(said, expected);
    };
    check(Err(Missing("not delegated".into())), "not delegated");
    let no_cpu = Cgroup { cpu: false, ..full().cgroup.expect("there") };
    check(Ok(no_cpu), "its control groups have memory, pids");
}

#[test]
fn without_namespaces_or_bubblewrap_steps_run_bare() {
    assert_eq!(full().mode(), Mode::Confined { overlay: true, netns: true });
    assert!(full().is_sound() && full().stacks());
    assert_eq!(Layers::none("asked for").mode(), Mode::Bare);
    assert!(!Layers::none("asked for").stacks());
}

#[test]
fn the_way_that_runs_is_named() {
    let check = |layers: Layers, words: &str| assert_eq!(layers.joining().to_string(), words);
    check(full(), "stacked by overlay");
    let no_overlay = Layers { overlay: Err(Missing("not here".into())), ..full() };
    check(no_overlay.clone(), "brought in by rename, else copied in parallel");
    assert!(
        no_overlay.fixes()[0].ends_with("sources and snapshots are brought in by rename, else copied in parallel.")
    );
    let on = |reflinks, tells_changes| Layers { files: FileSystem { reflinks, tells_changes }, ..no_overlay.clone() };
    check(on(true, true), "brought in by rename, else by reflink");
    check(on(true, false), "brought in by reflink");
    check(on(false, false), "copied in parallel");
    assert_eq!(Layers::none("asked for").joining(), Joining::Flat(FileSystem::default()));
}

//! What is out of reach: the agent's secrets and memory, what other builds wrote, what the machine has.

use std::fs;

use crate::support::forge::Forge;
use crate::support::machine::script;
use crate::support::server::{ADMIN, Server, Settings};

/// A variable of the agent's own environment.
const SECRET: &str = "hunter2-of-the-agent-itself";

/// What nobody may open to write: parts of the root, and the machine's own switches, which in the kernel's eyes belong to
/// whoever is root outside. Nothing is written, so a fault does no harm.
const SWITCHES: [&str; 7] = [
    "/usr/x",
    "/etc/x",
    "/x",
    "/dev/x",
    "/proc/sys/kernel/core_pattern",
    "/proc/sys/vm/overcommit_memory",
    "/proc/sysrq-trigger",
];

/// Looks wherever a step could look, and prints what it finds; leaves a mark in every place that outlives a process. It
/// finds its own text among the command lines, so no word that is looked for stands in it whole.
const PROBE: &str = r#"
echo "== ""processes"; ls -d /proc/[0-9]* | wc -l
for p in /proc/[0-9]*; do tr '\0' '\n' < $p/environ; tr '\0' ' ' < $p/cmdline; echo; done 2>/dev/null
for p in /proc/[0-9]*; do grep -a -o -m 1 "hunter[2]-of[a-z-]*\|an-admi[n]-token[a-z-]*" $p/mem; ls -l $p/fd; done 2>/dev/null
echo "== ""places"; ls /root /home /var /etc/shadow /run /srv /opt /mnt /media /sys 2>&1
echo "== ""data"; cat $DATA/hookmill.toml $DATA/secrets/* 2>&1; ls $DATA 2>&1; find / -name hookmill.toml -not -path '/proc/*' 2>/dev/null
echo "== ""marks"; cat $HOME/mark /tmp/mark /var/tmp/mark /dev/shm/mark /build/mark 2>/dev/null
for place in $HOME /tmp /var/tmp /dev/shm /build; do echo "a mark of $CI_COMMIT_SHA" > $place/mark; done
echo "== ""writes"; for f in $SWITCHES; do (: > $f) 2>&1; done
echo "== ""signals"; kill -9 -1 2>/dev/null
"#;

#[test]
fn a_step_finds_nothing_of_the_agent_and_of_other_builds() {
    let forge = Forge::start();
    let env = vec![("HOOKMILL_TEST_SECRET".to_owned(), SECRET.to_owned())];
    let server = Server::start_with(&forge, Settings { env, ..crate::fence::plain() });
    let name = server.get("/readyz").json()["parts"]["sandbox"]["detail"].as_str().expect("a name").to_owned();
    if name.starts_with("NONE") {
        eprintln!("NOT TRIED, this host has no fence: {name}");
        return;
    }
    let data = server.dir.path().to_str().expect("plain").to_owned();
    let probe = script(&format!("DATA={data}; SWITCHES='{}'; {PROBE}", SWITCHES.join(" ")));
    let mut earlier: Vec<String> = Vec::new();
    // The same repository twice, then another one in the same slot.
    let (shop, other) = (forge.repo("acme/shop"), forge.repo("acme/other"));
    for repo in [&shop, &shop, &other] {
        let moved = repo.push("main", &[(".hookmill.toml", &probe), ("README.md", &earlier.len().to_string())]);
        let id = server.deliver(&repo.pushed(&moved)).build();
        let build = server.finished(id);
        let log = server.log(id, "bundle");
        assert!(log.contains("== signals"), "it came to its end: {build:#}\n{log}");
        for secret in [SECRET, ADMIN, "hunter2", "hookmill serve", "--config"] {
            assert!(!log.contains(secret), "{secret}: {log}");
        }
        let part = |from: &str, to: &str| {
            let rest = log.split_once(from).expect("printed").1;
            rest.split_once(to).expect("printed").0.to_owned()
        };
        let processes: usize = part("== processes\n", "\n").trim().parse().expect("a number");
        assert!(processes <= 6, "its own and no others: {log}");
        for gone in ["/root", "/etc/shadow", "/srv", "/opt", "/mnt", "/media", "/sys"] {
            let places = part("== places", "== data");
            assert!(places.contains(&format!("cannot access '{gone}'")), "{gone}: {places}");
        }
        let data = part("== data", "== marks");
        assert!(data.matches("No such file").count() >= 2 && !data.contains("hookmill.db"), "{log}");
        assert_eq!(part("== marks", "== writes").trim(), "", "what an earlier build wrote: {log}");
        assert!(
            part("== writes", "== signals").lines().filter(|line| line.contains("cannot create")).count()
                == SWITCHES.len(),
            "{log}"
        );
        earlier.push(log);
    }
    // Everybody whom it could signal was in the step.
    assert_eq!(server.get("/healthz").code, 200);
    forge.finish();
}

#[test]
fn the_agent_keeps_itself_to_itself() {
    let forge = Forge::start();
    let server = Server::start_with(&forge, crate::fence::plain());
    let proc = format!("/proc/{}", server.pid().as_raw_nonzero());
    let limits = fs::read_to_string(format!("{proc}/limits")).expect("it runs");
    let cores = limits.lines().find(|line| line.starts_with("Max core file size")).expect("Linux says so");
    assert_eq!(cores.split_whitespace().nth(4), Some("0"), "{cores}");
    let mut open = 0;
    for entry in fs::read_dir(format!("{proc}/fdinfo")).into_iter().flatten().flatten() {
        let number: i32 = entry.file_name().to_str().and_then(|name| name.parse().ok()).expect("a number");
        // One may be closed meanwhile.
        let Ok(text) = fs::read_to_string(entry.path()) else { continue };
        let flags = text.lines().find_map(|line| line.strip_prefix("flags:")).expect("Linux says so").trim();
        let flags = i32::from_str_radix(flags, 8).expect("octal");
        assert!(number < 3 || flags & libc::O_CLOEXEC != 0, "descriptor {number} is inherited: {text}");
        open += 1;
    }
    if rustix::process::geteuid().is_root() {
        assert!(open > 5, "{open}");
    } else {
        // Not even its own user may look: not dumpable (prctl(2)).
        for closed in ["environ", "mem", "maps", "fd"] {
            let path = format!("{proc}/{closed}");
            let looked = if closed == "fd" { fs::read_dir(&path).map(drop) } else { fs::read(&path).map(drop) };
            assert_eq!(looked.map_err(|error| error.kind()), Err(std::io::ErrorKind::PermissionDenied), "{closed}");
        }
    }
    // Steps have 500 (stories of tests/confine): the kernel takes them before it takes the agent.
    let score = fs::read_to_string(format!("{proc}/oom_score_adj")).expect("it runs");
    assert!(score.trim().parse::<i32>().expect("a number") < 500, "{score}");
    forge.finish();
}

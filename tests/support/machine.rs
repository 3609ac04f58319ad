//! What the machine says of a server: its processes, its memory, its database.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustix::process::{Pid, getpid, set_child_subreaper};
use sqlx::Connection as _;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};

use crate::support::forge::Forge;

/// What a step needs that does nothing: a bundle, and no install.
pub(crate) const NO_OP: &[(&str, &str)] = &[(".hookmill.toml", "[bundle]\ncommand = [\"true\"]\n")];

/// A repository file whose bundle is one shell script.
pub(crate) fn script(script: &str) -> String {
    script_with(script, "")
}

/// As [`script`], with further keys of `[bundle]`.
pub(crate) fn script_with(script: &str, keys: &str) -> String {
    // JSON's string is a TOML string too.
    format!("[bundle]\ncommand = [\"sh\", \"-c\", {}]\n{keys}\n", serde_json::json!(script))
}

/// From now on what a killed server leaves behind becomes this process's child, so that it is found.
pub(crate) fn adopt_orphans() {
    set_child_subreaper(Some(getpid())).expect("Linux");
}

/// The command lines of what is alive and was started for builds of the server at `url`: steps bear its address in their
/// environment; holders, checkouts and fences stand below this process, alive or orphaned (after [`adopt_orphans`]).
pub(crate) fn of_builds(url: &str) -> Vec<String> {
    let marker = format!("CI_BUILD_URL={url}/");
    let mut found = Vec::new();
    for (pid, command) in processes() {
        let environ = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let is_step = environ.windows(marker.len()).any(|window| window == marker.as_bytes());
        let is_fence = command.contains("hookmill internal ") || command.starts_with("bwrap ");
        if is_step || (is_fence && is_ours(pid)) {
            found.push(format!("{pid} {command}"));
        }
    }
    found
}

/// Waits until nothing is left of a server's builds.
pub(crate) fn nothing_left(forge: &Forge, url: &str) {
    forge.wait(|| of_builds(url).is_empty().then_some(()), || format!("left behind: {:#?}", of_builds(url)));
}

/// Living processes (a zombie has no command line) with their command lines.
fn processes() -> Vec<(i32, String)> {
    let entries = fs::read_dir("/proc").expect("Linux").flatten();
    let ids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    ids.filter_map(|pid: i32| {
        let command = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let command = String::from_utf8_lossy(&command).replace('\0', " ").trim().to_owned();
        (!command.is_empty()).then_some((pid, command))
    })
    .collect()
}

/// Whether this process is an ancestor.
fn is_ours(pid: i32) -> bool {
    is_of(pid, getpid())
}

/// Whether it is that process, or one below it.
pub(crate) fn is_of(mut pid: i32, ancestor: Pid) -> bool {
    while pid > 1 {
        if pid == ancestor.as_raw_nonzero().get() {
            return true;
        }
        let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
        // proc(5): the parent is the second field after the name, which is in brackets.
        let parent = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1)?.parse().ok());
        let Some(parent) = parent else { return false };
        pid = parent;
    }
    false
}

/// The highest resident set of a process since [`forget_peak`], in bytes.
pub(crate) fn peak(pid: Pid) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", pid.as_raw_nonzero())).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("Linux says so");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
}

/// Begins the count of [`peak`] anew, at what is resident now (proc(5), `clear_refs`).
pub(crate) fn forget_peak(pid: Pid) {
    fs::write(format!("/proc/{}/clear_refs", pid.as_raw_nonzero()), "5").expect("our own child");
}

/// A folder with links to these programs of this machine and no others, for a `PATH` of its own.
pub(crate) fn only(folder: &Path, programs: &[&str]) -> String {
    fs::create_dir_all(folder).expect("a folder");
    let searched = std::env::var_os("PATH").expect("set");
    for program in programs {
        let is_program = |file: &Path| fs::metadata(file).is_ok_and(|meta| meta.permissions().mode() & 0o111 != 0);
        let found = std::env::split_paths(&searched).map(|dir| dir.join(program)).find(|file| is_program(file));
        let found = found.unwrap_or_else(|| panic!("{program} is not on PATH"));
        std::os::unix::fs::symlink(found, folder.join(program)).expect("a link");
    }
    folder.to_str().expect("UTF-8").to_owned()
}

/// Asks a database whose server does not run.
pub(crate) struct Database {
    runtime: tokio::runtime::Runtime,
    connection: SqliteConnection,
}

impl Database {
    pub(crate) fn open(path: &Path) -> Database {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let options = SqliteConnectOptions::new().filename(path);
        let connection = runtime.block_on(SqliteConnection::connect_with(&options)).expect("a database");
        Database { runtime, connection }
    }

    pub(crate) fn run(&mut self, statement: &'static str) {
        self.runtime.block_on(sqlx::raw_sql(statement).execute(&mut self.connection)).expect("done");
    }

    pub(crate) fn number(&mut self, query: &'static str) -> i64 {
        self.runtime.block_on(sqlx::query_scalar(query).fetch_one(&mut self.connection)).expect("one number")
    }

    /// Fails unless the file and its references are whole.
    pub(crate) fn is_whole(&mut self) {
        let check = sqlx::query_scalar("PRAGMA integrity_check").fetch_all(&mut self.connection);
        let said: Vec<String> = self.runtime.block_on(check).expect("an answer");
        assert_eq!(said, ["ok"]);
        assert_eq!(self.number("SELECT count(*) FROM pragma_foreign_key_check"), 0);
    }
}

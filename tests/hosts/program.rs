//! `hookmill serve` and `hookmill agent`, each on a host of its own, on one database.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::hosts::network::Host;
use crate::support::forge::{Forge, HOOK_SECRET, Kind, TOKEN};

const EXE: &str = env!("CARGO_BIN_EXE_hookmill");
/// Short, and long enough for six hosts that share a few cores.
pub(crate) const LEASE_SECONDS: u32 = 10;

/// One process on one host.
pub(crate) struct Program {
    pub(crate) name: String,
    pub(crate) host: Host,
    role: &'static str,
    dir: PathBuf,
    child: Option<Child>,
}

impl Program {
    /// Starts it; `role` is `serve` or `agent`.
    pub(crate) fn start(role: &'static str, number: u8, forge: &Forge, store: &str) -> Program {
        let name = format!("{role}-{number}");
        let host = Host::plug_in(number).expect("a host");
        let dir = forge.dir.path().join(&name);
        fs::create_dir_all(&dir).expect("a folder");
        let text = configuration(forge, store, &name, &host.address, if role == "agent" { 2 } else { 0 });
        fs::write(dir.join("hookmill.toml"), text).expect("written");
        let mut program = Program { name, host, role, dir, child: None };
        program.run();
        program
    }

    pub(crate) fn run(&mut self) {
        let log = File::options().create(true).append(true).open(self.dir.join("log")).expect("a log");
        let mut command = self.host.command(EXE);
        command.arg(self.role).arg("--config").arg(self.dir.join("hookmill.toml"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.child = Some(command.spawn().expect("started"));
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}:4665", self.host.address)
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(self.child.as_ref().expect("it runs")), signal).expect("it runs");
    }

    /// kill -9.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    pub(crate) fn log(&self) -> String {
        fs::read(self.dir.join("log")).map(|log| String::from_utf8_lossy(&log).into_owned()).unwrap_or_default()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("the log of {}:\n{}", self.name, self.log());
        }
    }
}

fn configuration(forge: &Forge, store: &str, name: &str, address: &str, slots: u8) -> String {
    let (git, api, shared) =
        (forge.git.origin(), forge.api_url(Kind::Gitea), forge.dir.path().join("blobs").display().to_string());
    let node = Command::new("node").arg("--version").output().expect("node is installed").stdout;
    let node = String::from_utf8_lossy(&node).trim().trim_start_matches('v').to_owned();
    let node = node.split('.').next().unwrap_or_default();
    format!(
        r#"[server]
listen = "{address}:4665"
public_url = "http://{address}:4665"
admin_token = "an-admin-token-of-enough-bytes"

[store]
url = "{store}"

[data]
dir = "./data"
blobs_url = "file://{shared}"

[agent]
name = "{name}"
slots = {slots}
lease = "{LEASE_SECONDS}s"
drain_timeout = "5s"

[toolchain]
node = "{node}"

[[forge]]
name = "gitea"
kind = "gitea"
web_url = "{git}"
api_url = "{api}"
token = "{TOKEN}"

[[repo]]
forge = "gitea"
name = "acme/*"
hook_secret = "{HOOK_SECRET}"
"#
    )
}

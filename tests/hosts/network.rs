//! Hosts on one machine: network namespaces, each with one cable to a switch. The test's own thread is in the namespace of
//! the switch, and so is whatever it starts; with the process all of it is gone.

use std::fs;
use std::process::{Child, Command, Stdio};

use rustix::thread::{UnshareFlags, unshare_unsafe};

/// The switch's own address, where the forge and the database are.
pub(crate) const HUB: &str = "10.77.0.1";

/// A namespace with a cable.
pub(crate) struct Host {
    pub(crate) address: String,
    cable: String,
    /// Keeps the namespace; dies with the test's thread.
    keeper: Child,
}

/// Puts this thread into a network of its own with nothing but the switch; why not, where that can't be done.
pub(crate) fn enter() -> Result<(), String> {
    if !rustix::process::geteuid().is_root() {
        return Err("it needs root".to_owned());
    }
    // SAFETY: descriptors are not unshared; the thread's namespace is used by it and by what it starts.
    unsafe { unshare_unsafe(UnshareFlags::NEWNET) }.map_err(|error| format!("no network namespace: {error}"))?;
    ip(&["link", "set", "lo", "up"])?;
    ip(&["link", "add", "hub", "type", "bridge"])?;
    ip(&["address", "add", &format!("{HUB}/24"), "dev", "hub"])?;
    ip(&["link", "set", "hub", "up"])
}

fn ip(arguments: &[&str]) -> Result<(), String> {
    run(Command::new("ip").args(arguments))
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command.stdin(Stdio::null()).output().map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim()))
}

impl Host {
    /// The host with this number, from 1, on the switch.
    pub(crate) fn plug_in(number: u8) -> Result<Host, String> {
        let mut keeper = Command::new("setpriv");
        keeper.args(["--pdeathsig", "KILL", "unshare", "--net", "sleep", "infinity"]).stdin(Stdio::null());
        let keeper = keeper.spawn().map_err(|error| format!("setpriv: {error}"))?;
        let (address, cable) = (format!("10.77.0.{}", 10 + number), format!("cable{number}"));
        let host = Host { address, cable, keeper };
        let ours = fs::read_link("/proc/thread-self/ns/net").map_err(|error| error.to_string())?;
        // Until it has unshared, its namespace is ours.
        while fs::read_link(host.namespace()).map_err(|error| error.to_string())? == ours {
            std::thread::yield_now();
        }
        let pid = host.keeper.id().to_string();
        ip(&["link", "add", &host.cable, "type", "veth", "peer", "name", "eth0", "netns", &pid])?;
        ip(&["link", "set", &host.cable, "master", "hub", "up"])?;
        for arguments in [
            ["link", "set", "lo", "up"].as_slice(),
            &["address", "add", &format!("{}/24", host.address), "dev", "eth0"],
            &["link", "set", "eth0", "up"],
        ] {
            run(host.command("ip").args(arguments))?;
        }
        Ok(host)
    }

    fn namespace(&self) -> String {
        format!("/proc/{}/ns/net", self.keeper.id())
    }

    /// A program on this host. Its process is the program's own: nsenter becomes it.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.namespace())).arg(program);
        command
    }

    /// Pulls the cable.
    pub(crate) fn cut(&self) {
        ip(&["link", "set", &self.cable, "down"]).expect("a cable");
    }

    /// Plugs it in again.
    pub(crate) fn mend(&self) {
        ip(&["link", "set", &self.cable, "up"]).expect("a cable");
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.keeper.kill();
        let _ = self.keeper.wait();
    }
}

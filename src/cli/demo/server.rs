//! The server under show: this very binary as `hookmill serve`, with a configuration of its own, as a child process.

use std::ffi::OsString;
use std::fs;
use std::io::Write;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::process::{Child, Command};

use super::forge::REPOSITORY;
use super::prerequisites::Ready;

/// How long the server may take until it answers.
const START_LIMIT: Duration = Duration::from_secs(20);
/// Between two questions whether it answers.
const ASK_AGAIN: Duration = Duration::from_millis(25);
/// How long a running build may take to stop, after the first and after the second SIGTERM.
const DRAIN: Duration = Duration::from_secs(4);
const STOP: Duration = Duration::from_secs(4);
/// How often another port is tried when somebody else took the free one first.
const PORTS_TRIED: usize = 5;
/// How much of the log is shown when the server can't do its part.
const LOG_TAIL_LINES: usize = 12;

const CONFIGURATION: &str = "hookmill.toml";
const LOG: &str = "serve.log";
const HOOK_SECRET: &str = "hook-secret";
const FORGE_TOKEN: &str = "forge-token";

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
pub(super) enum ServerError {
    /// `--port` names a port that is not free.
    #[error("port {port} of 127.0.0.1 can't be opened ({cause}); leave --port out to take any free one")]
    Port {
        /// The port.
        port: u16,
        /// What the system says.
        cause: std::io::Error,
    },
    /// It could not be started, or its files not be written.
    #[error("the server could not be started in {folder}: {cause}")]
    Start {
        /// The demo's folder.
        folder: PathBuf,
        /// What the system says.
        cause: std::io::Error,
    },
    /// It ended before it answered.
    #[error("the server ended ({status}) before it answered; the end of its log:\n{tail}")]
    Ended {
        /// How it ended.
        status: ExitStatus,
        /// The log's last lines.
        tail: String,
    },
    /// It runs but does not answer.
    #[error("the server did not answer within {} s; the end of its log:\n{tail}", START_LIMIT.as_secs())]
    Silent {
        /// The log's last lines.
        tail: String,
    },
}

/// What the server is told.
#[derive(Debug)]
pub(super) struct Settings<'a> {
    /// Everything is written here.
    pub folder: &'a Path,
    /// The port of the pages; 0 for any free one.
    pub port: u16,
    /// `http://127.0.0.1:PORT` of the forge.
    pub forge_url: &'a str,
    /// What deliveries are signed with.
    pub hook_secret: &'a str,
    /// What the forge takes statuses with.
    pub forge_token: &'a str,
    /// What was found on this machine.
    pub ready: &'a Ready,
    /// Its `PATH`, where that is not ours.
    pub path: Option<OsString>,
}

/// The running server. [`Server::stop`] ends it in order; a drop kills it.
#[derive(Debug)]
pub(super) struct Server {
    child: Child,
    url: String,
    log: PathBuf,
}

impl Server {
    /// Writes the configuration, starts the server and waits until it answers.
    pub(super) async fn start(settings: &Settings<'_>, http: &ureq::Agent) -> Result<Self, ServerError> {
        let mut tried = 0;
        loop {
            tried += 1;
            let port = free_port(settings.port)?;
            let mut server = Self::spawn(settings, port)
                .map_err(|cause| ServerError::Start { folder: settings.folder.to_owned(), cause })?;
            match server.answers(http).await {
                Ok(()) => return Ok(server),
                // Between our look at the port and the server's bind, another program may have taken it.
                Err(ServerError::Ended { .. })
                    if settings.port == 0 && tried < PORTS_TRIED && free_port(port).is_err() => {}
                Err(error) => {
                    server.stop().await;
                    return Err(error);
                }
            }
        }
    }

    fn spawn(settings: &Settings<'_>, port: u16) -> std::io::Result<Self> {
        let url = format!("http://127.0.0.1:{port}");
        write_private(&settings.folder.join(HOOK_SECRET), settings.hook_secret)?;
        write_private(&settings.folder.join(FORGE_TOKEN), settings.forge_token)?;
        let file = settings.folder.join(CONFIGURATION);
        fs::write(&file, configuration(settings, port))?;
        let log = settings.folder.join(LOG);
        let child = Command::new(std::env::current_exe()?)
            .arg("serve")
            .arg("--config")
            .arg(&file)
            .envs(settings.path.iter().map(|path| ("PATH", path)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(&log)?)
            // Ctrl-C reaches the demo alone, which then ends the server in order.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        Ok(Self { child, url, log })
    }

    async fn answers(&mut self, http: &ureq::Agent) -> Result<(), ServerError> {
        let deadline = Instant::now() + START_LIMIT;
        let url = format!("{}/healthz", self.url);
        loop {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(ServerError::Ended { status, tail: self.log_tail() });
            }
            let (http, url) = (http.clone(), url.clone());
            let asked = tokio::task::spawn_blocking(move || http.get(url).call()).await;
            if matches!(asked, Ok(Ok(answer)) if answer.status() == 200) {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(ServerError::Silent { tail: self.log_tail() });
            }
            tokio::time::sleep(ASK_AGAIN).await;
        }
    }

    /// Its address, without a slash at the end.
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// The address of the repository's hook.
    pub(super) fn hook(&self) -> String {
        format!("{}/hooks/demo/{REPOSITORY}", self.url)
    }

    /// The last lines of its log.
    pub(super) fn log_tail(&self) -> String {
        let log = fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(LOG_TAIL_LINES)..].join("\n")
    }

    /// Asks it to drain, then to stop, then kills it with all of its group. Returns when it is gone.
    pub(super) async fn stop(&mut self) {
        let Some(pid) = self.child.id().and_then(|id| Pid::from_raw(id.cast_signed())) else { return };
        for wait in [DRAIN, STOP] {
            let _ = kill_process(pid, Signal::TERM);
            if tokio::time::timeout(wait, self.child.wait()).await.is_ok() {
                return;
            }
        }
        let _ = kill_process_group(pid, Signal::KILL);
        let _ = self.child.wait().await;
    }
}

/// The asked port, or a free one for 0. The port is closed again: the server opens it.
pub(super) fn free_port(port: u16) -> Result<u16, ServerError> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port))
        .and_then(|listener| listener.local_addr())
        .map(|address| address.port())
        .map_err(|cause| ServerError::Port { port, cause })
}

fn write_private(path: &Path, secret: &str) -> std::io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(secret.as_bytes())
}

/// The configuration as anybody could have written it; paths are relative to it.
fn configuration(settings: &Settings<'_>, port: u16) -> String {
    let quoted = |text: &str| toml::Value::from(text).to_string();
    let mut text = format!(
        r#"# Written by `hookmill demo`: one forge, one repository.
[server]
listen = "127.0.0.1:{port}"
public_url = "http://127.0.0.1:{port}"
sweep = "off"

[store]
url = "sqlite://./data/hookmill.db"

[data]
dir = "./data"

[agent]
slots = 1
drain_timeout = "1s"

[toolchain]
node = "{node}"

[sandbox]
install_hosts = ["npm", "yarn", "bower", "node", {components}]

[[forge]]
name = "demo"
kind = "gitea"
api_url = {api}
web_url = {web}
token_file = "{FORGE_TOKEN}"

[[repo]]
forge = "demo"
name = "{REPOSITORY}"
hook_secret_file = "{HOOK_SECRET}"
"#,
        node = settings.ready.node_major,
        api = quoted(&format!("{}/api/v1", settings.forge_url)),
        web = quoted(settings.forge_url),
        // The sample's bower components are repositories of the demo's own forge.
        components = quoted(settings.forge_url.trim_start_matches("http://")),
    );
    if let Some(file) = &settings.ready.ca_file {
        text.push_str(&format!("\n[network]\nca_file = {}\n", quoted(file)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_is_toml_whatever_npm_was_told() {
        let ready = Ready { items: vec![], node_major: 22, ca_file: Some("/etc/\"quoted\".pem".to_owned()) };
        let settings = Settings {
            folder: Path::new("/nowhere"),
            port: 0,
            forge_url: "http://127.0.0.1:2",
            hook_secret: "s",
            forge_token: "t",
            ready: &ready,
            path: None,
        };
        let text = configuration(&settings, 4711);
        let table: toml::Table = text.parse().unwrap_or_else(|error| panic!("{error}\n{text}"));
        assert_eq!(table["server"]["listen"].as_str(), Some("127.0.0.1:4711"));
        assert_eq!(table["network"]["ca_file"].as_str(), Some("/etc/\"quoted\".pem"));
        assert_eq!(table["forge"][0]["api_url"].as_str(), Some("http://127.0.0.1:2/api/v1"));
        assert_eq!(table["sandbox"]["install_hosts"][4].as_str(), Some("127.0.0.1:2"));
    }

    #[test]
    fn a_taken_port_is_named() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let port = taken.local_addr().expect("bound").port();
        let error = free_port(port).expect_err("taken").to_string();
        assert!(error.contains(&port.to_string()) && error.contains("--port"), "{error}");
    }
}

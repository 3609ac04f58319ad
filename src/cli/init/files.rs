//! The files of a first configuration. None is ever overwritten, and after a fault none is left.

use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use url::Url;

use super::Answers;
use crate::cli::fields::is_loopback;

/// Bytes of a generated secret: as many as the HMAC it is for puts out.
const SECRET_BYTES: usize = 32;

/// Where everything was written.
pub(super) struct Written {
    pub(super) all: Vec<PathBuf>,
    pub(super) server: PathBuf,
    pub(super) hook_secret: PathBuf,
    /// Where the forge's token is, or belongs.
    pub(super) token: PathBuf,
}

/// Why the files could not be written.
#[derive(Debug, thiserror::Error)]
pub(super) enum WriteError {
    #[error(
        "{} is already there, and is not overwritten\n  help: take another DIR; another repository is another file in repos.d",
        .0.display()
    )]
    Exists(PathBuf),
    #[error("{} can't be written: {source}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("the system gives no random numbers: {0}")]
    Random(#[source] getrandom::Error),
}

struct File {
    path: PathBuf,
    text: String,
    mode: u32,
}

pub(super) fn write(dir: &Path, answers: &Answers) -> Result<Written, WriteError> {
    let slug = answers.repo.as_str().replace('/', "-");
    let hook_name = format!("{slug}-hook");
    let token_name = format!("{}-token", answers.name);
    let secrets = dir.join("secrets");
    let written = Written {
        all: Vec::new(),
        server: dir.join("hookmill.toml"),
        hook_secret: secrets.join(&hook_name),
        token: secrets.join(&token_name),
    };
    let mut files = vec![
        File { path: written.server.clone(), text: server_text(answers, &token_name), mode: 0o644 },
        File {
            path: dir.join("repos.d").join(format!("{slug}.toml")),
            text: repo_text(answers, &hook_name),
            mode: 0o644,
        },
        // The folder may be in a repository, and `git add .` is typed quickly.
        File { path: secrets.join(".gitignore"), text: "*\n".to_owned(), mode: 0o644 },
        File { path: secrets.join("admin-token"), text: random()?, mode: 0o600 },
        File { path: written.hook_secret.clone(), text: random()?, mode: 0o600 },
    ];
    if let Some(token) = &answers.token {
        files.push(File { path: written.token.clone(), text: format!("{token}\n"), mode: 0o600 });
    }
    if let Some(there) = files.iter().find(|file| file.path.symlink_metadata().is_ok()) {
        return Err(WriteError::Exists(there.path.clone()));
    }
    let mut done: Vec<PathBuf> = Vec::new();
    for file in &files {
        if let Err(error) = write_one(file) {
            for path in &done {
                // The fault is what matters; a file that stays is named by the next attempt.
                let _ = std::fs::remove_file(path);
            }
            return Err(error);
        }
        done.push(file.path.clone());
    }
    Ok(Written { all: done, ..written })
}

fn write_one(file: &File) -> Result<(), WriteError> {
    let fault = |source: io::Error| match source.kind() {
        io::ErrorKind::AlreadyExists => WriteError::Exists(file.path.clone()),
        _ => WriteError::Write { path: file.path.clone(), source },
    };
    if let Some(folder) = file.path.parent() {
        let mode = if folder.ends_with("secrets") { 0o700 } else { 0o755 };
        DirBuilder::new().recursive(true).mode(mode).create(folder).map_err(fault)?;
    }
    let mut handle = OpenOptions::new().write(true).create_new(true).mode(file.mode).open(&file.path).map_err(fault)?;
    handle.write_all(file.text.as_bytes()).map_err(fault)
}

/// A secret in hexadecimal digits, on a line of its own.
fn random() -> Result<String, WriteError> {
    let mut bytes = [0; SECRET_BYTES];
    getrandom::fill(&mut bytes).map_err(WriteError::Random)?;
    let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(digits + "\n")
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

fn without_slash(url: &Url) -> &str {
    url.as_str().trim_end_matches('/')
}

fn server_text(answers: &Answers, token_name: &str) -> String {
    let token = format!("token_file = {}", quoted(&format!("secrets/{token_name}")));
    let token = match answers.token {
        Some(_) => token,
        None => {
            format!("# Without a token no status can be posted. Save it in that file, then take the # away.\n# {token}")
        }
    };
    format!(
        "# Written by `hookmill init`. Every other key has a default; `hookmill check` names mistakes.\n\
         # Relative paths are relative to this file.\n\n\
         [server]\nlisten = {listen}\npublic_url = {public_url}\nadmin_token_file = \"secrets/admin-token\"\n\n\
         [store]\nurl = \"sqlite://./data/hookmill.db\"\n\n[data]\ndir = \"./data\"\n\n\
         [[forge]]\nname = {name}\nkind = {kind}\nweb_url = {web_url}\n{token}\n",
        listen = quoted(&listen(&answers.public_url)),
        public_url = quoted(without_slash(&answers.public_url)),
        name = quoted(answers.name.as_str()),
        kind = quoted(answers.kind.as_str()),
        web_url = quoted(without_slash(&answers.web_url)),
    )
}

fn repo_text(answers: &Answers, hook_name: &str) -> String {
    format!(
        "[[repo]]\nforge = {}\nname = {}\nhook_secret_file = {}\n",
        quoted(answers.name.as_str()),
        quoted(answers.repo.as_str()),
        quoted(&format!("../secrets/{hook_name}")),
    )
}

/// Plain http with a port of its own is us, reached directly; anything else is a reverse proxy in front of us.
fn listen(public_url: &Url) -> String {
    match (public_url.scheme(), public_url.port()) {
        ("http", Some(port)) if is_loopback(public_url) => format!("127.0.0.1:{port}"),
        ("http", Some(port)) => format!("0.0.0.0:{port}"),
        _ => "127.0.0.1:4665".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_to_listen_follows_from_how_we_are_reached() {
        let check = |url: &str, address| assert_eq!(listen(&Url::parse(url).expect("an address")), address);
        check("http://127.0.0.1:4665", "127.0.0.1:4665");
        check("http://localhost:8080", "127.0.0.1:8080");
        check("http://ci.lan:4665", "0.0.0.0:4665");
        check("https://ci.acme.dev", "127.0.0.1:4665");
        check("http://ci.lan", "127.0.0.1:4665");
    }
}

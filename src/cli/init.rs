//! `hookmill init`: a first configuration for one repository, and what is left to do by hand.

use std::io::{self, BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;

use clap::{Args, ValueEnum};
use url::Url;

use super::output::Out;
use super::{USAGE, fields};
use crate::config::server::ForgeKind;
use crate::domain::repo::{ForgeName, RepoPath};

mod files;

const DEFAULT_PUBLIC_URL: &str = "http://127.0.0.1:4665";

/// `hookmill init`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  hookmill init                                      asks\n  \
                  hookmill init ci --forge github --repo acme/shop --public-url https://ci.acme.dev\n  \
                  hookmill init --forge gitea --forge-url https://git.lan --repo acme/shop --public-url http://ci.lan:4665")]
pub struct InitArgs {
    /// Where to write; created when missing.
    #[arg(value_name = "DIR", default_value = ".")]
    dir: PathBuf,
    /// The kind of forge; also its name in addresses.
    #[arg(long, value_name = "KIND")]
    forge: Option<Kind>,
    /// The forge's address; needed for gitea and forgejo.
    #[arg(long, value_name = "URL")]
    forge_url: Option<HttpUrl>,
    /// The repository.
    #[arg(long, value_name = "OWNER/NAME")]
    repo: Option<RepoPath>,
    /// The address under which forges and people will reach this server; else port 4665 of this machine alone.
    #[arg(long, value_name = "URL")]
    public_url: Option<HttpUrl>,
    /// A file that holds the forge's token, which is copied; else the token is put in place later.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Kind {
    Github,
    Gitea,
    Forgejo,
}

impl From<Kind> for ForgeKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Github => ForgeKind::Github,
            Kind::Gitea => ForgeKind::Gitea,
            Kind::Forgejo => ForgeKind::Forgejo,
        }
    }
}

/// An address that others can be built from.
#[derive(Debug, Clone)]
struct HttpUrl(Url);

impl FromStr for HttpUrl {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let url = Url::parse(text).map_err(|_| "write http://… or https://…")?;
        let plain =
            url.username().is_empty() && url.password().is_none() && url.query().is_none() && url.fragment().is_none();
        if !matches!(url.scheme(), "http" | "https") || !plain {
            return Err("write http://host or https://host, without user, query and fragment");
        }
        Ok(Self(url))
    }
}

/// Everything that has to be known before a file is written.
struct Answers {
    kind: ForgeKind,
    name: ForgeName,
    web_url: Url,
    repo: RepoPath,
    public_url: Url,
    token: Option<String>,
}

/// Why nothing was written. The text is for a person.
#[derive(Debug, thiserror::Error)]
enum InitError {
    #[error("{} is missing, and there is no terminal to ask on\n  help: {EXAMPLE}", .0.join(", "))]
    Missing(Vec<&'static str>),
    #[error("the questions were not answered")]
    Unanswered,
    #[error("the answer can't be read: {0}")]
    Terminal(#[source] io::Error),
    #[error("{} can't be read: {source}", path.display())]
    Token { path: PathBuf, source: io::Error },
    #[error("{} holds no token: one line of visible characters", .0.display())]
    BadToken(PathBuf),
    #[error(transparent)]
    Files(#[from] files::WriteError),
}

const EXAMPLE: &str =
    "hookmill init --forge gitea --forge-url https://git.lan --repo acme/shop --public-url http://ci.lan:4665";

pub(super) fn run(args: InitArgs, out: &mut Out) -> ExitCode {
    let dir = args.dir.clone();
    let written = answers(args).and_then(|answers| {
        let files = files::write(&dir, &answers)?;
        Ok((answers, files))
    });
    match written {
        Ok((answers, files)) => {
            next_steps(&dir, &answers, &files, out);
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("hookmill: {error}");
            ExitCode::from(USAGE)
        }
    }
}

fn answers(args: InitArgs) -> Result<Answers, InitError> {
    let asking = io::stdin().is_terminal();
    if !asking {
        let own_forge = !matches!(args.forge, None | Some(Kind::Github));
        let needed = [
            ("--forge", args.forge.is_none()),
            ("--forge-url", own_forge && args.forge_url.is_none()),
            ("--repo", args.repo.is_none()),
        ];
        let missing: Vec<&str> = needed.iter().filter(|(_, missing)| *missing).map(|(flag, _)| *flag).collect();
        if !missing.is_empty() {
            return Err(InitError::Missing(missing));
        }
    }
    let kind: ForgeKind = match args.forge {
        Some(kind) => kind.into(),
        None => ask("Which forge? github, gitea or forgejo", Some("github"), |text| {
            Kind::from_str(text, true).map(ForgeKind::from).map_err(|_| "write github, gitea or forgejo".to_owned())
        })?,
    };
    let web_url = match (args.forge_url, kind) {
        (Some(url), _) => url,
        (None, ForgeKind::Github) => parse("https://github.com").expect("a constant that parses"),
        (None, _) => ask("The forge's address, like https://git.acme.dev", None, parse)?,
    };
    let repo = match args.repo {
        Some(repo) => repo,
        None => ask("The repository, owner/name", None, parse)?,
    };
    let public_url = match args.public_url {
        Some(url) => url,
        None if asking => {
            ask("The address under which the forge will reach this server", Some(DEFAULT_PUBLIC_URL), parse)?
        }
        None => parse(DEFAULT_PUBLIC_URL).expect("a constant that parses"),
    };
    let token = match args.token_file {
        Some(path) => Some(read_token(path)?),
        None if asking => ask_token()?,
        None => None,
    };
    let name = kind.as_str().parse().expect("a kind's word is a legal name");
    Ok(Answers { kind, name, web_url: web_url.0, repo, public_url: public_url.0, token })
}

fn parse<T: FromStr<Err: ToString>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error: T::Err| error.to_string())
}

/// Asks until the answer is one. Questions go to standard error, so that standard output can be kept.
fn ask<T>(
    question: &str,
    default: Option<&str>,
    mut parse: impl FnMut(&str) -> Result<T, String>,
) -> Result<T, InitError> {
    loop {
        let hint = default.map(|default| format!(" [{default}]")).unwrap_or_default();
        eprint!("{question}{hint}: ");
        io::stderr().flush().map_err(InitError::Terminal)?;
        let mut line = String::new();
        if io::stdin().lock().read_line(&mut line).map_err(InitError::Terminal)? == 0 {
            return Err(InitError::Unanswered);
        }
        let answer = match line.trim() {
            "" => default.unwrap_or_default(),
            answer => answer,
        };
        match parse(answer) {
            Ok(answer) => return Ok(answer),
            Err(fault) => eprintln!("  {fault}"),
        }
    }
}

fn ask_token() -> Result<Option<String>, InitError> {
    eprint!("The forge's token, which is not shown (Enter: later): ");
    loop {
        let token = console::Term::stderr().read_secure_line().map_err(InitError::Terminal)?;
        let token = token.trim();
        if token.is_empty() {
            return Ok(None);
        }
        if is_token(token) {
            return Ok(Some(token.to_owned()));
        }
        eprint!("  A token is one line of visible characters. Again (Enter: later): ");
    }
}

fn read_token(path: PathBuf) -> Result<String, InitError> {
    match std::fs::read_to_string(&path) {
        Ok(text) if is_token(text.trim()) => Ok(text.trim().to_owned()),
        Ok(_) => Err(InitError::BadToken(path)),
        Err(source) => Err(InitError::Token { path, source }),
    }
}

fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic())
}

fn next_steps(dir: &Path, answers: &Answers, files: &files::Written, out: &mut Out) {
    let Answers { kind, web_url, repo, public_url, .. } = answers;
    out.line("Written:");
    for path in &files.all {
        out.line(format_args!("  {}", path.display()));
    }
    out.line("\nA token of the forge, for statuses and for reading the repository:");
    if answers.token.is_some() {
        out.line(format_args!("  is in {}", files.token.display()));
    } else {
        out.line(format_args!("  save it: (umask 077; cat > {})", files.token.display()));
        out.line(format_args!("  and take the # away before token_file in {}", files.server.display()));
    }
    for step in fields::token_steps(*kind, web_url, repo) {
        out.line(format_args!("  {step}"));
    }
    out.line(format_args!("\nThe webhook, at {}", fields::hook_page(*kind, web_url, repo)));
    out.line(format_args!("  URL:           {}", fields::hook_url(public_url, &answers.name, Some(repo))));
    out.line("  Content type:  application/json");
    out.line(format_args!("  Secret:        what {} holds", files.hook_secret.display()));
    out.line(format_args!("  Events:        {}", fields::events(*kind)));
    for note in fields::delivery_notes(*kind, public_url) {
        out.line(format_args!("\n{note}"));
    }
    let config = dir.join("hookmill.toml");
    let flag = if dir == Path::new(".") { String::new() } else { format!(" --config {}", config.display()) };
    out.line(format_args!("\nThen:\n  hookmill check{flag}\n  hookmill serve{flag}"));
}

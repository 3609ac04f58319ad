//! `hookmill hook`: the webhooks of the configured repositories.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::output::{Out, coloured_errors};
use super::{REFUSED, USAGE, Unbuilt, fields, refuse, unbuilt};
use crate::config::load::{self, Loaded};
use crate::config::surroundings::Surroundings;
use crate::domain::repo::{RepoId, RepoPath};

/// `hookmill hook`.
#[derive(Debug, Args)]
pub struct HookArgs {
    /// The server's configuration file; else the one that `serve` would find.
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: HookCommand,
}

#[derive(Debug, Subcommand)]
enum HookCommand {
    /// With --print: the fields to fill in by hand at the forge, the secret among them.
    #[command(after_help = "Example:\n  hookmill hook add --print github/acme/shop")]
    Add {
        /// Prints the fields instead of registering the hook at the forge.
        #[arg(long)]
        print: bool,
        /// The repository: github/acme/shop, or acme/shop where there is one forge.
        #[arg(value_name = "REPO")]
        repo: String,
    },
    /// Lists the hooks that the configuration expects.
    List,
    /// Not built yet.
    #[command(hide = true, disable_help_flag = true)]
    Test(Unbuilt),
    /// Not built yet.
    #[command(hide = true, disable_help_flag = true)]
    Remove(Unbuilt),
}

pub(super) fn run(args: HookArgs, out: &mut Out) -> ExitCode {
    match &args.command {
        HookCommand::Test(_) => return unbuilt("hook test"),
        HookCommand::Remove(_) => return unbuilt("hook remove"),
        HookCommand::Add { print: false, repo } => {
            eprintln!(
                "hookmill: not built yet: registering the hook at the forge\n  help: `hookmill hook add --print {repo}` \
                 prints the fields to fill in there by hand"
            );
            return ExitCode::from(USAGE);
        }
        HookCommand::Add { print: true, .. } | HookCommand::List => {}
    }
    let loaded = match configuration(&args) {
        Ok(loaded) => loaded,
        Err(code) => return code,
    };
    match args.command {
        HookCommand::Add { repo, .. } => add(&loaded, &repo, out),
        _ => list(&loaded, out),
    }
}

fn configuration(args: &HookArgs) -> Result<Loaded, ExitCode> {
    let around = Surroundings::of_this_process().map_err(|error| {
        eprintln!("hookmill: the current directory can't be read: {error}");
        ExitCode::from(USAGE)
    })?;
    let loaded = load::load(args.config.as_deref(), &around).map_err(|error| refuse(&error))?;
    for warning in &loaded.warnings {
        eprintln!("{}\n", warning.render(coloured_errors()));
    }
    Ok(loaded)
}

/// The repository that a person means, if a `[[repo]]` block names it.
fn find(loaded: &Loaded, text: &str) -> Option<RepoId> {
    let forges = &loaded.server.forges;
    let known = |repo: &RepoId| forges.rules(repo).is_some();
    if let Some(repo) = text.parse::<RepoId>().ok().filter(known) {
        return Some(repo);
    }
    let path: RepoPath = text.parse().ok()?;
    let mut found =
        forges.by_name.keys().map(|forge| RepoId { forge: forge.clone(), path: path.clone() }).filter(known);
    let repo = found.next()?;
    found.next().is_none().then_some(repo)
}

fn add(loaded: &Loaded, text: &str, out: &mut Out) -> ExitCode {
    let server = &loaded.server;
    let found = find(loaded, text);
    let parts = found.and_then(|repo| {
        let rules = server.forges.rules(&repo)?;
        let forge = server.forges.by_name.get(&repo.forge)?;
        Some((repo, rules, forge))
    });
    let Some((repo, rules, forge)) = parts else {
        let names: Vec<String> = server.forges.named().iter().map(|(forge, path)| format!("{forge}/{path}")).collect();
        eprintln!("hookmill: no [[repo]] is configured for {text:?}");
        if !names.is_empty() {
            eprintln!("  help: configured are {}", names.join(", "));
        }
        return ExitCode::from(REFUSED);
    };
    let own = rules.hook_secrets.first();
    let Some(secret) = own.or(forge.hook_secrets.first()) else {
        eprintln!("hookmill: neither {repo} nor the forge {} has a hook secret", forge.name);
        return ExitCode::from(REFUSED);
    };
    let public_url = &server.web.public_url;
    if own.is_some() {
        out.line(format_args!("At {}", fields::hook_page(forge.kind, &forge.web_url, &repo.path)));
    } else {
        out.line(format_args!("{} has no hook secret of its own; this is the one hook of {}.", repo, forge.name));
    }
    out.line(format_args!("URL:           {}", fields::hook_url(public_url, &repo.forge, own.map(|_| &repo.path))));
    out.line("Content type:  application/json");
    out.line(format_args!("Secret:        {}", String::from_utf8_lossy(secret.expose())));
    out.line(format_args!("Events:        {}", fields::events(forge.kind)));
    for note in fields::delivery_notes(forge.kind, public_url) {
        out.line(format_args!("\n{note}"));
    }
    ExitCode::SUCCESS
}

fn list(loaded: &Loaded, out: &mut Out) -> ExitCode {
    let server = &loaded.server;
    let public_url = &server.web.public_url;
    for (forge, path) in server.forges.named() {
        let repo = RepoId { forge, path };
        let own = server.forges.rules(&repo).is_some_and(|rules| !rules.hook_secrets.is_empty());
        let url = fields::hook_url(public_url, &repo.forge, own.then_some(&repo.path));
        out.line(format_args!("{repo}\t{url}"));
    }
    for forge in server.forges.by_name.values().filter(|forge| !forge.hook_secrets.is_empty()) {
        out.line(format_args!(
            "{} (one hook for all)\t{}",
            forge.name,
            fields::hook_url(public_url, &forge.name, None)
        ));
    }
    ExitCode::SUCCESS
}

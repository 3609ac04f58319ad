//! `hookmill check`: everything that can be said about settings without trying them.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, ValueEnum};

use super::account;
use super::folder::{Confinement, Folder};
use super::lanes::harmless;
use super::output::{Out, coloured_errors};
use super::{USAGE, refuse};
use crate::config::load::{self, LoadError, Loaded};
use crate::config::repo_file::{FILE_NAME, RepoFile};
use crate::config::schema;
use crate::config::surroundings::Surroundings;
use crate::domain::spec::Plan;
use crate::runner::Stop;

/// A folder with one of these at its top is a repository to be planned, even if nobody names it.
const MANIFESTS: [&str; 2] = ["package.json", "bower.json"];

/// `hookmill check`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  hookmill check                            the configuration that `serve` would use, and this folder\n  \
                  hookmill check --config ci/hookmill.toml  that one\n  hookmill check ../shop                    also the repository in ../shop: its file, its plan\n\n\
                  Exit codes: 0 nothing wrong, 2 something is."
)]
pub struct CheckArgs {
    /// The server's configuration file; else the one that `serve` would find.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// It is the configuration of a machine that only runs `hookmill agent`: nobody has to be able to sign for its
    /// repositories.
    #[arg(long)]
    agent: bool,
    /// Warnings and notices count as faults: two lockfiles, one of another manager, out of date, or none.
    #[arg(long)]
    strict: bool,
    /// Prints the JSON Schema of one of the two files, for editors, and checks nothing.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["config", "agent", "strict", "dir"])]
    schema: Option<SchemaOf>,
    /// A repository's folder: its .hookmill.toml is checked, and what a build of it would do is planned, without
    /// installing or running anything; else this folder, if it is one.
    #[arg(value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// Whose schema is printed.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum SchemaOf {
    /// `hookmill.toml`.
    Server,
    /// `.hookmill.toml`.
    Repository,
}

pub(super) fn run(args: &CheckArgs, out: &mut Out) -> ExitCode {
    if let Some(file) = args.schema {
        let schema = schema::of(match file {
            SchemaOf::Server => schema::Of::Server,
            SchemaOf::Repository => schema::Of::Repository,
        });
        out.line(format_args!("{schema:#}"));
        return ExitCode::SUCCESS;
    }
    let around = match Surroundings::of_this_process() {
        Ok(around) => Surroundings { takes_hooks: !args.agent, ..around },
        Err(error) => {
            eprintln!("hookmill: the current directory can't be read: {error}");
            return ExitCode::from(USAGE);
        }
    };
    let mut repository = check_repository(args.dir.as_deref(), out);
    if repository == Verdict::Good {
        repository = check_plan(args.dir.as_deref().unwrap_or(Path::new(".")), args.strict, out);
    }
    let server = match load::load(args.config.as_deref(), &around) {
        Ok(loaded) => Verdict::of(report(&loaded, out, args.strict)),
        Err(LoadError::NothingConfigured { .. }) if repository != Verdict::Nothing => Verdict::Nothing,
        Err(error) => {
            refuse(&error);
            Verdict::Wrong
        }
    };
    if [repository, server].contains(&Verdict::Wrong) { ExitCode::from(USAGE) } else { ExitCode::SUCCESS }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Good,
    Wrong,
    /// There was nothing to look at.
    Nothing,
}

impl Verdict {
    fn of(good: bool) -> Self {
        if good { Verdict::Good } else { Verdict::Wrong }
    }
}

/// Prints the warnings and what was read; false when a warning counts as a fault.
fn report(loaded: &Loaded, out: &mut Out, strict: bool) -> bool {
    for warning in &loaded.warnings {
        eprintln!("{}\n", warning.render(coloured_errors()));
    }
    let forges = &loaded.server.forges;
    let files: Vec<String> = loaded.files.iter().map(|file| file.display().to_string()).collect();
    let read = if files.is_empty() { "the environment".to_owned() } else { files.join(", ") };
    let counted = format!(
        "{}, {}",
        count(forges.by_name.len(), "forge", "forges"),
        count(forges.blocks(), "[[repo]] block", "[[repo]] blocks")
    );
    let good = loaded.warnings.is_empty() || !strict;
    let verdict = match loaded.warnings.len() {
        0 => "good".to_owned(),
        n if good => format!("good, with {}", count(n, "warning", "warnings")),
        n => format!("refused for {} (--strict)", count(n, "warning", "warnings")),
    };
    out.line(format_args!("configuration ({read}): {counted}: {verdict}"));
    good
}

/// Plans the folder's files as a build would, and says what is worth knowing about them.
fn check_plan(dir: &Path, strict: bool, out: &mut Out) -> Verdict {
    let shown = dir.display();
    let plan = match planned(dir) {
        Ok(plan) => plan,
        Err(why) => {
            eprintln!("hookmill: {shown} can't be planned: {}", harmless(&why));
            return Verdict::Wrong;
        }
    };
    for line in account::notices(&plan.notices) {
        out.line(line);
    }
    let steps: Vec<&str> = plan.steps().map(|step| step.name.as_str()).collect();
    let steps = if steps.is_empty() { "nothing to do".to_owned() } else { steps.join(", ") };
    let good = plan.notices.is_empty() || !strict;
    let verdict = match plan.notices.len() {
        0 => "good".to_owned(),
        n if good => format!("good, with {}", count(n, "notice", "notices")),
        n => format!("refused for {} (--strict)", count(n, "notice", "notices")),
    };
    out.line(format_args!("plan of {shown} ({}): {verdict}", harmless(&steps)));
    Verdict::of(good)
}

/// The plan, or in words why there is none.
fn planned(dir: &Path) -> Result<Plan, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| format!("no runtime: {error}"))?.block_on(async {
        let folder = Folder::open(dir, None, Confinement::NothingRuns, &[]).await.map_err(|error| error.to_string())?;
        let planned = folder.plan(&Stop::new()).await;
        folder.close().await;
        planned.map_err(|verdict| verdict.reason)
    })
}

fn count(number: usize, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

fn check_repository(named: Option<&Path>, out: &mut Out) -> Verdict {
    let dir = named.unwrap_or(Path::new("."));
    let path = dir.join(FILE_NAME);
    let shown = path.display().to_string();
    let shown = shown.strip_prefix("./").unwrap_or(&shown);
    match std::fs::symlink_metadata(&path) {
        Err(_) if named.is_none() && !MANIFESTS.iter().any(|name| dir.join(name).is_file()) => {
            return Verdict::Nothing;
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && dir.is_dir() => {
            out.line(format_args!("{shown}: there is none, so everything is detected: good"));
            return Verdict::Good;
        }
        Ok(metadata) if metadata.is_symlink() => {
            eprintln!("hookmill: {shown} is a link: the agent reads only a file\n  help: put the file itself there");
            return Verdict::Wrong;
        }
        _ => {}
    }
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) => {
            eprintln!("hookmill: {shown} can't be read: {error}");
            return Verdict::Wrong;
        }
    };
    match RepoFile::parse(&text, shown) {
        Ok(_) => {
            out.line(format_args!("{shown}: good"));
            Verdict::Good
        }
        Err(problems) => {
            eprintln!("{}\n", problems.render(coloured_errors()));
            Verdict::Wrong
        }
    }
}

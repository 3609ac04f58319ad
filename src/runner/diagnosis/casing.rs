//! Paths that differ from the file's name in upper and lower case only: they work on macOS and Windows.

use super::{Diagnosis, Finished, between, mend};

/// Looks for the first import that finds nothing, and in the tree for a file that it may have meant.
pub(super) fn diagnose(step: &Finished<'_>, output: &str) -> Option<Diagnosis> {
    two_spellings(output).or_else(|| {
        let output = &output.replace(&format!("{}/", step.root), "").replace(&format!(" in '{}'", step.root), " in ''");
        unresolved(output).iter().take(TRIED).find_map(|import| {
            let folder = joined(&import.folder, import.request)?;
            let found = other_case(step, &folder)?;
            let wanted = in_the_case_of(&folder, &found);
            Some(
                Diagnosis::theirs(format!(
                    "{} is {found} in the repository; upper and lower case differ on Linux",
                    import.request
                ))
                .mended_by(mend::by_hand(&format!("# or write {found} where it is imported\ngit mv {found} {wanted}"))),
            )
        })
    })
}

/// How many imports are looked up; a build without its dependencies has thousands that find nothing.
const TRIED: usize = 20;

/// TypeScript sees both spellings in one program (TS1149, TS1261).
fn two_spellings(output: &str) -> Option<Diagnosis> {
    let line = output.lines().find(|line| line.contains("only in casing") && line.contains("ile name '"))?;
    let one = between(line, "ile name '", "'")?;
    let other = between(line, "file name '", "' only in casing").and_then(|rest| rest.rsplit('\'').next())?;
    let short = |path: &str| path.rsplit('/').next().unwrap_or(path).to_owned();
    Some(Diagnosis::theirs(format!(
        "{} is also imported as {}; upper and lower case have to be the file's own",
        short(one),
        short(other)
    )))
}

/// An import that found nothing.
struct Import<'a> {
    /// Relative to the tree's root, `/` between; where the importing file stands.
    folder: String,
    /// `./Button`, `../a/B.css`.
    request: &'a str,
}

/// In the words of webpack and rspack, of rollup and Vite, and of TypeScript.
fn unresolved(output: &str) -> Vec<Import<'_>> {
    let mut found: Vec<Import<'_>> = Vec::new();
    for line in output.lines() {
        let import = webpack(line).or_else(|| rollup(line)).or_else(|| typescript(line));
        found.extend(import.filter(|import| import.request.starts_with('.')));
    }
    found
}

/// `Can't resolve './Button' in '/build/src'`; webpack 1: `Cannot resolve 'file' or 'directory' ./Button in /build/src`.
fn webpack(line: &str) -> Option<Import<'_>> {
    if let Some(rest) = line.split_once("Cannot resolve 'file' or 'directory' ").map(|(_, rest)| rest) {
        let (request, folder) = rest.trim_end().split_once(" in ")?;
        return Some(Import { folder: folder.to_owned(), request });
    }
    let request = between(line, "Can't resolve '", "'")?;
    Some(Import { folder: between(line, "' in '", "'")?.to_owned(), request })
}

/// `Could not resolve "./Price.js" from "src/main.js"`.
fn rollup(line: &str) -> Option<Import<'_>> {
    let request = between(line, "Could not resolve \"", "\"")?;
    Some(Import { folder: folder_of(between(line, "\" from \"", "\"")?), request })
}

/// `src/cart.ts(1,21): error TS2307: Cannot find module './Price' or …`.
fn typescript(line: &str) -> Option<Import<'_>> {
    let request = between(line, "TS2307: Cannot find module '", "'")?;
    Some(Import { folder: folder_of(line.split(['(', ':']).next()?), request })
}

fn folder_of(file: &str) -> String {
    file.rsplit_once('/').map_or(String::new(), |(folder, _)| folder.to_owned())
}

/// `folder` and `request` as one path from the root; `None` when it leaves the tree.
fn joined(folder: &str, request: &str) -> Option<String> {
    let mut parts: Vec<&str> = Vec::new();
    for part in folder.split('/').chain(request.split(['?', '#']).next()?.split('/')) {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// The file at `path` where only its case is another; `None` when there is none, or one of that very name.
fn other_case(step: &Finished<'_>, path: &str) -> Option<String> {
    let mut found = String::new();
    let mut parts = path.split('/').peekable();
    let mut differs = false;
    while let Some(part) = parts.next() {
        let names = (step.names)(&found);
        let last = parts.peek().is_none();
        // What is imported may leave its ending out.
        let is = |name: &str, same: fn(&str, &str) -> bool| {
            same(name, part) || last && name.rsplit_once('.').is_some_and(|(stem, _)| same(stem, part))
        };
        let exact = names.iter().find(|name| is(name, |a, b| a == b));
        differs |= exact.is_none();
        let name = exact.or_else(|| names.iter().find(|name| is(name, str::eq_ignore_ascii_case)))?;
        if !found.is_empty() {
            found.push('/');
        }
        found.push_str(name);
    }
    differs.then_some(found)
}

/// `found`, spelt as `wanted`, with the ending that `wanted` may lack.
fn in_the_case_of(wanted: &str, found: &str) -> String {
    format!("{wanted}{}", found.get(wanted.len()..).unwrap_or_default())
}

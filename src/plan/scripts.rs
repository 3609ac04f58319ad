//! What the scripts of a `package.json` start, as far as their text tells: not a shell, but enough of one to see an
//! install inside a script, so that nothing is installed twice.

use std::collections::BTreeSet;

use super::manifest::Manifest;
use crate::domain::listing;

/// A command of a script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Command {
    /// Where it runs, from the tree's root.
    dir: String,
    words: Vec<String>,
}

/// Stands for the edge of something that starts in the script's own folder: a quoted command, a subshell.
const EDGE: char = '\u{1}';

/// The commands of a script and of the scripts that it runs. `dir` is the folder of its `package.json`.
pub(super) fn commands(manifest: &Manifest, dir: &str, script: &str) -> Vec<Command> {
    let mut found = Vec::new();
    follow(manifest, dir, script, &mut BTreeSet::new(), &mut found);
    found
}

/// Scripts may call each other in circles, so each is followed once.
fn follow(manifest: &Manifest, dir: &str, script: &str, seen: &mut BTreeSet<String>, found: &mut Vec<Command>) {
    if manifest.script(script).is_none() {
        return;
    }
    for name in [format!("pre{script}"), script.to_owned(), format!("post{script}")] {
        let Some(text) = manifest.script(&name).filter(|_| seen.insert(name.clone())) else { continue };
        for command in split(text, dir) {
            let own: Vec<String> =
                command.words.iter().filter(|word| manifest.script(word).is_some()).cloned().collect();
            let here = command.folder() == Some(dir.to_owned());
            found.push(command);
            for other in own.iter().filter(|_| here) {
                follow(manifest, dir, other, seen, found);
            }
        }
    }
}

fn split(text: &str, dir: &str) -> Vec<Command> {
    let mut commands = Vec::new();
    for part in unquoted(text).split([EDGE, '(', ')']) {
        let mut cwd = Some(dir.to_owned());
        for command in part.split(['&', '|', ';', '\n']) {
            let words: Vec<String> = command.split_whitespace().map(str::to_owned).collect();
            match (words.first().map(String::as_str), words.get(1)) {
                (Some("cd" | "pushd"), Some(target)) => cwd = cwd.and_then(|cwd| joined(&cwd, target)),
                (Some(_), _) => commands.extend(cwd.clone().map(|dir| Command { dir, words })),
                (None, _) => {}
            }
        }
    }
    commands
}

/// Quotes around a word go away; around several they hold a command of its own.
fn unquoted(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(['"', '\'', '`']) {
        let quote = &rest[at..=at];
        plain.push_str(rest[..at].trim_end_matches('\\'));
        let inner = &rest[at + 1..];
        let end = inner.find(quote).unwrap_or(inner.len());
        let quoted = inner[..end].trim_end_matches('\\');
        if quoted.contains(char::is_whitespace) {
            plain.push(EDGE);
            plain.push_str(quoted);
            plain.push(EDGE);
        } else {
            plain.push_str(quoted);
        }
        rest = inner.get(end + 1..).unwrap_or_default();
    }
    plain.push_str(rest);
    plain
}

/// A folder from another one; `None` outside the tree, or when only a shell could tell.
pub(super) fn joined(dir: &str, target: &str) -> Option<String> {
    if target.contains(['$', '*']) { None } else { listing::joined(dir, target) }
}

impl Command {
    /// The program with everything before and after it.
    pub(super) fn words(&self) -> &[String] {
        &self.words
    }

    /// The folder that it works in: where it runs, or where `--prefix` and the like send it.
    pub(super) fn folder(&self) -> Option<String> {
        match self.option() {
            Some(target) => joined(&self.dir, target),
            None => Some(self.dir.clone()),
        }
    }

    /// True when one of its words is this program, whatever starts it (`npx`, `cross-env A=b`, a path).
    pub(super) fn runs(&self, program: &str) -> bool {
        self.after(program).is_some()
    }

    /// True when this program is what it starts, behind settings of its environment.
    pub(super) fn starts(&self, program: &str) -> bool {
        const BEFORE: [&str; 4] = ["cross-env", "cross-env-shell", "env", "exec"];
        let mut words = self.words.iter().skip_while(|word| word.contains('=') || BEFORE.contains(&word.as_str()));
        words.next().is_some_and(|word| word == program)
    }

    /// The folder in which it installs what this package manager (`npm`, `yarn`, `pnpm`, `bun`, `bower`) installs.
    pub(super) fn installs(&self, tool: &str) -> Option<String> {
        let rest = self.after(tool)?;
        let option = self.option();
        let is_option = |word: &&str| word.starts_with('-') || option == Some(*word);
        let mut plain = rest.iter().map(String::as_str).filter(|word| !is_option(word));
        let verb = plain.next();
        let known = match tool {
            "bower" => matches!(verb, Some("install" | "i" | "update")),
            "yarn" => matches!(verb, None | Some("install")),
            _ => matches!(verb, Some("install" | "i" | "ci" | "clean-install" | "bootstrap")),
        };
        let elsewhere = rest.iter().any(|word| word == "-g" || word == "--global");
        // `npm install webpack` adds a package; what it is added to may not be installed.
        let whole = tool == "bower" || plain.next().is_none();
        if known && whole && !elsewhere { self.folder() } else { None }
    }

    /// True for `lerna bootstrap`, which installs every package.
    pub(super) fn bootstraps(&self) -> bool {
        self.after("lerna").is_some_and(|rest| rest.iter().any(|word| word == "bootstrap"))
    }

    fn after(&self, program: &str) -> Option<&[String]> {
        let at = self.words.iter().position(|word| word.rsplit('/').next() == Some(program))?;
        // `npm run bower` names a script; what that one starts was followed.
        let named = at > 0 && matches!(self.words[at - 1].as_str(), "run" | "run-script" | "cd" | "echo");
        (!named).then(|| &self.words[at + 1..])
    }

    /// The option that sends a package manager elsewhere, and where.
    fn option(&self) -> Option<&str> {
        const NAMES: [&str; 5] = ["--prefix", "--cwd", "--dir", "-C", "--config.cwd"];
        self.words.iter().enumerate().find_map(|(at, word)| match word.split_once('=') {
            Some((name, value)) if NAMES.contains(&name) => Some(value),
            None if NAMES.contains(&word.as_str()) => self.words.get(at + 1).map(String::as_str),
            _ => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn installs(scripts: &str, tool: &str) -> Vec<String> {
        let manifest = Manifest::parse("package.json", format!(r#"{{"scripts": {scripts}}}"#).as_bytes());
        let manifest = manifest.expect("JSON");
        commands(&manifest, ".", "build").iter().filter_map(|command| command.installs(tool)).collect()
    }

    #[test]
    fn installs_in_scripts() {
        let check = |script: &str, tool: &str, expected: &[&str]| {
            let scripts = serde_json::json!({ "build": script }).to_string();
            assert_eq!(installs(&scripts, tool), expected, "{script}");
        };
        check("cd client && npm ci && npm run build", "npm", &["client"]);
        check("npm --prefix client install", "npm", &["client"]);
        check("npm ci --prefix=./client/ --no-audit", "npm", &["client"]);
        check("(cd a && npm i); (cd b/c && npm install)", "npm", &["a", "b/c"]);
        check("concurrently \"cd a && npm install\" 'cd b && npm ci'", "npm", &["a", "b"]);
        check("cd \"client\" && yarn", "yarn", &["client"]);
        check("yarn --cwd client install --frozen-lockfile && yarn build", "yarn", &["client"]);
        check("pnpm -C client i", "pnpm", &["client"]);
        check("cd a && cd ../b && npm i", "npm", &["b"]);
        check("cd .. && npm i", "npm", &[]);
        check("cd $HOME && npm i", "npm", &[]);
        check("npm install -g gulp && npm install left-pad", "npm", &[]);
        check("cd client && npm run install-all", "npm", &[]);
        check("yarn build", "yarn", &[]);
        check("cd client && ./node_modules/.bin/bower i --allow-root", "bower", &["client"]);
        check("NODE_ENV=x npx bower install jquery", "bower", &["."]);
        check("bower-installer", "bower", &[]);
        check("echo bower install", "bower", &[]);
    }

    #[test]
    fn what_a_command_starts() {
        let check = |script: &str, expected: bool| {
            let started = split(script, ".").iter().any(|command| command.starts("yarn"));
            assert_eq!(started, expected, "{script}");
        };
        check("cd client && yarn", true);
        check("cross-env NODE_ENV=production yarn build", true);
        check("concurrently \"yarn build:a\" \"yarn build:b\"", true);
        check("rimraf yarn && echo yarn", false);
        check("yarn-deduplicate", false);
    }

    #[test]
    fn through_other_scripts_and_around_in_circles() {
        let scripts = r#"{"build": "run-s deps bundle", "deps": "npm run bower", "bower": "bower install",
            "bundle": "npm run build", "prebuild": "cd web && npm ci"}"#;
        assert_eq!(installs(scripts, "bower"), ["."]);
        assert_eq!(installs(scripts, "npm"), ["web"]);
    }
}

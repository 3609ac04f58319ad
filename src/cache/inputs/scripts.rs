//! What the install scripts of the repository itself may read.
//!
//! `npm ci` and the others run `preinstall`, `postinstall`, `prepare` and the like of the root package and of every
//! workspace member. A script may read any file of the tree, and what it writes then depends on more than a lockfile.
//! Those that everybody has are known here with what they read; every other one needs `[cache] inputs`.

use serde_json::{Map, Value};

/// What npm, yarn, pnpm and bun run of a repository's own packages during an install
/// (<https://docs.npmjs.com/cli/using-npm/scripts#life-cycle-operation-order>, <https://pnpm.io/scripts>).
pub(super) const LIFECYCLE: [&str; 11] = [
    "pnpm:devPreinstall",
    "preinstall",
    "install",
    "postinstall",
    "prepublish",
    "preprepare",
    "prepare",
    "postprepare",
    "predependencies",
    "dependencies",
    "postdependencies",
];

/// Scripts that call scripts: more than these are a circle.
const MAX_DEPTH: usize = 8;

/// Where `prisma generate` and `@prisma/client` look for a schema
/// (<https://www.prisma.io/docs/orm/prisma-schema/overview/location>).
pub(super) const PRISMA: [&str; 3] = ["prisma/**", "schema.prisma", "prisma.config.*"];

/// What is known of a script.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Known {
    /// Globs over what it reads beside the inputs that every key has, relative to its package.
    pub(super) reads: Vec<String>,
    /// The scripts that it runs, itself among them.
    pub(super) scripts: Vec<String>,
    /// Whether it runs bower in its package.
    pub(super) bower: bool,
}

/// A command that may read any file, as it is written.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unknown(pub(super) String);

/// Follows a script of a package.
pub(super) fn judge(scripts: &Map<String, Value>, name: &str) -> Result<Known, Unknown> {
    let mut known = Known::default();
    follow(scripts, name, 0, &mut known)?;
    Ok(known)
}

/// Judges a command that is written elsewhere than in `scripts`.
pub(super) fn judge_line(line: &str) -> Result<Known, Unknown> {
    let mut known = Known::default();
    let scripts = Map::new();
    for words in commands(line).ok_or_else(|| Unknown(line.to_owned()))? {
        judge_command(&scripts, &words, 0, &mut known)?;
    }
    Ok(known)
}

fn follow(scripts: &Map<String, Value>, name: &str, depth: usize, known: &mut Known) -> Result<(), Unknown> {
    let Some(line) = scripts.get(name).and_then(Value::as_str) else { return Ok(()) };
    if known.scripts.iter().any(|seen| seen == name) {
        return Ok(());
    }
    known.scripts.push(name.to_owned());
    if depth > MAX_DEPTH {
        return Err(Unknown(line.to_owned()));
    }
    for words in commands(line).ok_or_else(|| Unknown(line.to_owned()))? {
        judge_command(scripts, &words, depth, known)?;
    }
    Ok(())
}

fn judge_command(
    scripts: &Map<String, Value>,
    words: &[String],
    depth: usize,
    known: &mut Known,
) -> Result<(), Unknown> {
    let unknown = || Unknown(words.join(" "));
    let is_setting = |word: &String| word.split_once('=').is_some_and(|(name, _)| !name.contains(['-', '/', '.']));
    let words: Vec<&str> = words.iter().skip_while(|word| is_setting(word)).map(String::as_str).collect();
    let Some((&program, rest)) = words.split_first() else { return Ok(()) };
    let again = |rest: &[&str], known: &mut Known| {
        let rest: Vec<String> = rest.iter().map(|word| (*word).to_owned()).collect();
        judge_command(scripts, &rest, depth + 1, known)
    };
    let mut run = |name: &str| {
        for name in [format!("pre{name}"), name.to_owned(), format!("post{name}")] {
            follow(scripts, &name, depth + 1, known)?;
        }
        Ok(())
    };
    let plain = || rest.iter().copied().filter(|word| !word.starts_with('-'));
    let name = program.rsplit('/').next().filter(|_| program.contains("node_modules/.bin/")).unwrap_or(program);
    match (name, rest.first().copied()) {
        _ if depth > MAX_DEPTH => Err(unknown()),
        // These only wrap another command.
        ("npx" | "cross-env" | "env" | "exec" | "time", _) => {
            let start = rest.iter().position(|word| !word.starts_with('-')).unwrap_or(rest.len());
            again(&rest[start..], known)
        }
        ("npm" | "yarn" | "pnpm" | "bun", Some("run" | "run-script")) => match plain().nth(1) {
            Some(script) if scripts.contains_key(script) => run(script),
            _ => Err(unknown()),
        },
        ("pnpm" | "yarn" | "npm", Some("exec" | "dlx")) => {
            let start = rest[1..].iter().position(|word| !word.starts_with('-')).map_or(rest.len(), |at| at + 1);
            again(&rest[start..], known)
        }
        ("yarn" | "pnpm" | "bun", Some(script)) if scripts.contains_key(script) => run(script),
        ("run-s" | "run-p" | "npm-run-all", _) if plain().all(|script| scripts.contains_key(script)) => {
            plain().try_for_each(run)
        }
        ("yarn" | "pnpm", Some(word)) if !word.starts_with('-') && !is_verb(word) => again(rest, known),
        ("bower", Some("install" | "i")) if plain().count() == 1 => {
            known.bower = true;
            Ok(())
        }
        ("prisma", Some("generate")) => {
            known.reads.extend(PRISMA.map(str::to_owned));
            known.reads.extend(option(rest, "--schema").map(folder_or_file));
            Ok(())
        }
        // It applies patches/, which every key holds, unless it is told another folder.
        ("patch-package", _) => {
            known.reads.extend(option(rest, "--patch-dir").map(|dir| format!("{}/**", dir.trim_end_matches('/'))));
            Ok(())
        }
        // Compiles Angular's packages inside node_modules by the paths of this file.
        ("ngcc" | "ivy-ngcc", _) => {
            known.reads.push(option(rest, "--tsconfig").unwrap_or("tsconfig*.json").to_owned());
            Ok(())
        }
        // Rebuilds native modules inside node_modules for the Electron that its settings name.
        ("electron-builder", Some("install-app-deps")) => {
            known.reads.push("electron-builder*".to_owned());
            Ok(())
        }
        ("cp", _) if plain().all(|word| !word.starts_with(['/', '~']) && !word.contains("..")) => {
            let from: Vec<&str> = plain().collect();
            let from = from.iter().take(from.len().saturating_sub(1));
            known.reads.extend(from.filter(|path| !path.contains("node_modules/")).map(|path| folder_or_file(path)));
            Ok(())
        }
        ("git", Some("config")) => Ok(()),
        _ if HARMLESS.iter().any(|(known, _)| *known == name) => Ok(()),
        _ => Err(unknown()),
    }
}

/// Programs that read nothing of the tree but what every key holds, and why.
const HARMLESS: [(&str, &str); 30] = [
    ("true", "does nothing"),
    (":", "does nothing"),
    ("echo", "only prints"),
    ("printf", "only prints"),
    ("exit", "ends the script"),
    ("test", "asks whether a file is there; what follows it is judged by itself"),
    ("[", "asks whether a file is there; what follows it is judged by itself"),
    ("is-ci", "asks the environment, in which CI is always true"),
    ("husky", "writes hooks of git, which no build runs"),
    ("husky-run", "writes hooks of git, which no build runs"),
    ("simple-git-hooks", "writes hooks of git, which no build runs"),
    ("lefthook", "writes hooks of git, which no build runs"),
    ("pre-commit", "writes hooks of git, which no build runs"),
    ("only-allow", "asks which manager runs it"),
    ("check-node-version", "asks the versions of tools"),
    ("npm-force-resolutions", "reads package.json and the lockfile"),
    ("yarn-deduplicate", "reads the lockfile"),
    ("opencollective", "prints the funding of package.json"),
    ("opencollective-postinstall", "prints the funding of package.json"),
    ("electron-rebuild", "works inside node_modules"),
    ("playwright", "fetches the browsers of its own version"),
    ("cypress", "fetches the program of its own version"),
    ("webdriver-manager", "works inside node_modules"),
    ("rimraf", "only removes"),
    ("rm", "only removes"),
    ("mkdir", "makes an empty folder"),
    ("chmod", "changes modes; those of tracked files are found afterwards"),
    ("touch", "makes an empty file"),
    ("sleep", "does nothing"),
    ("ts-patch", "patches TypeScript inside node_modules"),
];

/// Commands of yarn and pnpm themselves, which are no programs of `node_modules/.bin`.
fn is_verb(word: &str) -> bool {
    const VERBS: [&str; 12] = [
        "install",
        "i",
        "add",
        "remove",
        "link",
        "unlink",
        "build",
        "rebuild",
        "workspaces",
        "workspace",
        "node",
        "set",
    ];
    VERBS.contains(&word)
}

fn folder_or_file(path: &str) -> String {
    path.trim_start_matches("./").trim_end_matches('/').to_owned()
}

/// The value of `--name value` or `--name=value`.
fn option<'a>(words: &[&'a str], name: &str) -> Option<&'a str> {
    words.iter().enumerate().find_map(|(at, word)| match word.split_once('=') {
        Some((key, value)) if key == name => Some(value),
        None if *word == name => words.get(at + 1).copied(),
        _ => None,
    })
}

/// The commands of a shell's line, as words. `None` for what only a shell can tell: variables, redirections to files,
/// what other commands print.
fn commands(line: &str) -> Option<Vec<Vec<String>>> {
    // Output that goes nowhere changes nothing.
    let line = [" 2>/dev/null", " >/dev/null", " > /dev/null", " 2> /dev/null", " 2>&1", " &>/dev/null"]
        .iter()
        .fold(line.to_owned(), |line, nowhere| line.replace(nowhere, ""));
    let mut commands = vec![Vec::new()];
    let mut word = String::new();
    let mut is_word = false;
    let mut letters = line.chars().peekable();
    let end = |word: &mut String, is_word: &mut bool, commands: &mut Vec<Vec<String>>| {
        if std::mem::take(is_word)
            && let Some(command) = commands.last_mut()
        {
            command.push(std::mem::take(word));
        }
    };
    while let Some(letter) = letters.next() {
        match letter {
            '\'' | '"' => {
                is_word = true;
                loop {
                    match letters.next()? {
                        quote if quote == letter => break,
                        '$' | '`' if letter == '"' => return None,
                        '\\' if letter == '"' => word.push(letters.next()?),
                        other => word.push(other),
                    }
                }
            }
            '$' | '`' | '<' | '>' | '(' | ')' | '\\' => return None,
            ';' | '&' | '|' | '\n' => {
                end(&mut word, &mut is_word, &mut commands);
                commands.push(Vec::new());
            }
            ' ' | '\t' | '\r' => end(&mut word, &mut is_word, &mut commands),
            other => {
                is_word = true;
                word.push(other);
            }
        }
    }
    end(&mut word, &mut is_word, &mut commands);
    commands.retain(|command| !command.is_empty());
    Some(commands)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scripts(postinstall: &str) -> Map<String, Value> {
        let own = [("postinstall", postinstall), ("patch", "patch-package"), ("icons", "node icons.js")];
        own.into_iter().map(|(name, line)| (name.to_owned(), Value::from(line))).collect()
    }

    #[test]
    fn what_is_known_of_scripts() {
        let check = |line: &str, expected: Option<&[&str]>| {
            let known = judge(&scripts(line), "postinstall");
            let reads = known.as_ref().ok().map(|known| known.reads.iter().map(String::as_str).collect::<Vec<_>>());
            assert_eq!(reads.as_deref(), expected, "{line}: {known:?}");
        };
        for line in [
            "husky",
            "husky install",
            "husky || true",
            "is-ci || husky install",
            "npx only-allow pnpm",
            "npx --yes only-allow pnpm",
            "patch-package && npm run patch",
            "yarn patch",
            "run-s patch",
            "cross-env A=b patch-package",
            "A=b ./node_modules/.bin/patch-package",
            "echo 'a $b > c'",
            "test -d .git && husky 2>/dev/null || :",
            "simple-git-hooks; lefthook install",
        ] {
            check(line, Some(&[]));
        }
        check("prisma generate", Some(&PRISMA));
        check(
            "prisma generate --schema=db/s.prisma",
            Some(&["prisma/**", "schema.prisma", "prisma.config.*", "db/s.prisma"]),
        );
        check("patch-package --patch-dir ./fix", Some(&["./fix/**"]));
        check("ngcc", Some(&["tsconfig*.json"]));
        check("cp a/b.js node_modules/c/", Some(&["a/b.js"]));
        for line in [
            "node x.js",
            "npm run icons",
            "yarn icons",
            "run-s patch icons",
            "husky && gulp",
            "echo a > b",
            "echo $(cat x)",
            "$npm_execpath run x",
            "npm install",
            "yarn build",
            "./x",
            "prisma migrate",
            "cp ../a b",
            "npm run gone",
        ] {
            check(line, None);
        }
    }

    #[test]
    fn the_scripts_on_the_way_and_bower() {
        let known = judge(&scripts("npm run patch && bower install"), "postinstall").expect("known");
        assert_eq!((known.scripts, known.bower), (vec!["postinstall".to_owned(), "patch".to_owned()], true));
        assert_eq!(judge(&scripts("npm run icons"), "postinstall"), Err(Unknown("node icons.js".to_owned())));
    }
}

//! webpack 4 and 5 (and tools that print as they do): `ERROR in ./src/cart.js 14:0-26`.

use super::Diagnosis;

/// Counts the errors of a compilation and names the first with its place.
pub(super) fn diagnose(output: &str, root: &str) -> Option<Diagnosis> {
    let output = &output.replace(&format!("{root}/"), "");
    if let Some(before_compiling) = cli(output) {
        return Some(before_compiling);
    }
    let errors = blocks(output);
    let first = errors.first()?;
    let count = counted(output).unwrap_or(errors.len());
    let place = first.place();
    let message = first.message();
    Some(Diagnosis::theirs(match count {
        0 | 1 => format!("1 error, {place} {message}"),
        many => format!("{many} errors, first {place} {message}"),
    }))
}

/// What webpack-cli says when it never came to compiling.
fn cli(output: &str) -> Option<Diagnosis> {
    if output.contains("CLI for webpack must be installed") {
        return Some(Diagnosis::theirs("webpack-cli is not installed; add it to devDependencies"));
    }
    // webpack 1 to 3 with --bail.
    if let Some(said) = output.lines().find_map(|line| line.strip_prefix("ModuleNotFoundError: Module not found: ")) {
        return Some(Diagnosis::theirs(said.trim_start_matches("Error: ")));
    }
    let mut lines = output.lines().skip_while(|line| !line.starts_with("[webpack-cli] "));
    let first = lines.next()?.trim_start_matches("[webpack-cli] ");
    if first.starts_with("Invalid configuration object") {
        let what = lines.next().unwrap_or("").trim().trim_start_matches("- ");
        return Some(Diagnosis::theirs(format!("invalid configuration: {}", first_sentence(what))));
    }
    if let Some(rest) = first.strip_prefix("Failed to load '") {
        let file = without_dot(rest.split('\'').next().unwrap_or(rest));
        let error = lines.next().unwrap_or("").trim_start_matches("[webpack-cli] ");
        return Some(Diagnosis::theirs(format!("{file}: {error}")));
    }
    first.starts_with("Error: ").then(|| Diagnosis::theirs(first))
}

fn first_sentence(text: &str) -> &str {
    text.split_once(". ").map_or(text, |(first, _)| first)
}

/// One `ERROR in …` with the lines that follow it.
struct Block<'a> {
    head: &'a str,
    body: Vec<&'a str>,
}

/// The errors of the outermost compilation: those of children are indented, and repeat them.
fn blocks(output: &str) -> Vec<Block<'_>> {
    let mut blocks: Vec<Block<'_>> = Vec::new();
    let mut open = false;
    for line in output.lines() {
        if let Some(head) = line.strip_prefix("ERROR in ") {
            blocks.push(Block { head: head.trim(), body: Vec::new() });
            open = true;
        } else if line.starts_with("WARNING in ") || line.starts_with("webpack ") {
            open = false;
        } else if open && let Some(block) = blocks.last_mut() {
            block.body.push(line);
        }
    }
    blocks
}

/// webpack 5 counts for us: `compiled with 3 errors and 1 warning`.
fn counted(output: &str) -> Option<usize> {
    let line = output.lines().rev().find(|line| line.contains("compiled with ") && line.contains(" error"))?;
    line.split_once("compiled with ")?.1.split_whitespace().next()?.parse().ok()
}

impl<'a> Block<'a> {
    /// `src/cart.js:14`, or the file alone where no line is known.
    fn place(&self) -> String {
        let file = self.file();
        match self.line(file) {
            Some(line) => format!("{file}:{line}"),
            None => file.to_owned(),
        }
    }

    /// The file, without loaders before it, a query behind it, and the tree's root.
    fn file(&self) -> &'a str {
        let word = self.head.split_whitespace().next().unwrap_or(self.head);
        let resource = word.rsplit('!').next().unwrap_or(word);
        let resource = resource.split('?').next().unwrap_or(resource);
        // fork-ts-checker writes `./src/a.ts:3:7`.
        without_dot(resource.split(':').next().unwrap_or(resource))
    }

    fn line(&self, file: &str) -> Option<u32> {
        let from_head = self.head.split_whitespace().nth(1).and_then(row);
        let glued = || self.head.split_once(':').and_then(|(_, rest)| row(rest));
        // webpack 4 gives the place of an import only in the trace: `@ ./src/cart.js 14:0-26`.
        let traced = || {
            let trace = self.body.iter().find_map(|line| line.trim_start().strip_prefix("@ "))?;
            let (traced, place) = trace.split_once(' ')?;
            (without_dot(traced) == file).then(|| row(place)).flatten()
        };
        // TypeScript: `(1,7)`; babel and acorn: `(1:11)`; sass: `src/a.scss 1:12  root stylesheet`.
        let bracketed = || {
            self.body
                .iter()
                .find_map(|line| line.match_indices('(').find_map(|(at, _)| row(&line[at + 1..].replacen(',', ":", 1))))
        };
        let sass = || {
            let line = self.body.iter().find(|line| line.contains(" root stylesheet"))?;
            line.split_whitespace().find_map(row)
        };
        from_head.or_else(glued).or_else(traced).or_else(bracketed).or_else(sass)
    }

    fn message(&self) -> String {
        let mut said = self.body.iter().map(|line| line.trim()).filter(|line| !line.is_empty());
        let mut line = said.next().unwrap_or("");
        // A loader's error stands in the next line; TypeScript's own in the line with its number.
        if line.starts_with("Module build failed")
            || line.starts_with("Module Error")
            || line.starts_with("Module Warning")
        {
            line = said.next().unwrap_or(line);
        }
        if let Some(typescript) = self.body.iter().map(|line| line.trim()).find(|line| is_typescript(line)) {
            line = typescript;
        }
        // rspack puts a cross before what webpack says.
        let line = line.trim_start_matches("× ");
        let line = line.strip_prefix("Module not found: ").unwrap_or(line);
        let line = line.strip_prefix("Error: ").unwrap_or(line);
        let line = line.split_once("' in '").map_or(line.to_owned(), |(what, _)| format!("{what}'"));
        // babel says the file once more: `SyntaxError: src/cart.js: Unexpected token`.
        line.replacen(&format!(" {}: ", self.file()), " ", 1)
    }
}

/// `TS2322: …`.
fn is_typescript(line: &str) -> bool {
    let number = line.strip_prefix("TS").and_then(|rest| rest.split_once(": "));
    number.is_some_and(|(digits, _)| digits.chars().all(|c| c.is_ascii_digit()))
}

/// The row of `14:0-26` or `14:3`.
fn row(place: &str) -> Option<u32> {
    let (row, column) = place.split_once(':')?;
    column.starts_with(|c: char| c.is_ascii_digit()).then(|| row.parse().ok()).flatten()
}

fn without_dot(path: &str) -> &str {
    path.strip_prefix("./").unwrap_or(path)
}

//! `.gitattributes`, as far as it says how a file is written: gitattributes(5).
//!
//! libgit2 knows these rules only for a work tree or an index of its own, and asks each file's folders again for each
//! name. Here they are read once from the tree that is checked out.

use std::collections::BTreeMap;

/// How the contents of a blob are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Form {
    /// What becomes of a line's end.
    pub(super) eol: Eol,
    /// `ident`: `$Id$` is followed by the blob's id.
    pub(super) ident: bool,
    /// `filter=lfs`: a pointer stands for contents that are kept elsewhere.
    pub(super) lfs: bool,
    /// `working-tree-encoding` names something else than UTF-8.
    pub(super) encoded: bool,
}

/// What becomes of a line's end, on a system whose own is LF.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Eol {
    /// It stays.
    #[default]
    AsStored,
    /// LF becomes CRLF.
    Crlf,
    /// LF becomes CRLF in what looks like text and has none yet.
    CrlfIfText,
}

/// A value that a rule gives to an attribute; `Unspecified` takes back what an earlier rule gave.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Value {
    Set,
    Unset,
    Unspecified,
    Is(String),
}

#[derive(Debug)]
struct Rule {
    /// A glob over paths below the folder of the file that holds the rule.
    glob: String,
    values: Vec<(String, Value)>,
}

/// The rules of every `.gitattributes` of a tree.
#[derive(Debug, Default)]
pub(super) struct Attributes {
    /// By the folder that a file lies in, with `/` at its end; the root's is empty.
    files: BTreeMap<String, Vec<Rule>>,
    /// `[attr]name …`: what a name stands for.
    macros: BTreeMap<String, Vec<(String, Value)>>,
}

impl Attributes {
    /// Adds the file `path` (`client/.gitattributes`).
    pub(super) fn add(&mut self, path: &str, text: &str) {
        let folder = &path[..path.rfind('/').map_or(0, |slash| slash + 1)];
        let mut rules = Vec::new();
        for line in text.trim_start_matches('\u{feff}').lines() {
            let Some((pattern, rest)) = pattern_and_rest(line) else { continue };
            let values: Vec<(String, Value)> = rest.split_ascii_whitespace().filter_map(value).collect();
            if let Some(name) = pattern.strip_prefix("[attr]") {
                // A macro may be defined at the top only.
                if folder.is_empty() {
                    self.macros.insert(name.to_owned(), values);
                }
            } else if let Some(glob) = glob(&pattern) {
                rules.push(Rule { glob, values });
            }
        }
        self.files.insert(folder.to_owned(), rules);
    }

    /// How the file `path` is written. `top`: the folder (with `/`) of the repository it belongs to; a repository's
    /// rules end where a submodule begins.
    pub(super) fn form(&self, path: &str, top: &str) -> Form {
        let mut found: BTreeMap<&str, &Value> = BTreeMap::new();
        let below = &path[top.len()..];
        let folders = std::iter::once(0).chain(below.match_indices('/').map(|(at, _)| at + 1));
        for end in folders.map(|at| top.len() + at) {
            for rule in self.files.get(&path[..end]).into_iter().flatten() {
                if fast_glob::glob_match(&rule.glob, &path[end..]) {
                    rule.values.iter().for_each(|(name, value)| self.give(&mut found, name, value, 0));
                }
            }
        }
        read(&found)
    }

    /// True when no file says anything: every form is the plain one.
    pub(super) fn is_empty(&self) -> bool {
        self.files.values().all(Vec::is_empty)
    }

    fn give<'a>(&'a self, found: &mut BTreeMap<&'a str, &'a Value>, name: &'a str, value: &'a Value, depth: u8) {
        const BINARY: [(&str, Value); 3] = [("diff", Value::Unset), ("merge", Value::Unset), ("text", Value::Unset)];
        static BUILT_IN: [(&str, Value); 3] = BINARY;
        found.insert(name, value);
        if *value != Value::Set || depth > 8 {
            return;
        }
        match self.macros.get(name) {
            Some(meaning) => meaning.iter().for_each(|(name, value)| self.give(found, name, value, depth + 1)),
            None if name == "binary" => found.extend(BUILT_IN.iter().map(|(name, value)| (*name, value))),
            None => {}
        }
    }
}

/// git's `convert_attrs`, for `core.eol = native` on Linux.
fn read(found: &BTreeMap<&str, &Value>) -> Form {
    let get = |name: &str| found.get(name).copied().filter(|value| **value != Value::Unspecified);
    let is = |value: Option<&Value>, word: &str| matches!(value, Some(Value::Is(text)) if text == word);
    // `crlf` is the name of before 2010.
    let text = get("text").filter(|value| matches!(value, Value::Set | Value::Unset) || is(Some(value), "auto"));
    let text = text.or_else(|| get("crlf"));
    let eol = match text {
        Some(Value::Unset) => Eol::AsStored,
        _ if !is(get("eol"), "crlf") => Eol::AsStored,
        text if is(text, "auto") => Eol::CrlfIfText,
        _ => Eol::Crlf,
    };
    let encoded = match get("working-tree-encoding") {
        Some(Value::Is(name)) => !name.eq_ignore_ascii_case("utf-8") && !name.eq_ignore_ascii_case("utf8"),
        _ => false,
    };
    Form { eol, ident: get("ident") == Some(&Value::Set), lfs: is(get("filter"), "lfs"), encoded }
}

/// A line's pattern, which may be quoted, and what follows it; nothing for comments.
fn pattern_and_rest(line: &str) -> Option<(String, &str)> {
    let line = line.trim_start_matches([' ', '\t']).trim_end_matches('\r');
    if line.is_empty() || line.starts_with('#') {
        return None;
    }
    if let Some(quoted) = line.strip_prefix('"')
        && let Some((pattern, rest)) = unquote(quoted)
    {
        return Some((pattern, rest));
    }
    let end = line.find([' ', '\t']).unwrap_or(line.len());
    Some((line[..end].to_owned(), &line[end..]))
}

/// The text up to the closing quote, C style.
fn unquote(quoted: &str) -> Option<(String, &str)> {
    let mut text = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((text, &quoted[at + 1..])),
            '\\' => match chars.next()?.1 {
                't' => text.push('\t'),
                'n' => text.push('\n'),
                other => text.push(other),
            },
            c => text.push(c),
        }
    }
    None
}

fn value(word: &str) -> Option<(String, Value)> {
    Some(match word.as_bytes().first()? {
        b'-' => (word[1..].to_owned(), Value::Unset),
        b'!' => (word[1..].to_owned(), Value::Unspecified),
        _ => match word.split_once('=') {
            Some((name, text)) => (name.to_owned(), Value::Is(text.to_owned())),
            None => (word.to_owned(), Value::Set),
        },
    })
}

/// A pattern as a glob over paths from its file's folder: without a slash it fits a name at any depth. Folders have no
/// attributes, and a pattern that begins with `!` is forbidden.
fn glob(pattern: &str) -> Option<String> {
    if pattern.starts_with('!') || pattern.ends_with('/') {
        return None;
    }
    // Braces mean themselves to git.
    let plain = pattern.trim_start_matches('/').replace('{', "\\{").replace('}', "\\}");
    let glob = if pattern.contains('/') { plain } else { format!("**/{plain}") };
    fast_glob::validate(&glob).is_ok().then_some(glob)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(files: &[(&str, &str)], path: &str) -> Form {
        let mut attributes = Attributes::default();
        files.iter().for_each(|(path, text)| attributes.add(path, text));
        attributes.form(path, "")
    }

    #[test]
    fn what_becomes_of_line_ends() {
        let check = |text: &str, path: &str, eol: Eol| {
            assert_eq!(form(&[(".gitattributes", text)], path).eol, eol, "{text:?} for {path}");
        };
        check("", "a.js", Eol::AsStored);
        check("* text=auto", "a.js", Eol::AsStored);
        check("* text=auto eol=crlf", "a.js", Eol::CrlfIfText);
        check("*.bat eol=crlf", "deep/er/a.bat", Eol::Crlf);
        check("*.bat text eol=crlf", "a.js", Eol::AsStored);
        check("*.bat text eol=crlf\n*.bat eol=lf", "a.bat", Eol::AsStored);
        check("* eol=crlf\n*.png binary", "a.png", Eol::AsStored);
        check("* eol=crlf\n*.png -text", "a.png", Eol::AsStored);
        check("* eol=crlf\n*.x -crlf", "a.x", Eol::AsStored);
        check("* eol=crlf\n*.x !eol", "a.x", Eol::AsStored);
        check("# * eol=crlf", "a", Eol::AsStored);
        check("/*.bat eol=crlf", "a.bat", Eol::Crlf);
        check("/*.bat eol=crlf", "b/a.bat", Eol::AsStored);
        check("b/**/*.bat eol=crlf", "b/c/d/a.bat", Eol::Crlf);
        check("b/*.bat eol=crlf", "b/c/a.bat", Eol::AsStored);
        check("\"a b.txt\" eol=crlf", "a b.txt", Eol::Crlf);
        check("{a,b} eol=crlf", "a", Eol::AsStored);
        check("{a,b} eol=crlf", "{a,b}", Eol::Crlf);
        check("[attr]dos text eol=crlf\n*.bat dos", "a.bat", Eol::Crlf);
        check("b/ eol=crlf", "b/a", Eol::AsStored);
    }

    #[test]
    fn a_deeper_file_says_more_and_a_submodule_is_on_its_own() {
        let files = [(".gitattributes", "* eol=crlf"), ("a/.gitattributes", "*.js eol=lf\n/x.png filter=lfs ident")];
        assert_eq!(form(&files, "a/b.js").eol, Eol::AsStored);
        assert_eq!(form(&files, "b/b.js").eol, Eol::Crlf);
        let found = form(&files, "a/x.png");
        assert!(found.lfs && found.ident && found.eol == Eol::Crlf);
        let mut attributes = Attributes::default();
        files.iter().for_each(|(path, text)| attributes.add(path, text));
        assert_eq!(attributes.form("a/x.png", "a/").eol, Eol::AsStored);
    }
}

//! `[on."pattern"]`: what of the repository file holds for one build.

use super::repo_file::{Bundle, On, RepoFile};

/// What a build is of, as `[on]` asks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Subject<'a> {
    /// The branch of the repository itself; never a fork's, whatever it is called.
    pub branch: Option<&'a str>,
    /// Whether a pull request asked for it.
    pub pull_request: bool,
    /// Whether it is of a tag.
    pub tag: bool,
}

impl RepoFile {
    /// The file as it holds for one build: every `[on]` that fits it is applied over `[env]` and `[bundle]`, the narrower
    /// ones last, so that they win. Variables are taken one by one; of `[bundle]` what is named.
    #[must_use]
    pub fn for_build(mut self, subject: Subject<'_>) -> RepoFile {
        let mut fitting: Vec<On> = std::mem::take(&mut self.on).into_iter().filter(|on| fits(on, subject)).collect();
        // The order of the file decides between two that are as narrow.
        fitting.sort_by_key(|on| narrowness(&on.pattern));
        for on in fitting {
            self.env.extend(on.env);
            self.bundle.take_over(on.bundle);
        }
        self
    }
}

impl Bundle {
    fn take_over(&mut self, other: Bundle) {
        let Bundle { command, dir, output, timeout, env, network } = other;
        self.command = command.or(self.command.take());
        self.dir = dir.or(self.dir.take());
        self.output = output.or(self.output.take());
        self.timeout = timeout.or(self.timeout);
        self.network = network.or(self.network.take());
        self.env.extend(env);
    }
}

fn fits(on: &On, subject: Subject<'_>) -> bool {
    match on.pattern.as_str() {
        "pull_request" => subject.pull_request,
        "tag" => subject.tag,
        pattern => subject.branch.is_some_and(|branch| fast_glob::glob_match(pattern, branch)),
    }
}

/// A whole name before a pattern, more letters before fewer, a word for a kind of build before `**`.
fn narrowness(pattern: &str) -> (bool, usize, bool) {
    let is_word = matches!(pattern, "pull_request" | "tag");
    let letters = pattern.chars().filter(|c| !"*?[]{}!".contains(*c)).count();
    let is_whole = !is_word && letters == pattern.chars().count();
    (is_whole, if is_word { 0 } else { letters }, is_word)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on(pattern: &str, dir: Option<&str>) -> On {
        let env = [("WHO".to_owned(), pattern.to_owned()), (format!("ON_{pattern}"), String::new())].into();
        On { pattern: pattern.to_owned(), env, bundle: Bundle { dir: dir.map(str::to_owned), ..Bundle::default() } }
    }

    #[test]
    fn the_narrower_wins() {
        let patterns = ["main", "release/**", "**", "release/1.*", "pull_request", "tag"];
        let file = RepoFile {
            env: [("WHO".to_owned(), "everybody".to_owned()), ("KEPT".to_owned(), "1".to_owned())].into(),
            bundle: Bundle { dir: Some("web".to_owned()), output: Some("dist".to_owned()), ..Bundle::default() },
            on: patterns.into_iter().map(|pattern| on(pattern, Some(pattern).filter(|p| p.contains('/')))).collect(),
            ..RepoFile::default()
        };
        let check = |subject: Subject<'_>, who: &str, dir: &str| {
            let held = file.clone().for_build(subject);
            let bundle = (held.bundle.dir.as_deref(), held.bundle.output.as_deref());
            assert_eq!((held.env["WHO"].as_str(), bundle), (who, (Some(dir), Some("dist"))), "{subject:?}");
            assert_eq!(held.env["KEPT"], "1");
            held
        };
        let branch = |name| Subject { branch: Some(name), ..Subject::default() };
        check(branch("main"), "main", "web");
        check(branch("topic"), "**", "web");
        check(branch("release/2/a"), "release/**", "release/**");
        let held = check(branch("release/1.2"), "release/1.*", "release/1.*");
        assert!(held.env.contains_key("ON_release/**"), "what only the broader one says holds as well");
        check(Subject { pull_request: true, ..branch("topic") }, "pull_request", "web");
        check(Subject { pull_request: true, ..branch("release/2") }, "release/**", "release/**");
        check(Subject { pull_request: true, ..Subject::default() }, "pull_request", "web");
        check(Subject { tag: true, ..Subject::default() }, "tag", "web");
        check(Subject::default(), "everybody", "web");
    }
}

//! `.gitmodules`: which repository stands at which path, and from where it is fetched.
//!
//! git reads the file as a configuration. Here only names, paths and addresses are read: `update` may name a command,
//! and libgit2 would follow `[include]` into files of the agent.

use std::collections::BTreeMap;

use url::Url;

/// One `[submodule "name"]` that names a path and an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// Its name.
    pub(super) name: String,
    /// Where it stands, from the root of the repository.
    pub(super) path: String,
    /// As it is written.
    pub(super) url: String,
}

/// Reads the file; what can't be read is left out, as are paths that no tree holds.
pub(super) fn parse(text: &str) -> Vec<Entry> {
    let mut sections: BTreeMap<String, (Option<String>, Option<String>)> = BTreeMap::new();
    let mut name = None;
    for line in text.trim_start_matches('\u{feff}').lines().map(str::trim) {
        if let Some(head) = line.strip_prefix('[') {
            name = head
                .strip_prefix("submodule")
                .and_then(|rest| rest.trim_start().strip_prefix('"'))
                .and_then(|rest| rest.rsplit_once('"'))
                .map(|(name, _)| name.replace("\\\"", "\"").replace("\\\\", "\\"));
        } else if let (Some(name), Some((key, value))) = (&name, line.split_once('=')) {
            let (path, url) = sections.entry(name.clone()).or_default();
            match key.trim().to_ascii_lowercase().as_str() {
                "path" => *path = Some(plain(value)),
                "url" => *url = Some(plain(value)),
                _ => {}
            }
        }
    }
    let whole = sections.into_iter().filter_map(|(name, (path, url))| Some(Entry { name, path: path?, url: url? }));
    whole
        .map(|entry| Entry { path: entry.path.trim_end_matches('/').to_owned(), ..entry })
        .filter(|entry| !entry.path.is_empty() && !entry.path.starts_with('/') && !entry.path.contains('\0'))
        .filter(|entry| !entry.name.chars().any(char::is_control))
        .collect()
}

/// A value without quotes and without the comment after it (git-config(1)).
fn plain(value: &str) -> String {
    let mut text = String::new();
    let mut quoted = false;
    let mut chars = value.trim().chars();
    while let Some(c) = chars.next() {
        match c {
            '"' => quoted = !quoted,
            '\\' => text.extend(chars.next()),
            '#' | ';' if !quoted => break,
            c => text.push(c),
        }
    }
    text.trim_end().to_owned()
}

/// The address of a submodule, `http` or `https`, as seen from a repository that was fetched from `parent`.
///
/// # Errors
/// The end of a sentence that begins with the address: why it is not fetched.
pub(super) fn resolve(written: &str, parent: &Url) -> Result<Url, String> {
    let host = parent.host_str().unwrap_or_default();
    if written.starts_with("./") || written.starts_with("../") {
        return relative(written, parent).ok_or_else(|| format!("leads out of {host}"));
    }
    let fixed = |url: Url| super::transport::address(&url).map_err(|refusal| refusal.message);
    match Url::parse(written) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.host().is_some() => fixed(url),
        Ok(url) if url.scheme() == "ssh" && url.host_str() == Some(host) => {
            at_forge(url.path(), parent).ok_or_else(|| "names no repository".to_owned())
        }
        _ => match scp_like(written) {
            Some((its_host, path)) if its_host.eq_ignore_ascii_case(host) => {
                at_forge(path, parent).ok_or_else(|| "names no repository".to_owned())
            }
            _ => Err("is not fetched: write an https:// or a relative address in .gitmodules".to_owned()),
        },
    }
}

/// `git@host:path`, ssh's short form.
fn scp_like(written: &str) -> Option<(&str, &str)> {
    let (login, path) = written.split_once(':')?;
    if login.contains('/') || path.starts_with("//") {
        return None;
    }
    Some((login.rsplit_once('@').map_or(login, |(_, host)| host), path))
}

/// The forge's own address for what was named by ssh.
fn at_forge(path: &str, parent: &Url) -> Option<Url> {
    let path = path.trim_start_matches('/');
    if path.is_empty() || path.split('/').any(|part| part == "..") {
        return None;
    }
    let mut url = parent.clone();
    url.set_path(path);
    Some(url)
}

/// git's `relative_url`: `../` takes off a part of the path, `./` none.
fn relative(written: &str, parent: &Url) -> Option<Url> {
    let mut parts: Vec<&str> = parent.path().trim_matches('/').split('/').collect();
    for part in written.split('/').filter(|part| !part.is_empty() && *part != ".") {
        match part {
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    let mut url = parent.clone();
    url.set_path(&parts.join("/"));
    (!parts.is_empty()).then_some(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let check = |written: &str, expected: Result<&str, &str>| {
            let parent = Url::parse("https://git.lan:8443/acme/shop.git").expect("an address");
            let found = resolve(written, &parent);
            match (&found, expected) {
                (Ok(url), Ok(expected)) => assert_eq!(url.as_str(), expected, "{written}"),
                (Err(why), Err(words)) => assert!(why.contains(words), "{written}: {why}"),
                _ => panic!("{written}: {found:?}"),
            }
        };
        check("../theme.git", Ok("https://git.lan:8443/acme/theme.git"));
        check("../../other/theme", Ok("https://git.lan:8443/other/theme"));
        check("./sub.git", Ok("https://git.lan:8443/acme/shop.git/sub.git"));
        check("../../../x/y.git", Err("leads out of git.lan"));
        check("https://x:tok@else.where/a/b.git", Ok("https://else.where/a/b.git"));
        check("git@git.lan:acme/x.git", Ok("https://git.lan:8443/acme/x.git"));
        check("ssh://git@git.lan:22/acme/x.git", Ok("https://git.lan:8443/acme/x.git"));
        for bad in [
            "git@github.com:acme/x.git",
            "ssh://git@else.where/x",
            "git://git.lan/acme/x.git",
            "file:///etc",
            "/srv/git/x.git",
            "ext::sh -c x",
            "--upload-pack=x",
            "",
        ] {
            check(bad, Err("is not fetched"));
        }
        check("git@git.lan:../x.git", Err("names no repository"));
    }

    #[test]
    fn the_file() {
        let text = "[submodule \"themes/x\"]\n\tpath = themes/x/ ; here\n\turl = \"../x.git\"\n\tupdate = !touch owned\n\
                    [include]\n path = /etc/passwd\n[submodule \"no-url\"]\n path = a\n[core]\n\turl = b\n";
        let expected = Entry { name: "themes/x".into(), path: "themes/x".into(), url: "../x.git".into() };
        assert_eq!(parse(text), [expected]);
    }
}

//! Which names a tree may hold. git's own rules for hostile trees (`verify_path`,
//! `is_ntfs_dotgit`, `is_hfs_dotgit`), applied whatever the file system here is: the files may be
//! carried on to one where `.GIT` is `.git`.

/// The longest name that Linux file systems take, in bytes (`NAME_MAX`).
const MAX_NAME: usize = 255;

/// The rule that `name` breaks, as the end of the sentence "`name` …".
pub(super) fn broken_rule(name: &[u8]) -> Option<&'static str> {
    if name.is_empty() || name == b"." || name == b".." {
        return Some("is no name for a file");
    }
    if name.contains(&b'/') {
        return Some("holds a slash");
    }
    if name.len() > MAX_NAME {
        return Some("is longer than 255 bytes");
    }
    if name.iter().any(u8::is_ascii_control) {
        return Some("holds a control character");
    }
    // On Windows a backslash begins a folder and a colon a stream of the file before it.
    let as_windows = name.split(|&b| b == b'\\' || b == b':');
    if as_windows.clone().any(is_dot_git) {
        return Some("is a form of \".git\"");
    }
    if name.contains(&b'\\') && as_windows.clone().any(|part| part == b"..") {
        return Some("would leave its folder on some systems");
    }
    None
}

/// True for every spelling that some file system takes for `.git`.
fn is_dot_git(part: &[u8]) -> bool {
    let visible = without_ignorable(part);
    // NTFS cuts dots and spaces at the end, and knows `.git` by its short name too.
    let end = visible.iter().rposition(|b| !matches!(b, b'.' | b' ')).map_or(0, |last| last + 1);
    let name = &visible[..end];
    name.eq_ignore_ascii_case(b".git") || name.eq_ignore_ascii_case(b"git~1")
}

/// The name without the code points that HFS+ ignores in a name (git's `next_hfs_char`).
fn without_ignorable(name: &[u8]) -> Vec<u8> {
    let ignorable =
        |c: char| matches!(c, '\u{200c}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{206a}'..='\u{206f}' | '\u{feff}');
    match std::str::from_utf8(name) {
        Ok(text) if !text.is_ascii() => text.chars().filter(|&c| !ignorable(c)).collect::<String>().into_bytes(),
        _ => name.to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::broken_rule;

    #[test]
    fn names_that_are_refused() {
        for bad in [
            "",
            ".",
            "..",
            "a/b",
            "../x",
            "/tmp/x",
            ".git",
            ".GIT",
            ".Git ",
            ".git.",
            ".git . .",
            "git~1",
            "GIT~1",
            ".git::$INDEX_ALLOCATION",
            ".git:x",
            ".git\\hooks",
            "a\\.git",
            "..\\x",
            "a\\..\\b",
            ".g\u{200c}it",
            "\u{feff}.git",
            "a\nb",
            "a\u{1b}b",
            "a\u{7f}",
        ] {
            assert!(broken_rule(bad.as_bytes()).is_some(), "{bad:?}");
        }
        assert!(broken_rule(&[b'a'; 256]).is_some());
    }

    #[test]
    fn names_that_are_kept() {
        for good in [
            ".gitignore",
            ".gitmodules",
            "git",
            "git~2",
            "..a",
            "a..",
            "a b",
            "ü.js",
            "-rf",
            "$(id)",
            "a\\b",
            "a:b",
            ".git2",
            "x.git",
        ] {
            assert_eq!(broken_rule(good.as_bytes()), None, "{good:?}");
        }
        assert_eq!(broken_rule(&[0xff, b'x']), None, "not UTF-8, and still a name");
    }
}

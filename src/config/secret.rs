//! A value that will not print, and where the operator may keep it.

use std::path::Path;

use super::document::{Entry, Node, Value};
use super::problem::{Kind, Place, Problem};
use super::schema::Shape;
use super::section::{Located, Section};
use super::surroundings::Surroundings;
use crate::domain::mask;

/// Below this, a secret can be guessed in the time that somebody has.
const SHORT: usize = 16;

/// A secret's bytes. Its `Debug` shows nothing; there is no `Display`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// Wraps the bytes.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(bytes.into())
    }

    /// The bytes, for the one place that needs them.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

/// The password of an address, as its user typed it.
pub(super) fn password(url: &url::Url) -> Option<String> {
    Some(percent_encoding::percent_decode_str(url.password()?).decode_utf8_lossy().into_owned())
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// The forms of one setting; exactly one may be used.
pub(super) struct Forms {
    plain: &'static str,
    file: &'static str,
    env: &'static str,
    /// The name of a systemd credential (systemd.exec(5), `LoadCredential=`), where the setting has this form.
    credential: Option<&'static str>,
}

impl Forms {
    const fn of(plain: &'static str, file: &'static str, env: &'static str) -> Self {
        Forms { plain, file, env, credential: None }
    }

    fn all(&self) -> impl Iterator<Item = &'static str> {
        [self.plain, self.file, self.env].into_iter().chain(self.credential)
    }

    /// Whether any form stands in the table.
    pub(super) fn given_in(&self, section: &Section<'_>) -> bool {
        self.all().any(|form| section.has(form))
    }
}

/// The bearer token of whoever may change things here.
pub(super) const ADMIN_TOKEN: Forms = Forms::of("admin_token", "admin_token_file", "admin_token_env");
/// A forge's token.
pub(super) const TOKEN: Forms = Forms::of("token", "token_file", "token_env");
/// A forge's token that only reads.
pub(super) const READ_TOKEN: Forms = Forms::of("read_token", "read_token_file", "read_token_env");
/// What a forge signs its deliveries with.
pub(super) const HOOK_SECRET: Forms = Forms::of("hook_secret", "hook_secret_file", "hook_secret_env");
/// The store's address, which may hold a password.
pub(super) const STORE_URL: Forms = Forms::of("url", "url_file", "url_env");

/// A text that may hold a secret, and where it was asked for; how long it is says nothing about it.
pub(super) fn located(section: &mut Section<'_>, forms: &Forms, around: &Surroundings) -> Option<Located<Secret>> {
    let (form, entry) = given(section, forms, &Shape::Text)?;
    let key = section.key(form);
    let bytes = find(section, forms, form, &entry.node, around)?;
    if std::str::from_utf8(&bytes).is_err() || bytes.is_empty() {
        section.wrong(&entry.node.place, format!("`{key}` is empty or not a text"), "write one address");
        return None;
    }
    Some(Located { place: entry.node.place, value: Secret(bytes) })
}

/// What opens the bucket that several machines share.
pub(super) const BLOBS_KEY: Forms = Forms::of("blobs_key", "blobs_key_file", "blobs_key_env");

/// What a build's steps are given as a variable.
pub(super) const VALUE: Forms =
    Forms { credential: Some("credential"), ..Forms::of("value", "value_file", "value_env") };

/// One secret that goes into a variable.
pub(super) fn value(section: &mut Section<'_>, around: &Surroundings) -> Option<Secret> {
    let (form, entry) = given(section, &VALUE, &Shape::Text)?;
    let secret = read(section, &VALUE, form, &entry.node, around)?;
    let (key, place) = (section.key(form), &entry.node.place);
    let bytes = secret.expose();
    if std::str::from_utf8(bytes).is_err() || bytes.contains(&0) {
        let message = format!("`{key}` is no text, and a variable holds nothing else");
        section.wrong(place, message, "keep it in base64, and decode it where it is used");
        return None;
    }
    if bytes.len() < mask::SHORTEST {
        let message = format!("`{key}` is not hidden in logs: it has under {} bytes", mask::SHORTEST);
        let fix = "take a longer one; one so short would be found in words that mean something else";
        section.findings.push(Problem::at(Kind::Warning, place, message).fix(fix));
    }
    Some(secret)
}

/// One secret that goes into a header.
pub(super) fn token(section: &mut Section<'_>, forms: &Forms, around: &Surroundings) -> Option<Secret> {
    let (form, entry) = given(section, forms, &Shape::Text)?;
    if let Value::List(_) = entry.node.value {
        section.wrong(&entry.node.place, format!("`{}` is one value, not a list", section.key(form)), "keep one");
        return None;
    }
    let secret = read(section, forms, form, &entry.node, around)?;
    if !secret.expose().iter().all(u8::is_ascii_graphic) {
        let message =
            format!("`{}` holds a space, a line break or another character that no token has", section.key(form));
        section.wrong(&entry.node.place, message, "keep only the token, on one line");
        return None;
    }
    Some(secret)
}

/// One secret or several, any of which is accepted. `None` when nothing is configured.
pub(super) fn hook_secrets(section: &mut Section<'_>, around: &Surroundings) -> Option<Vec<Secret>> {
    let (form, entry) = given(section, &HOOK_SECRET, &Shape::TextOrTexts)?;
    let Value::List(items) = entry.node.value else {
        return read(section, &HOOK_SECRET, form, &entry.node, around).map(|secret| vec![secret]);
    };
    if items.is_empty() {
        let message = format!("`{}` is an empty list", section.key(form));
        section.wrong(&entry.node.place, message, "name at least one secret, or take the key out");
    }
    Some(items.iter().filter_map(|item| read(section, &HOOK_SECRET, form, item, around)).collect())
}

/// The form that is used. More than one is a fault, since nobody could say which of them counts.
fn given(section: &mut Section<'_>, forms: &Forms, shape: &Shape) -> Option<(&'static str, Entry)> {
    let mut used = forms.all().filter_map(|form| section.take_as(form, shape.clone()).map(|entry| (form, entry)));
    let first = used.next();
    let rest: Vec<_> = used.collect();
    if let Some((name, _)) = &first {
        for (second, entry) in rest {
            let message = format!("`{}` and `{second}` are both given", section.key(name));
            section.wrong(&entry.key, message, "keep exactly one of them");
        }
    }
    first
}

fn read(section: &mut Section<'_>, forms: &Forms, form: &str, node: &Node, around: &Surroundings) -> Option<Secret> {
    let bytes = find(section, forms, form, node, around)?;
    let key = section.key(form);
    judge(section, &key, &node.place, bytes)
}

fn find(section: &mut Section<'_>, forms: &Forms, form: &str, node: &Node, around: &Surroundings) -> Option<Vec<u8>> {
    let key = section.key(form);
    let (Value::Text(text) | Value::Word(text)) = &node.value else {
        section.wrong(&node.place, format!("`{key}` must be a string"), "put it into quotes");
        return None;
    };
    let found = if form == forms.file {
        from_file(&node.place.source.base.join(text))
    } else if form == forms.env {
        let variable = around.env.get(text).map(|value| value.clone().into_bytes());
        variable.ok_or_else(|| (format!("the variable {text} is not set"), "set it, or use the _file form".to_owned()))
    } else if Some(form) == forms.credential {
        from_credential(text, around)
    } else {
        Ok(text.clone().into_bytes())
    };
    match found {
        Err((fault, fix)) => {
            section.wrong(&node.place, format!("`{key}`: {fault}"), fix);
            None
        }
        Ok(bytes) => Some(bytes),
    }
}

/// systemd names the folder in a variable of the service and of nothing else.
fn from_credential(name: &str, around: &Surroundings) -> Result<Vec<u8>, (String, String)> {
    if name.is_empty() || name.contains('/') || name.starts_with('.') {
        let fault = format!("{name:?} is not the name of a credential");
        return Err((fault, "write the name that stands before the colon in LoadCredential=".to_owned()));
    }
    match around.variable("CREDENTIALS_DIRECTORY") {
        Some(folder) => from_file(&Path::new(folder).join(name)).map_err(|(fault, _)| {
            let fix = format!("write LoadCredential={name}:/path into the unit, or SetCredentialEncrypted=");
            (fault, fix)
        }),
        None => {
            let fault = format!("there is no credential {name}: systemd has given this process none");
            Err((fault, format!("write LoadCredential={name}:/path into the unit, or use the _file form")))
        }
    }
}

fn from_file(path: &Path) -> Result<Vec<u8>, (String, String)> {
    let path: std::path::PathBuf = path.components().collect();
    let mut bytes = std::fs::read(&path).map_err(|error| {
        (
            format!("{} can't be read: {error}", path.display()),
            "create it, readable for this user only (chmod 600)".to_owned(),
        )
    })?;
    if bytes.ends_with(b"\n") {
        bytes.pop();
        if bytes.ends_with(b"\r") {
            bytes.pop();
        }
    }
    if bytes.is_empty() {
        let fix = format!("fill it: openssl rand -hex 32 > {}", path.display());
        return Err((format!("{} is empty", path.display()), fix));
    }
    Ok(bytes)
}

fn judge(section: &mut Section<'_>, key: &str, place: &Place, bytes: Vec<u8>) -> Option<Secret> {
    if bytes.is_empty() {
        section.wrong(place, format!("`{key}` is empty"), "take at least 32 random digits: openssl rand -hex 32");
        return None;
    }
    if bytes.len() < SHORT {
        let message = format!("`{key}` has only {} bytes; under {SHORT} it can be guessed", bytes.len());
        let fix = "take a longer one: openssl rand -hex 32";
        section.findings.push(Problem::at(Kind::Warning, place, message).fix(fix));
    }
    Some(Secret(bytes))
}

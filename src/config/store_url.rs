//! `[store] url`: a SQLite file, or a PostgreSQL database whose password never shows.

use std::path::{Path, PathBuf};

use url::Url;

use super::secret::{self, Secret};
use super::section::Section;
use super::surroundings::Surroundings;

/// Where the store is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreUrl {
    /// `sqlite://…`, with the path made absolute.
    Sqlite(PathBuf),
    /// `postgres://…`.
    Postgres(PostgresUrl),
}

impl StoreUrl {
    /// The file, where the store is one.
    pub fn sqlite(&self) -> Option<&Path> {
        match self {
            StoreUrl::Sqlite(path) => Some(path),
            StoreUrl::Postgres(_) => None,
        }
    }
}

/// Without any password.
impl StoreUrl {
    /// What of it is nobody else's to know: the address with its password, and the password alone.
    pub fn secrets(&self) -> Vec<Secret> {
        let StoreUrl::Postgres(url) = self else { return Vec::new() };
        let Ok(parsed) = Url::parse(url.expose()) else { return Vec::new() };
        let by_word = parsed.query_pairs().filter(|(key, _)| key == "password").map(|(_, word)| word.into_owned());
        let passwords: Vec<String> = secret::password(&parsed).into_iter().chain(by_word).collect();
        let whole = (!passwords.is_empty()).then(|| url.whole.clone());
        whole.into_iter().chain(passwords.into_iter().map(Secret::new)).collect()
    }
}

impl std::fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            StoreUrl::Sqlite(path) => write!(f, "sqlite://{}", path.display()),
            StoreUrl::Postgres(url) => url.fmt(f),
        }
    }
}

impl<P: AsRef<Path> + ?Sized> From<&P> for StoreUrl {
    fn from(path: &P) -> Self {
        StoreUrl::Sqlite(path.as_ref().to_owned())
    }
}

/// The address of a PostgreSQL database. It shows without its password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostgresUrl {
    whole: Secret,
    shown: String,
}

impl PostgresUrl {
    /// The whole address, for the one place that connects.
    pub fn expose(&self) -> &str {
        std::str::from_utf8(self.whole.expose()).expect("made from a text")
    }

    /// The files with certificates and keys that it names.
    pub fn files(&self) -> Vec<PathBuf> {
        let url = Url::parse(self.expose()).expect("it was read before");
        let files = url.query_pairs().filter(|(key, _)| ["sslrootcert", "sslcert", "sslkey"].contains(&&**key));
        files.map(|(_, file)| PathBuf::from(&*file)).collect()
    }
}

impl std::fmt::Display for PostgresUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.shown)
    }
}

/// The words after `?` that are heeded (`options[…]` beside them). A misspelt one would connect otherwise than was meant.
const PARAMETERS: [&str; 12] = [
    "sslmode",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "application_name",
    "options",
];

const SSL_MODES: [&str; 6] = ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"];

impl std::str::FromStr for PostgresUrl {
    type Err = String;

    /// Reads an address; the error is what is wrong with it, without quoting what may be a password.
    fn from_str(text: &str) -> Result<Self, String> {
        const FORM: &str =
            "write \"postgres://user@host/database\", or \"postgres://user@localhost/database?host=/run/postgresql\"";
        let url = Url::parse(text).map_err(|error| format!("{error}; {FORM}"))?;
        if !matches!(url.scheme(), "postgres" | "postgresql") {
            return Err(format!("it does not begin with postgres://; {FORM}"));
        }
        let mut names_database = url.path().len() > 1;
        for (key, value) in url.query_pairs() {
            names_database |= key == "dbname";
            if key == "sslmode" && !SSL_MODES.contains(&&*value) {
                return Err(format!("its sslmode is none of {}", SSL_MODES.join(", ")));
            }
            if !PARAMETERS.contains(&&*key) && !key.starts_with("options[") {
                return Err(format!("the word {key:?} after ? is none of {}", PARAMETERS.join(", ")));
            }
        }
        if !names_database {
            return Err(format!("it names no database; {FORM}"));
        }
        Ok(Self { whole: Secret::new(text), shown: without_password(url) })
    }
}

fn without_password(mut url: Url) -> String {
    // An address without a host has no password either, and says so with an error.
    let _ = url.set_password(None);
    let is_secret = |key: &str| key == "password";
    if url.query_pairs().any(|(key, _)| is_secret(&key)) {
        let kept: Vec<(String, String)> =
            url.query_pairs().filter(|(key, _)| !is_secret(key)).map(|(k, v)| (k.into(), v.into())).collect();
        url.query_pairs_mut().clear().extend_pairs(kept);
    }
    url.to_string().trim_end_matches('?').to_owned()
}

/// `[store]`.
pub(super) fn read(mut section: Section<'_>, around: &Surroundings) -> StoreUrl {
    let url = secret::located(&mut section, &secret::STORE_URL, around).and_then(|given| {
        let (place, text) = (given.place, String::from_utf8_lossy(given.value.expose()).into_owned());
        let scheme = text.split(':').next().unwrap_or_default();
        if matches!(scheme, "postgres" | "postgresql") {
            return match text.parse() {
                Ok(url) => Some(StoreUrl::Postgres(url)),
                Err(why) => {
                    section.wrong(&place, "`store.url` is not the address of a PostgreSQL database", why);
                    None
                }
            };
        }
        let path = text.strip_prefix("sqlite://").filter(|path| !path.is_empty() && !path.contains(['?', '#']));
        if path.is_none() {
            let message = "`store.url` is not the address of a SQLite file or a PostgreSQL database";
            let fix = "write \"sqlite://./data/hookmill.db\", \"sqlite:///absolute/path\" or \"postgres://user@host/database\"";
            section.wrong(&place, message, fix);
        }
        Some(StoreUrl::Sqlite(place.source.base.join(path?).components().collect()))
    });
    section.finish();
    // Where there is none, its fault was reported.
    url.unwrap_or(StoreUrl::Sqlite(PathBuf::new()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_never_shows() {
        for (given, shown) in [
            ("postgres://ci:hunter2@db.acme.dev/ci", "postgres://ci@db.acme.dev/ci"),
            (
                "postgresql://ci:hunter2@db:5433/ci?sslmode=verify-full",
                "postgresql://ci@db:5433/ci?sslmode=verify-full",
            ),
            ("postgres://ci@db/ci?password=hunter2", "postgres://ci@db/ci"),
            ("postgres:///ci?password=hunter2&host=/run/pg", "postgres:///ci?host=%2Frun%2Fpg"),
        ] {
            let url: PostgresUrl = given.parse().expect(shown);
            assert_eq!(url.to_string(), shown);
            assert!(!format!("{url:?}").contains("hunter2"), "{url:?}");
            assert_eq!(url.expose(), given);
            let secrets = StoreUrl::Postgres(url).secrets();
            assert_eq!(secrets, [Secret::new(given), Secret::new("hunter2")]);
        }
    }

    #[test]
    fn what_is_no_address_is_told_without_quoting_it() {
        for (given, told) in [
            ("postgres://ci:hunter2@db", "names no database"),
            ("postgres://ci:hunter2@db/ci?ssl=on", "\"ssl\""),
            ("postgres://ci:hunter2@db/ci?sslmode=yes", "verify-full"),
            ("mysql://ci:hunter2@db/ci", "postgres://"),
            ("postgres://ci:hunter2@db:port/ci", "port"),
        ] {
            let why = given.parse::<PostgresUrl>().expect_err(given);
            assert!(why.contains(told) && !why.contains("hunter2"), "{why}");
        }
    }
}

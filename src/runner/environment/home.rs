//! The files of the private HOME: what the package managers and git read as their user's own settings.
//!
//! As files of the user, and not as variables, they give way to a repository's own. The steps of a build share
//! one HOME, so the tokens are written only for a stage that installs, and are gone before anything else starts.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use url::Url;

use crate::config::secret::Secret;
use crate::config::server::{Access, Network, Registry};
use crate::confine::DOOR;
use crate::runner::downloads::DOWNLOADS;
use crate::tree::{Dir, NewFile, TreeError};

/// How git of an install step reads the forge's private repositories.
#[derive(Debug, Clone)]
pub struct GitAccess {
    /// The forge's pages and repositories; the token goes to its scheme, host and port only.
    pub web_url: Url,
    /// The token.
    pub token: Secret,
}

/// What the files are made of.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Where the agent's own npm goes.
    pub registry: Option<String>,
    /// The registries of `[[registry]]` for this repository.
    pub registries: Vec<Registry>,
    /// For private git dependencies; none for a fork.
    pub git: Option<GitAccess>,
    /// The proxy, and the hosts that are reached without it, for Berry: the others take them from variables.
    pub network: Network,
    /// The certificate authorities that npm and git trust instead of their own, as a step sees the file.
    pub trusted: Option<PathBuf>,
    /// A PEM bundle to be written as [`AUTHORITIES`].
    pub authorities: Option<String>,
    /// HOME as a step sees it.
    pub home: PathBuf,
    /// Whether installs reach out only through a gate, of which Berry hears by variables.
    pub gated: bool,
    /// Whether yarn 1 keeps what it downloads; see [`Lockfiles::can_be_mirrored`].
    ///
    /// [`Lockfiles::can_be_mirrored`]: crate::runner::downloads::Lockfiles::can_be_mirrored
    pub yarn_mirror: bool,
}

/// The file of HOME that holds the system's authorities with `network.ca_file` added.
pub const AUTHORITIES: &str = ".certificates.pem";

/// The file of HOME that node loads first where something in it knows no proxy.
pub const GATE: &str = ".gate.cjs";

/// Where git's `store` helper looks tokens up by address (git-credential-store(1)).
const CREDENTIALS: &str = ".git-credentials";

/// Every file that this module may write.
const FILES: [&str; 7] = [".npmrc", ".yarnrc", ".yarnrc.yml", ".gitconfig", CREDENTIALS, AUTHORITIES, GATE];

impl Settings {
    /// Whether the files of a stage that installs are not those of others.
    pub fn differ(&self) -> bool {
        self.gated || self.holds_tokens()
    }

    /// Whether a stage that installs is given tokens.
    pub fn holds_tokens(&self) -> bool {
        self.git.is_some() || self.registries.iter().any(|registry| matches!(registry.access, Access::Token(_)))
    }

    /// Writes the files into `home` (as the agent sees it), for a stage that installs or for another. What a step left in
    /// the place of one of them, a link too, is replaced and never followed.
    ///
    /// # Errors
    /// When a file can't be written.
    pub fn write(&self, home: &Path, installs: bool) -> Result<(), TreeError> {
        let files = self.files(installs);
        let dir = Dir::open(home)?;
        for name in FILES {
            match files.iter().find(|(file, _)| *file == name) {
                Some((_, text)) => {
                    dir.replace(Path::new(name), text.as_bytes(), NewFile { executable: false, modified: None })?;
                }
                None => dir.remove(Path::new(name))?,
            }
        }
        Ok(())
    }

    /// The files, by name: with the tokens for a stage that installs.
    pub fn files(&self, installs: bool) -> Vec<(&'static str, String)> {
        let mut files = vec![
            (".npmrc", self.npmrc(installs)),
            (".yarnrc", self.classic_yarnrc()),
            (".yarnrc.yml", self.yarnrc(installs)),
            (".gitconfig", self.gitconfig(installs)),
        ];
        if let Some(git) = self.git.as_ref().filter(|_| installs) {
            files.push((CREDENTIALS, credentials(git)));
        }
        if let Some(authorities) = &self.authorities {
            files.push((AUTHORITIES, authorities.clone()));
        }
        if self.gated {
            files.push((GATE, include_str!("gate.cjs").to_owned()));
        }
        files.retain(|(_, text)| !text.is_empty());
        files
    }

    /// For npm, yarn 1, pnpm and bun. npm: "npmrc", Auth related configuration: a token belongs to `//host/path/`.
    fn npmrc(&self, tokens: bool) -> String {
        let mut text = String::new();
        let default = self.default_registry().map(|registry| format!("{}/", address(registry)));
        if let Some(default) = default.or_else(|| self.registry.clone()) {
            let _ = writeln!(text, "registry={default}");
        }
        if let Some(file) = &self.trusted {
            // A `cafile` of the machine's own settings would make npm, yarn 1 and pnpm forget NODE_EXTRA_CA_CERTS.
            let _ = writeln!(text, "cafile={}", file.display());
        }
        for registry in &self.registries {
            let address = address(registry);
            for scope in &registry.scopes {
                let _ = writeln!(text, "{scope}:registry={address}/");
            }
            if let Some(token) = token(registry).filter(|_| tokens) {
                let _ = writeln!(text, "{}/:_authToken={token}", without_scheme(&address));
            }
        }
        text
    }

    /// For yarn 1 only: as variables, these would replace a repository's own mirror, and Berry would take the one for the
    /// other. yarn unpacks into its cache, which is not kept; tarballs in the mirror it compares with `yarn.lock`.
    fn classic_yarnrc(&self) -> String {
        let downloads = self.home.join(DOWNLOADS);
        let mut text = format!("cache-folder {:?}\n", downloads.join("yarn-cache"));
        if self.yarn_mirror {
            let _ = writeln!(text, "yarn-offline-mirror {:?}", downloads.join("yarn-mirror"));
        }
        text
    }

    /// For Berry, which reads no `.npmrc`. Its tokens stand with the registries' addresses: there they also serve a
    /// repository whose own `.yarnrc.yml` names the scope.
    fn yarnrc(&self, installs: bool) -> String {
        let mut text = String::new();
        let default = self.default_registry().map(address);
        let agents = || self.registry.as_deref().map(|registry| registry.trim_end_matches('/').to_owned());
        if let Some(default) = default.or_else(agents) {
            let _ = writeln!(text, "npmRegistryServer: \"{default}\"");
        }
        let plain: BTreeSet<&str> = self
            .registries
            .iter()
            .filter(|one| one.url.scheme() == "http")
            .filter_map(|one| one.url.host_str())
            .collect();
        if !plain.is_empty() {
            // Berry refuses http unless somebody says that it is meant; the operator did by writing the address.
            text.push_str("unsafeHttpWhitelist:\n");
            plain.iter().for_each(|host| text.push_str(&format!("  - \"{host}\"\n")));
        }
        if !(installs && self.gated) {
            self.proxy(&mut text);
        }
        if self.registries.iter().any(|registry| !registry.scopes.is_empty()) {
            text.push_str("npmScopes:\n");
        }
        for registry in &self.registries {
            for scope in &registry.scopes {
                let name = scope.trim_start_matches('@');
                let _ = writeln!(text, "  \"{name}\":\n    npmRegistryServer: \"{}\"", address(registry));
            }
        }
        let opened: Vec<_> =
            self.registries.iter().filter_map(|one| Some((one, token(one)?))).filter(|_| installs).collect();
        if !opened.is_empty() {
            text.push_str("npmRegistries:\n");
        }
        for (registry, token) in opened {
            let address = address(registry);
            let _ = writeln!(text, "  \"{address}\":\n    npmAuthToken: \"{token}\"\n    npmAlwaysAuth: true");
        }
        text
    }

    /// Berry reads neither `HTTPS_PROXY` nor `NO_PROXY`; hosts are patterns there (yarnpkg.com, `networkSettings`).
    fn proxy(&self, text: &mut String) {
        let Some(proxy) = self.network.proxy.as_deref().filter(|proxy| !proxy.is_empty()) else { return };
        let _ = writeln!(text, "httpProxy: {proxy:?}\nhttpsProxy: {proxy:?}\nnetworkSettings:");
        let listed = self.network.no_proxy.iter().map(|host| host.trim_start_matches('*').trim_start_matches('.'));
        let direct: BTreeSet<&str> = ["localhost", "127.0.0.1"].into_iter().chain(listed).collect();
        for host in direct.into_iter().filter(|host| !host.is_empty()) {
            for pattern in [host.to_owned(), format!("*.{host}")] {
                let _ = writeln!(text, "  {pattern:?}:\n    httpProxy: \"\"\n    httpsProxy: \"\"");
            }
        }
    }

    fn gitconfig(&self, installs: bool) -> String {
        let mut text = String::new();
        if let Some(file) = &self.trusted {
            let _ = writeln!(text, "[http]\n\tsslCAInfo = \"{}\"", file.display());
        }
        if self.gated && installs {
            // A gate speaks http. Nobody but an attacker misses git's own: it proves nothing of who answers.
            text.push_str("[url \"https://\"]\n\tinsteadOf = git://\n");
            // bower takes away the variable that git would read.
            let _ = writeln!(text, "[http]\n\tproxy = http://{DOOR}");
        }
        if let Some(git) = self.git.as_ref().filter(|_| installs) {
            let origin = git.web_url.origin().ascii_serialization();
            // The helper is asked for this origin only, also after a redirect; an `http.extraHeader` would go along.
            let store = self.home.join(CREDENTIALS);
            let _ =
                writeln!(text, "[credential \"{origin}\"]\n\thelper =\n\thelper = store --file={}", store.display());
            // There is no ssh key: what is asked for by ssh comes by https.
            let host = git.web_url.host_str().unwrap_or_default();
            let base = git.web_url.as_str().trim_end_matches('/');
            let _ = writeln!(text, "[url \"{base}/\"]\n\tinsteadOf = ssh://git@{host}/\n\tinsteadOf = git@{host}:");
        }
        text
    }

    fn default_registry(&self) -> Option<&Registry> {
        self.registries.iter().find(|registry| registry.scopes.is_empty())
    }
}

/// Without a slash at its end.
fn address(registry: &Registry) -> String {
    registry.url.as_str().trim_end_matches('/').to_owned()
}

fn without_scheme(address: &str) -> &str {
    address.find("//").map_or(address, |at| &address[at..])
}

/// The configuration lets no token pass that is not plain ASCII.
fn token(registry: &Registry) -> Option<&str> {
    match &registry.access {
        Access::Token(token) => std::str::from_utf8(token.expose()).ok(),
        Access::Open | Access::Withheld => None,
    }
}

/// One line of git-credential-store(1); `x-access-token` is GitHub's name for it, Gitea and Forgejo take any.
fn credentials(git: &GitAccess) -> String {
    let mut url = git.web_url.clone();
    url.set_path("");
    let token = String::from_utf8_lossy(git.token.expose());
    // Both fail only for addresses without a host, and a forge's is http.
    let _ = url.set_username("x-access-token").and_then(|()| url.set_password(Some(&token)));
    format!("{}\n", url.as_str().trim_end_matches('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registry(url: &str, scopes: &[&str], access: Access) -> Registry {
        let scopes = scopes.iter().map(|scope| (*scope).to_owned()).collect();
        Registry { url: url.parse().expect("an address"), scopes, repos: vec!["**".into()], access }
    }

    fn file(settings: &Settings, tokens: bool, name: &str) -> String {
        settings.files(tokens).into_iter().find(|(file, _)| *file == name).map(|(_, text)| text).unwrap_or_default()
    }

    fn settings() -> Settings {
        let token = || Access::Token(Secret::new("npm_0123456789"));
        Settings {
            registry: Some("https://registry.example/npm/".into()),
            registries: vec![registry("https://npm.acme.dev:8443/js", &["@acme", "@lib"], token())],
            git: Some(GitAccess {
                web_url: "https://git.acme.dev/gitea".parse().expect("an address"),
                token: Secret::new("t/0"),
            }),
            home: "/home/build".into(),
            ..Settings::default()
        }
    }

    #[test]
    fn what_the_agents_user_has_configured() {
        let home = PathBuf::from("/home/build");
        let cache = (".yarnrc", "cache-folder \"/home/build/.downloads/yarn-cache\"\n".to_owned());
        assert_eq!(Settings { home: home.clone(), ..Settings::default() }.files(true), std::slice::from_ref(&cache));
        let settings = Settings {
            registry: Some("https://registry.example/npm/".into()),
            trusted: Some("/etc/ca.pem".into()),
            home,
            ..Settings::default()
        };
        assert_eq!(
            settings.files(true),
            [
                (".npmrc", "registry=https://registry.example/npm/\ncafile=/etc/ca.pem\n".to_owned()),
                cache,
                (".yarnrc.yml", "npmRegistryServer: \"https://registry.example/npm\"\n".to_owned()),
                (".gitconfig", "[http]\n\tsslCAInfo = \"/etc/ca.pem\"\n".to_owned()),
            ]
        );
    }

    #[test]
    fn a_token_stands_with_its_registry_and_only_for_installs() {
        let settings = settings();
        assert_eq!(
            file(&settings, true, ".npmrc"),
            "registry=https://registry.example/npm/\n@acme:registry=https://npm.acme.dev:8443/js/\n\
             @lib:registry=https://npm.acme.dev:8443/js/\n//npm.acme.dev:8443/js/:_authToken=npm_0123456789\n"
        );
        assert!(file(&settings, true, ".yarnrc.yml").ends_with(
            "npmScopes:\n  \"acme\":\n    npmRegistryServer: \"https://npm.acme.dev:8443/js\"\n  \"lib\":\n    \
             npmRegistryServer: \"https://npm.acme.dev:8443/js\"\nnpmRegistries:\n  \
             \"https://npm.acme.dev:8443/js\":\n    npmAuthToken: \"npm_0123456789\"\n    npmAlwaysAuth: true\n"
        ));
        assert_eq!(file(&settings, true, CREDENTIALS), "https://x-access-token:t%2F0@git.acme.dev\n");
        assert!(settings.holds_tokens());
        for (name, text) in settings.files(false) {
            assert!(!text.contains("npm_0123456789") && !text.contains("t%2F0"), "{name}: {text}");
        }
        assert!(file(&settings, false, ".npmrc").contains("@acme:registry="), "where packages come from stays known");
        assert_eq!(file(&settings, false, ".gitconfig"), "");
    }

    #[test]
    fn a_fork_learns_where_packages_are_and_no_token() {
        let registries = settings().registries.iter().map(Registry::without_token).collect();
        let fork = Settings { registries, git: None, ..settings() };
        assert!(!fork.holds_tokens());
        assert_eq!(fork.files(true), fork.files(false));
    }

    #[test]
    fn without_scopes_it_is_the_default_registry() {
        let open = registry("http://127.0.0.1:4873", &[], Access::Open);
        let settings = Settings { registries: vec![open], ..settings() };
        assert_eq!(file(&settings, true, ".npmrc"), "registry=http://127.0.0.1:4873/\n");
        let yarnrc = "npmRegistryServer: \"http://127.0.0.1:4873\"\nunsafeHttpWhitelist:\n  - \"127.0.0.1\"\n";
        assert_eq!(file(&settings, true, ".yarnrc.yml"), yarnrc);
    }

    #[test]
    fn berry_is_told_of_the_proxy() {
        let network = Network {
            proxy: Some("http://proxy:3128".into()),
            no_proxy: vec![".lan".into(), "127.0.0.1".into()],
            ca_file: None,
        };
        let text = file(&Settings { network, ..Settings::default() }, false, ".yarnrc.yml");
        assert!(text.starts_with("httpProxy: \"http://proxy:3128\"\nhttpsProxy: \"http://proxy:3128\"\n"), "{text}");
        assert!(text.contains("  \"*.lan\":\n    httpProxy: \"\"\n"), "{text}");
        assert_eq!(text.matches("  \"127.0.0.1\":").count(), 1, "{text}");
    }

    #[test]
    fn git_asks_by_https_and_for_one_origin() {
        assert_eq!(
            file(&settings(), true, ".gitconfig"),
            "[credential \"https://git.acme.dev\"]\n\thelper =\n\thelper = store --file=/home/build/.git-credentials\n\
             [url \"https://git.acme.dev/gitea/\"]\n\tinsteadOf = ssh://git@git.acme.dev/\n\tinsteadOf = git@git.acme.dev:\n"
        );
    }

    #[test]
    fn tokens_go_and_links_are_not_followed() {
        let dir = tempfile::tempdir().expect("a folder");
        let (home, precious) = (dir.path().join("home"), dir.path().join("precious"));
        std::fs::create_dir(&home).expect("a folder");
        std::fs::write(&precious, "mine").expect("a file");
        let settings = settings();
        settings.write(&home, true).expect("written");
        assert!(home.join(CREDENTIALS).exists());
        std::fs::remove_file(home.join(".npmrc")).expect("removed");
        std::os::unix::fs::symlink(&precious, home.join(".npmrc")).expect("a link");
        settings.write(&home, false).expect("written");
        assert!(!home.join(CREDENTIALS).exists());
        assert_eq!(std::fs::read_to_string(&precious).expect("a file"), "mine");
        assert!(!std::fs::read_to_string(home.join(".npmrc")).expect("a file").contains("_authToken"));
    }
}

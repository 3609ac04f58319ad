//! Hosts with their ports, as `network` of a repository file and `install_hosts` have them.

use super::server::InstallHost;

/// What is not a host with its port, and what to write instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BadHost {
    pub(super) message: String,
    pub(super) fix: String,
}

/// `host:port` or `*.host:port`, in lower case. Without a port, a list for a bundler's fonts would open ssh too. `every`
/// is what helps who wants to open everything.
pub(super) fn parse(text: &str, every: &str) -> Result<String, BadHost> {
    let bare = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")).unwrap_or(text);
    let bare = bare.split('/').next().unwrap_or_default();
    let usual = if text.starts_with("http://") { 80 } else { 443 };
    let (name, port) = match bare.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => (name, Some(port)),
        _ => (bare, None),
    };
    let suffix = name.strip_prefix("*.").unwrap_or(name);
    // Host::parse knows names, IPv4 and bracketed IPv6, and refuses what only looks like one.
    if suffix.contains(['*', '%']) || url::Host::parse(suffix).is_err() {
        let fix = match name {
            "*" | "" => every,
            _ => "write \"fonts.googleapis.com:443\", or \"*.googleapis.com:443\" for every host beneath",
        };
        return Err(BadHost { message: format!("{text:?} is not a host with its port"), fix: fix.to_owned() });
    }
    let good = port.and_then(|port| port.parse::<u16>().ok()).filter(|port| *port > 0);
    match good {
        Some(port) if bare == text => Ok(format!("{}:{port}", name.to_ascii_lowercase())),
        _ => {
            let why = match (bare == text, port) {
                (false, _) => "is an address, not a host with its port",
                (true, None) => "has no port",
                (true, Some(_)) => "has a port that is not one of 1 to 65535",
            };
            Err(BadHost {
                message: format!("{text:?} {why}"),
                fix: format!("write \"{name}:{}\"", good.unwrap_or(usual)),
            })
        }
    }
}

impl InstallHost {
    /// The tools that have a name here.
    const TOOLS: [InstallHost; 6] = [
        InstallHost::Packages("npm"),
        InstallHost::Packages("pnpm"),
        InstallHost::Packages("bun"),
        InstallHost::Yarn,
        InstallHost::Bower,
        InstallHost::Node,
    ];

    /// A tool's name, or a host with its port.
    pub(super) fn read(text: &str) -> Result<InstallHost, BadHost> {
        if let Some(tool) = InstallHost::TOOLS.into_iter().find(|tool| tool.as_str() == text) {
            return Ok(tool);
        }
        if !text.contains(['.', ':', '*']) {
            let tools = InstallHost::TOOLS.map(|tool| format!("{:?}", tool.as_str())).join(", ");
            return Err(BadHost {
                message: format!("{text:?} is neither a tool nor a host with its port"),
                fix: format!("write one of {tools}, or \"host:443\""),
            });
        }
        parse(text, "list the hosts that installs need").map(InstallHost::Host)
    }

    /// As [`Sandbox::install_hosts`](super::server::Sandbox::install_hosts) takes it.
    ///
    /// # Errors
    /// What is wrong with it, and what to write instead.
    pub fn parse(text: &str) -> Result<InstallHost, String> {
        InstallHost::read(text).map_err(|bad| format!("{}; {}", bad.message, bad.fix))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tools_and_hosts() {
        let check = |text: &str, expected: Result<InstallHost, &str>| {
            assert_eq!(InstallHost::parse(text), expected.map_err(str::to_owned), "{text}");
        };
        check("npm", Ok(InstallHost::Packages("npm")));
        check("bower", Ok(InstallHost::Bower));
        check("CDN.example:443", Ok(InstallHost::Host("cdn.example:443".to_owned())));
        check("*.cdn.example:8080", Ok(InstallHost::Host("*.cdn.example:8080".to_owned())));
        check("10.1.2.3:4873", Ok(InstallHost::Host("10.1.2.3:4873".to_owned())));
        check(
            "nmp",
            Err(
                "\"nmp\" is neither a tool nor a host with its port; write one of \"npm\", \"pnpm\", \"bun\", \"yarn\", \"bower\", \"node\", or \"host:443\"",
            ),
        );
        check("github.com", Err("\"github.com\" has no port; write \"github.com:443\""));
        check(
            "https://npm.lan/",
            Err("\"https://npm.lan/\" is an address, not a host with its port; write \"npm.lan:443\""),
        );
        check("*", Err("\"*\" is not a host with its port; list the hosts that installs need"));
    }
}

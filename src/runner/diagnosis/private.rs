//! A package that a fork's build may not have: its registry's token is for trusted and member builds.

use super::{Diagnosis, Finished, StepKind};

/// What the managers print of 401, 403 and 404; a private registry answers any of them to whoever has no token.
const REFUSALS: [&str; 9] = [
    "401",
    "403",
    "404",
    "unauthorized",
    "forbidden",
    "not found",
    "couldn't find package",
    "authentication",
    "unauthenticated",
];

pub(super) fn diagnose(step: &Finished<'_>, output: &str) -> Option<Diagnosis> {
    if step.kind != StepKind::Install || step.withheld.is_empty() {
        return None;
    }
    let what = output.lines().filter(|line| is_refusal(line)).find_map(|line| private_thing(step, line))?;
    Some(Diagnosis::theirs(format!("{what} is private, and a fork's build gets no registry token")))
}

fn is_refusal(line: &str) -> bool {
    let line = line.to_ascii_lowercase();
    REFUSALS.iter().any(|refusal| line.contains(refusal))
}

/// A package of a withheld scope, else the withheld default registry itself.
fn private_thing(step: &Finished<'_>, line: &str) -> Option<String> {
    let line = line.replace("%2f", "/").replace("%2F", "/").replace("%40", "@");
    let scopes = step.withheld.iter().flat_map(|registry| &registry.scopes);
    let package = scopes.filter_map(|scope| {
        let (_, rest) = line.split_once(&format!("{scope}/"))?;
        let name: String = rest.chars().take_while(|c| c.is_ascii_alphanumeric() || "-._~".contains(*c)).collect();
        let name = name.trim_end_matches(['.', '-']);
        (!name.is_empty()).then(|| format!("{scope}/{name}"))
    });
    let mut hosts = step.withheld.iter().filter(|registry| registry.scopes.is_empty()).map(|registry| registry.host());
    package.chain(hosts.find(|host| line.contains(&format!("//{host}/")))).next()
}

#[cfg(test)]
mod tests {
    use super::super::{Exit, diagnose as diagnose_step};
    use super::*;
    use crate::config::server::{Access, Registry};
    use crate::domain::outcome::Outcome;
    use crate::domain::spec::Network;
    use crate::domain::trust::Trust;

    #[test]
    fn the_package_and_why_it_is_not_there() {
        let withheld = |scopes: &[&str]| Registry {
            url: "https://npm.acme.dev".parse().expect("an address"),
            scopes: scopes.iter().map(|scope| (*scope).to_owned()).collect(),
            repos: Vec::new(),
            access: Access::Withheld,
        };
        let check = |scopes: &[&str], tool: &str, output: &str, expected: &str| {
            let registry = withheld(scopes);
            let said = diagnose_step(&Finished {
                tool,
                kind: StepKind::Install,
                program: tool,
                network: Network::Open,
                trust: Trust::Fork,
                root: "/build",
                exit: Exit::Code(1),
                output,
                names: &|_| Vec::new(),
                withheld: &[&registry],
                visits: &[],
                install_hosts: &[],
                is_local: false,
            });
            assert_eq!(said.outcome, Outcome::Failed, "{output}");
            let told = said.reason == format!("{expected} is private, and a fork's build gets no registry token");
            assert_eq!(told, !expected.is_empty(), "{output}: {}", said.reason);
        };
        let npm = "npm error code E401\nnpm error 401 Unauthorized - GET https://npm.acme.dev/@acme%2fui\n";
        check(&["@acme"], "npm", npm, "@acme/ui");
        check(&["@other"], "npm", npm, "");
        check(&[], "npm", npm, "npm.acme.dev");
        check(
            &["@acme"],
            "npm",
            "npm error 404 Not Found - GET https://npm.acme.dev/@acme%2fui - not found",
            "@acme/ui",
        );
        check(&["@acme"], "yarn", "error Couldn't find package \"@acme/ui\" on the \"npm\" registry.", "@acme/ui");
        check(&["@acme"], "bun", "error: GET https://npm.acme.dev/@acme%2fui - 401", "@acme/ui");
        check(&["@acme"], "npm", "npm error ERESOLVE could not resolve\nnpm error @acme/ui@1.0.0", "");
    }
}

//! Tables over real outputs; the known causes, with what mends them, stand in `causes`.

use super::*;

mod causes;
mod words;

fn sample(name: &str) -> String {
    let path = format!("{}/tests/data/outputs/{name}.txt", env!("CARGO_MANIFEST_DIR"));
    String::from_utf8_lossy(&std::fs::read(&path).expect("a sample")).into_owned()
}

fn finished<'a>(kind: StepKind, tool: &'a str, output: &'a str) -> Finished<'a> {
    let network = if kind == StepKind::Install { Network::Open } else { Network::Closed };
    let program = if kind == StepKind::Install { tool } else { "npm" };
    Finished {
        tool,
        kind,
        program,
        network,
        trust: Trust::Trusted,
        root: "/build",
        names: &|_| Vec::new(),
        exit: Exit::Code(1),
        output,
        withheld: &[],
        visits: &[],
        install_hosts: &[],
        is_local: false,
    }
}

fn install(tool: &str, name: &str) -> String {
    told(&finished(StepKind::Install, tool, &sample(name)))
}

fn bundle(name: &str) -> String {
    told(&finished(StepKind::Bundle, "bundle", &sample(name)))
}

fn told(step: &Finished<'_>) -> String {
    let Diagnosis { outcome, retry, reason, .. } = diagnose(step);
    format!("{}{}: {reason}", outcome.as_str(), if retry { ", again" } else { "" })
}

#[test]
fn npm() {
    let check = |name, expected: &str| assert_eq!(install("npm", name), expected, "{name}");
    check("npm-eresolve", "failed: ERESOLVE, react@19.1.0 does not fit react-dom@18.3.1");
    check("npm-e404", "failed: E404, left-padd@1.0.0 is not in the registry");
    check("npm-etarget", "failed: ETARGET, there is no left-pad@99.0.0");
    check(
        "npm-out-of-sync",
        "failed: package-lock.json is out of date: missing is-odd@3.0.1 from lock file; run npm install and commit it",
    );
    check("npm-no-lock", "failed: npm ci needs a package-lock.json; run npm install and commit it");
    check("npm-script", "failed: the install script of bad-script ended with 3: no binary for this machine");
    check("npm-ownscript", "failed: the postinstall script of package.json ended with 4");
    check("npm-engine", "failed: shop@1.0.0 wants node >=99, this is 20.20.2; [toolchain] node = \">=99\"");
    check(
        "npm-platform",
        "failed: EBADPLATFORM, Unsupported platform for fsevents@2.3.3: wanted {\"os\":\"darwin\"} (current: {\"os\":\"linux\"})",
    );
    check(
        "npm-401",
        "failed: E401, 127.0.0.1 wants a token for left-pad; [[registry]] in the server's configuration gives a token",
    );
    check(
        "npm-403",
        "failed: E403, 127.0.0.1 refuses left-pad; [[registry]] in the server's configuration gives a token",
    );
    check("npm-503", "broken, again: the npm registry answered 503");
    check("npm-429", "broken, again: the npm registry answered 429");
    check("npm-refused", "broken, again: the npm registry refused the connection (ECONNREFUSED)");
    check("npm-dns", "broken, again: the npm registry could not be found by name (ENOTFOUND)");
    check("npm-reset", "broken, again: the npm registry broke the connection off (ECONNRESET)");
    check("npm-hang", "broken, again: the npm registry did not answer in time (network timeout)");
}

#[test]
fn bower() {
    let check = |name, expected: &str| assert_eq!(install("bower", name), expected, "{name}");
    check("bower-503", "broken, again: the bower registry answered 503");
    check("bower-refused", "broken, again: the bower registry refused the connection (ECONNREFUSED)");
    check("bower-dns", "broken, again: the bower registry could not be found by name (ENOTFOUND)");
    check("bower-gitrefused", "broken, again: the git server of jq#9.0.0 did not answer");
    check("bower-404", "failed: jquery-zz#1.0.0 is not in the bower registry");
    check("bower-conflict", "failed: ECONFLICT, no version of jq suits everything that asks for it");
    check("bower-target", "failed: ENORESTARGET, jq#9.0.0: No tag found that was able to satisfy 9.0.0");
    check("bower-badjson", "failed: bower.json is not JSON");
}

#[test]
fn npms_siblings() {
    let check = |tool, name, expected: &str| assert_eq!(install(tool, name), expected, "{name}");
    check("yarn", "yarn-503", "broken, again: the npm registry answered 503");
    check("yarn", "yarn-refused", "broken, again: the npm registry refused the connection (ECONNREFUSED)");
    check("yarn", "yarn-target", "failed: there is no left-pad@99.0.0");
    check("yarn", "yarn-404", "failed: left-padd is not in the registry");
    check("yarn", "yarn-lock", "failed: yarn.lock is out of date; run yarn install and commit it");
    check("yarn", "yarn4-503", "broken, again: the npm registry answered 503");
    check("yarn", "yarn4-refused", "broken, again: the npm registry refused the connection (ECONNREFUSED)");
    check("yarn", "yarn4-target", "failed: there is no left-pad@99.0.0");
    check("yarn", "yarn4-404", "failed: YN0035, left-padd@1.3.0 is not in the registry");
    check("yarn", "yarn4-lock", "failed: yarn.lock is out of date; run yarn install and commit it");
    check("pnpm", "pnpm-503", "broken, again: the npm registry answered 503");
    check("pnpm", "pnpm-refused", "broken, again: the npm registry refused the connection (ECONNREFUSED)");
    check("pnpm", "pnpm-target", "failed: there is no left-pad@99.0.0");
    check("pnpm", "pnpm-404", "failed: FETCH_404, left-padd is not in the registry");
    check("pnpm", "pnpm-lock", "failed: pnpm-lock.yaml is out of date; run pnpm install and commit it");
    check("bun", "bun-503", "broken, again: the npm registry answered 503");
    check("bun", "bun-refused", "broken, again: the npm registry refused the connection (ConnectionRefused)");
    check(
        "bun",
        "bun-target",
        "failed: No version matching \"99.0.0\" found for specifier \"left-pad\" (but package exists)",
    );
    check("bun", "bun-404", "failed: 404, left-padd is not in the registry");
    check("bun", "bun-lock", "failed: bun.lock is out of date; run bun install and commit it");
}

#[test]
fn webpack() {
    let check = |name, expected: &str| assert_eq!(bundle(name), expected, "{name}");
    let three = "failed: 3 errors, first src/cart.js:14 Can't resolve './price'";
    check("webpack5", three);
    check("webpack5-color", three);
    check("webpack4", three);
    check("webpack4-color", three);
    check(
        "webpack5-loaders",
        "failed: 3 errors, first l/b.js:1 SyntaxError: Support for the experimental syntax 'jsx' isn't currently enabled (1:11):",
    );
    check("webpack-config-throws", "failed: webpack.throw.js: Error: no API_URL");
    check("webpack-config-invalid", "failed: invalid configuration: configuration has an unknown property 'mod'");
    check("webpack-no-cli", "failed: webpack-cli is not installed; add it to devDependencies");
    check(
        "webpack-openssl",
        "failed: ERR_OSSL_EVP_UNSUPPORTED, this webpack is too old for node 17 and later; [env] NODE_OPTIONS = \"--openssl-legacy-provider\"",
    );
    check(
        "node-heap",
        "failed: out of memory, node's heap is full; [env] NODE_OPTIONS = \"--max-old-space-size=4096\" raises it",
    );
    check("npm-missingscript", "failed: package.json has no script \"build\"");
}

#[test]
fn places_of_other_checkers() {
    let check = |output: &str, expected: &str| {
        let step = finished(StepKind::Bundle, "bundle", output);
        assert_eq!(told(&step), format!("failed: {expected}"));
    };
    check(
        "ERROR in ./src/a.ts:3:7\nTS2322: Type 'string' is not assignable to type 'number'.\n",
        "1 error, src/a.ts:3 TS2322: Type 'string' is not assignable to type 'number'.",
    );
    check(
        "ERROR in /build/src/a.ts\n./src/a.ts\n[tsl] ERROR in /build/src/a.ts(3,7)\n      TS2322: No.\n",
        "1 error, src/a.ts:3 TS2322: No.",
    );
    check(
        "ERROR in ./s.scss (./node_modules/css-loader/dist/cjs.js!./s.scss)\nModule build failed (from x):\nUndefined variable.\n  s.scss 4:12  root stylesheet\n",
        "1 error, s.scss:4 Undefined variable.",
    );
}

#[test]
fn a_missing_program_is_ours_or_theirs() {
    let with_exit = |exit: i32, kind, program: &str, output: &str| {
        told(&Finished { program, exit: Exit::Code(exit), ..finished(kind, "bundle", output) })
    };
    assert_eq!(
        with_exit(127, StepKind::Bundle, "npm", &sample("npm-notfound")),
        "failed: script \"build\" runs webpackx, which is not installed; is webpackx in package.json?"
    );
    assert_eq!(
        with_exit(127, StepKind::Install, "bower", "/usr/bin/env: 'node': No such file or directory"),
        "broken: node is not installed on the agent"
    );
    assert_eq!(
        with_exit(1, StepKind::Install, "bower", "bwrap: execvp bower: No such file or directory"),
        "broken: bower is not installed on the agent"
    );
    assert_eq!(
        with_exit(1, StepKind::Bundle, "webpack", "bwrap: execvp webpack: No such file or directory"),
        "failed: webpack: not in node_modules/.bin or on PATH; is webpack in package.json?"
    );
    assert_eq!(
        with_exit(127, StepKind::Install, "pnpm", "sh: line 1: pnpm: command not found"),
        "broken: pnpm is not installed on the agent"
    );
}

#[test]
fn scripts_that_download_are_an_outage_only_when_the_network_was() {
    let output = "npm error code 1\nnpm error path /build/node_modules/gifsicle\nnpm error command failed\n\
                  npm error command sh -c node lib/install.js\nnpm error Error: getaddrinfo EAI_AGAIN files.example\n";
    assert_eq!(
        told(&finished(StepKind::Install, "npm", output)),
        "broken, again: gifsicle could not fetch its binary from files.example"
    );
}

#[test]
fn a_closed_network_names_the_host_and_the_line_that_opens_it() {
    let output = "Error: getaddrinfo EAI_AGAIN fonts.googleapis.com\n    at x";
    assert_eq!(
        told(&finished(StepKind::Bundle, "bundle", output)),
        "failed: fonts.googleapis.com is closed to this step; allow it: bundle.network in .hookmill.toml"
    );
}

#[test]
fn signals_disks_and_the_unknown() {
    let check = |exit, output: &str, expected: &str| {
        assert_eq!(told(&Finished { exit, ..finished(StepKind::Check, "test", output) }), expected);
    };
    let signal = |name: &str| Exit::Signal(name.to_owned());
    check(signal("KILL"), "working", "failed: killed by SIGKILL, perhaps out of memory (limits.memory)");
    check(signal("SYS"), "working", "failed: ended by SIGSYS: a 32-bit program, which the sandbox does not run");
    check(
        Exit::Code(2),
        "sh: 1: Cannot fork",
        "failed: no further process was given (limits.processes): sh: 1: Cannot fork",
    );
    check(
        Exit::Code(1),
        "Error: spawn sh EAGAIN",
        "failed: no further process was given (limits.processes): Error: spawn sh EAGAIN",
    );
    check(Exit::Code(137), "Killed", "failed: killed by SIGKILL, perhaps out of memory (limits.memory)");
    check(signal("SEGV"), "", "failed: ended by SIGSEGV");
    check(Exit::Code(2), "", "failed: exit status 2");
    check(
        Exit::Code(1),
        "ok 1\nAssertionError: 1 == 2\n    at x\nbye\n",
        "failed: exit status 1, AssertionError: 1 == 2",
    );
    check(
        Exit::Code(1),
        "npm error ENOSPC: no space left on device, write",
        "broken: no space left on the agent's disk",
    );
}

#[test]
fn what_a_step_misses_in_another_root_is_missing_there() {
    let found = diagnose(&finished(StepKind::Check, "test", &sample("missing-library")));
    assert!(found.reason.contains("is missing on the agent"), "{found:?}");
    let found = found.in_root(Path::new("/srv/roots/one"));
    assert!(found.reason.contains("is missing in the root /srv/roots/one; "), "{found:?}");
    assert!(found.mend.as_ref().is_some_and(|mend| mend.starts_with("# chroot /srv/roots/one\napt-get")), "{found:?}");
}

//! Each known cause: the words that a status shows, and a line of what mends it.

use super::*;

/// `mend` is a whole line of it; empty: nothing is pasted for this cause.
pub(super) fn told_with(step: &Finished<'_>, expected: &str, mend: &str, name: &str) {
    assert_eq!(told(step), expected, "{name}");
    let said = diagnose(step).mend.unwrap_or_default();
    assert!(said.lines().any(|line| line == mend) || said == mend, "{name}: {mend:?} in\n{said}");
}

fn check(tool: &str, name: &str, expected: &str, mend: &str) {
    told_with(&finished(StepKind::Install, tool, &sample(name)), expected, mend, name);
}

#[test]
fn install_scripts_that_download_name_the_host_and_the_variable() {
    check(
        "npm",
        "binary-puppeteer",
        "broken, again: puppeteer can't fetch its binary from storage.googleapis.com; [env] PUPPETEER_SKIP_DOWNLOAD = \"1\" skips it",
        "PUPPETEER_SKIP_DOWNLOAD = \"1\"",
    );
    check(
        "npm",
        "binary-puppeteer13",
        "broken, again: puppeteer can't fetch its binary from storage.googleapis.com; [env] PUPPETEER_SKIP_DOWNLOAD = \"1\" skips it",
        "PUPPETEER_SKIP_DOWNLOAD = \"1\"",
    );
    check(
        "npm",
        "binary-cypress",
        "broken, again: cypress can't fetch its binary from 127.0.0.1:9; [env] CYPRESS_INSTALL_BINARY = \"0\" skips it",
        "CYPRESS_INSTALL_BINARY = \"0\"",
    );
    check(
        "npm",
        "binary-electron",
        "broken, again: electron can't fetch its binary from github.com; [env] ELECTRON_SKIP_BINARY_DOWNLOAD = \"1\" skips it",
        "ELECTRON_SKIP_BINARY_DOWNLOAD = \"1\"",
    );
    check(
        "npm",
        "binary-phantomjs",
        "broken, again: phantomjs-prebuilt could not fetch its binary from 127.0.0.1:9",
        "install_hosts = [\"npm\", \"yarn\", \"bower\", \"node\", \"127.0.0.1:9\"]",
    );
    check(
        "npm",
        "binary-chromedriver",
        "broken, again: chromedriver can't fetch its binary from chromedriver.storage.googleapis.com; [env] CHROMEDRIVER_SKIP_DOWNLOAD = \"true\" skips it",
        "CHROMEDRIVER_SKIP_DOWNLOAD = \"true\"",
    );
    check(
        "npm",
        "binary-sharp",
        "broken, again: sharp could not fetch its binary from 127.0.0.1:9",
        "install_hosts = [\"npm\", \"yarn\", \"bower\", \"node\", \"127.0.0.1:9\"]",
    );
    check(
        "yarn",
        "script-yarn",
        "broken, again: cypress can't fetch its binary from 127.0.0.1:9; [env] CYPRESS_INSTALL_BINARY = \"0\" skips it",
        "CYPRESS_INSTALL_BINARY = \"0\"",
    );
    check(
        "yarn",
        "script-yarn4",
        "broken, again: cypress can't fetch its binary from 127.0.0.1:9; [env] CYPRESS_INSTALL_BINARY = \"0\" skips it",
        "CYPRESS_INSTALL_BINARY = \"0\"",
    );
    check(
        "pnpm",
        "script-pnpm",
        "broken, again: cypress can't fetch its binary from 127.0.0.1:9; [env] CYPRESS_INSTALL_BINARY = \"0\" skips it",
        "CYPRESS_INSTALL_BINARY = \"0\"",
    );
}

#[test]
fn install_scripts_that_compile_name_what_is_missing() {
    check(
        "npm",
        "binary-node-sass",
        "failed: node-sass has no binary for this node, and python to compile it is missing; [toolchain] node = \"12\" has a binary",
        "node = \"12\"",
    );
    check(
        "npm",
        "gyp-no-make",
        "failed: fast-hash has no binary for this node, and make to compile it is missing; apt-get install python3 make g++",
        "apt-get install python3 make g++",
    );
    check(
        "npm",
        "gyp-no-python",
        "failed: fast-hash has no binary for this node, and python to compile it is missing; apt-get install python3 make g++",
        "apt-get install python3 make g++",
    );
    check(
        "npm",
        "missing-library",
        "broken: libgconf-2.so.4 is missing on the agent; apt-get install libgconf-2-4",
        "apt-get install libgconf-2-4",
    );
}

#[test]
fn engines_and_the_rules_of_managers() {
    check(
        "npm",
        "npm-engine-strict",
        "failed: shop@1.0.0 wants node >=22, this is 20.20.2; [toolchain] node = \">=22\"",
        "node = \">=22\"",
    );
    check(
        "yarn",
        "yarn-engine",
        "failed: cart@2.0.0 wants node >=22 <23, this is 20.20.2; [toolchain] node = \">=22 <23\"",
        "node = \">=22 <23\"",
    );
    check(
        "pnpm",
        "pnpm-engine",
        "failed: package.json wants node >=22, this is 20.20.2; [toolchain] node = \">=22\"",
        "node = \">=22\"",
    );
    check(
        "pnpm",
        "pnpm-ignored-builds",
        "failed: nobody approved the install scripts of tool; run pnpm approve-builds and commit pnpm-workspace.yaml",
        "  \"tool\": true",
    );
    check(
        "pnpm",
        "pnpm12-ignored-builds",
        "failed: nobody approved the install scripts of sharp@0.34.5; run pnpm approve-builds and commit pnpm-workspace.yaml",
        "  \"sharp\": true",
    );
    check(
        "yarn",
        "yarn4-checksum",
        "failed: YN0018, is-number@7.0.0 is not the one that yarn.lock was written for",
        "YARN_CHECKSUM_BEHAVIOR=update yarn install",
    );
}

#[test]
fn private_packages_name_the_registry_and_where_its_token_goes() {
    check(
        "npm",
        "private-npm-401",
        "failed: E401, registry.example wants a token for @acme/ui; [[registry]] in the server's configuration gives a token",
        "url = \"https://registry.example/\"",
    );
    check(
        "npm",
        "private-npm-403",
        "failed: E403, registry.example refuses @acme/ui; [[registry]] in the server's configuration gives a token",
        "url = \"https://registry.example/\"",
    );
    check(
        "npm",
        "private-npm-404",
        "failed: E404, @acme/ui@1.0.0 is not at registry.example, or it is private; [[registry]] in the server's configuration gives a token",
        "url = \"https://registry.example/\"",
    );
    check(
        "yarn",
        "private-yarn-401",
        "failed: 401, registry.example wants a token for @acme/ui; [[registry]] in the server's configuration gives a token",
        "url = \"https://registry.example/\"",
    );
    check(
        "yarn",
        "private-yarn-404",
        "failed: 404, @acme/ui is not at registry.example, or it is private; [[registry]] in the server's configuration gives a token",
        "url = \"https://registry.example/\"",
    );
    check(
        "yarn",
        "private-yarn4-401",
        "failed: YN0041, the registry wants a token for @acme/ui@1.0.0; [[registry]] in the server's configuration gives a token",
        "url = \"https://npm.example.com/\"",
    );
    check(
        "yarn",
        "private-yarn4-403",
        "failed: YN0035, registry.example refuses @acme/ui@1.0.0; [[registry]] in the server's configuration gives a token",
        "url = \"https://registry.example/\"",
    );
    check(
        "yarn",
        "private-yarn4-404",
        "failed: YN0035, @acme/ui@1.0.0 is not at registry.example, or it is private; [[registry]] in the server's configuration gives a token",
        "url = \"https://registry.example/\"",
    );
    check(
        "pnpm",
        "private-pnpm-401",
        "failed: FETCH_401, registry.example wants a token for @acme/ui; [[registry]] in the server's configuration gives a token",
        "url = \"https://registry.example/\"",
    );
    check(
        "pnpm",
        "private-pnpm-403",
        "failed: FETCH_403, registry.example refuses @acme/ui; [[registry]] in the server's configuration gives a token",
        "url = \"https://registry.example/\"",
    );
    check(
        "pnpm",
        "private-pnpm-404",
        "failed: FETCH_404, @acme/ui is not at registry.example, or it is private; [[registry]] in the server's configuration gives a token",
        "url = \"https://registry.example/\"",
    );
    check(
        "bun",
        "private-bun-401",
        "failed: 401, registry.example wants a token for @acme/ui; [[registry]] in the server's configuration gives a token",
        "url = \"https://registry.example/\"",
    );
    check(
        "bun",
        "private-bun-403",
        "failed: 403, registry.example refuses @acme/ui; [[registry]] in the server's configuration gives a token",
        "url = \"https://registry.example/\"",
    );
    check(
        "bun",
        "private-bun-404",
        "failed: 404, @acme/ui is not at registry.example, or it is private; [[registry]] in the server's configuration gives a token",
        "url = \"https://registry.example/\"",
    );
}

#[test]
fn what_the_machine_and_the_checkout_lack() {
    let check = |name: &str, expected: &str, mend: &str| {
        let exit = Exit::Code(if name.ends_with("notfound") { 127 } else { 1 });
        told_with(&Finished { exit, ..finished(StepKind::Bundle, "bundle", &sample(name)) }, expected, mend, name);
    };
    check(
        "webpack44-openssl",
        "failed: ERR_OSSL_EVP_UNSUPPORTED, this webpack is too old for node 17 and later; [env] NODE_OPTIONS = \"--openssl-legacy-provider\"",
        "NODE_OPTIONS = \"--openssl-legacy-provider\"",
    );
    check(
        "heap-npm",
        "failed: out of memory, node's heap is full; [env] NODE_OPTIONS = \"--max-old-space-size=4096\" raises it",
        "NODE_OPTIONS = \"--max-old-space-size=4096\"",
    );
    check(
        "gulp3-primordials",
        "failed: gulp 3 does not run on node 12 and later (primordials is not defined); [toolchain] node = \"10\"",
        "node = \"10\"",
    );
    check(
        "node-sass-unsupported",
        "failed: node-sass 4.14.1 does not run on this node; [toolchain] node = \"14\", or the package sass instead",
        "node = \"14\"",
    );
    check(
        "git-describe",
        "failed: git describe finds no tag: only the commit was fetched; [checkout] depth = 0, tags = true",
        "depth = 0",
    );
    check(
        "git-unknown",
        "failed: git sees one commit only (ambiguous argument 'origin/main...HEAD'); [checkout] depth = 0 fetches the history",
        "depth = 0",
    );
    check(
        "git-none",
        "failed: a script asks git, and this tree is not a git repository; it has to do without, or ask CI_COMMIT_SHA",
        "${CI_COMMIT_SHA:-$(git rev-parse HEAD)}",
    );
    check(
        "karma-sandbox",
        "failed: Chrome finds no sandbox inside the step's own; karma: flags: ['--no-sandbox'] in a custom launcher",
        "browsers: ['ChromeInStep'],",
    );
    check(
        "karma-no-chrome",
        "broken: no Chrome was found on the agent; apt-get install chromium, [env] CHROME_BIN = \"/usr/bin/chromium\"",
        "apt-get install chromium",
    );
    check(
        "missing-library",
        "broken: libgconf-2.so.4 is missing on the agent; apt-get install libgconf-2-4",
        "apt-get install libgconf-2-4",
    );
}

#[test]
fn programs_that_no_dependency_brings() {
    let check = |name: &str, expected: &str, mend: &str| {
        let exit = Exit::Code(if name.ends_with("notfound") { 127 } else { 1 });
        told_with(&Finished { exit, ..finished(StepKind::Bundle, "bundle", &sample(name)) }, expected, mend, name);
    };
    check(
        "yarn-notfound",
        "failed: webpack: command not found; is webpack in package.json?",
        "npm install --save-dev webpack",
    );
    check(
        "pnpm-notfound",
        "failed: script \"build\" runs webpack, which is not installed; is webpack in package.json?",
        "npm install --save-dev webpack",
    );
    check(
        "bun-notfound",
        "failed: webpack: command not found; is webpack in package.json?",
        "npm install --save-dev webpack",
    );
    check(
        "grunt-missing-plugin",
        "failed: grunt: grunt-contrib-uglify is not installed; add it to devDependencies",
        "npm install --save-dev grunt-contrib-uglify",
    );
}

#[test]
fn the_first_failure_of_bundlers_and_checkers() {
    let check = |name: &str, expected: &str, mend: &str| {
        let exit = Exit::Code(if name.ends_with("notfound") { 127 } else { 1 });
        told_with(&Finished { exit, ..finished(StepKind::Bundle, "bundle", &sample(name)) }, expected, mend, name);
    };
    check("gulp4-task", "failed: gulp build: styles: Undefined variable $brand", "");
    check("gulp4-no-task", "failed: the gulpfile has no task ship", "");
    check("grunt-warning", "failed: grunt: Unable to read \"src/app.js\" file (Error code: ENOENT).", "");
    check(
        "tsc",
        "failed: 3 errors, first src/cart.ts:1 TS2307: Cannot find module './price' or its corresponding type declarations.",
        "",
    );
    check("eslint", "failed: 4 errors, first src/broken.js:1 Parsing error: Unexpected token ;", "");
    check("mocha", "failed: 2 tests failed, first: cart counts the price", "");
    check("jest", "failed: 2 tests failed, first: cart › counts the price", "");
    check("jest-suite", "failed: 1 error, b.test.js: Cannot find module './nowhere' from 'b.test.js'", "");
    check("vitest", "failed: 2 tests failed, first: cart.test.js > cart > counts the price", "");
    check("karma", "failed: 2 tests failed, first: cart is empty", "");
    check("vite-unresolved", "failed: Could not resolve \"./price.js\" from \"main.js\"", "");
    check(
        "vite-not-exported",
        "failed: main.js:1 \"price\" is not exported by \"price.js\", imported by \"main.js\".",
        "",
    );
    check("vite-syntax", "failed: main.js:1 Expression expected", "");
    check("rspack", "failed: 2 errors, first src/cart.js:3 Can't resolve './price'", "");
    check("webpack1", "failed: Cannot resolve 'file' or 'directory' ./price in src", "");
    check("webpack3", "failed: 1 error, src/cart.js:3 Can't resolve './price'", "");
}

#[test]
fn a_forks_author_is_told_what_a_fork_can_not_have() {
    let output = sample("private-npm-401");
    let step = Finished { trust: Trust::Fork, ..finished(StepKind::Install, "npm", &output) };
    told_with(
        &step,
        "failed: E401, registry.example wants a token for @acme/ui; a fork's build gets no registry token",
        "# a fork's build gets no registry token: a member has to push the same commit to a branch",
        "a fork's private package",
    );
    let output = sample("webpack-openssl");
    let mend = diagnose(&Finished { trust: Trust::Fork, ..finished(StepKind::Bundle, "bundle", &output) }).mend;
    assert!(mend.is_some_and(|lines| lines.starts_with("# a fork's build reads .hookmill.toml from the base branch")));
}

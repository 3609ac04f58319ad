//! Causes by a few words of what was printed, where those are all that tells: the tables beside the kept outputs.

use super::causes::told_with;
use super::*;

#[test]
fn a_wrong_case_names_the_file_that_is_there() {
    let tree = |folder: &str| -> Vec<String> {
        let names: &[&str] = match folder {
            "" => &["src", "main.js", "price.js"],
            "src" => &["cart.js", "button.js", "Icons"],
            "src/Icons" => &["a.svg"],
            _ => &[],
        };
        names.iter().map(|name| (*name).to_owned()).collect()
    };
    let check = |output: &str, expected: &str, mend: &str| {
        let step = Finished { names: &tree, ..finished(StepKind::Bundle, "bundle", output) };
        told_with(&step, &format!("failed: {expected}"), mend, output);
    };
    check(
        &sample("webpack4-case"),
        "./Button is src/button.js in the repository; upper and lower case differ on Linux",
        "git mv src/button.js src/Button.js",
    );
    check(
        "error during build:\nCould not resolve \"./icons/a.svg\" from \"src/main.js\"\n",
        "./icons/a.svg is src/Icons/a.svg in the repository; upper and lower case differ on Linux",
        "git mv src/Icons/a.svg src/icons/a.svg",
    );
    check(
        "src/cart.ts(1,21): error TS2307: Cannot find module '../Price' or its corresponding type declarations.\n",
        "../Price is price.js in the repository; upper and lower case differ on Linux",
        "git mv price.js Price.js",
    );
    check(
        "Module not found: Error: Can't resolve './Main' in '/build'\n",
        "./Main is main.js in the repository; upper and lower case differ on Linux",
        "git mv main.js Main.js",
    );
    check(
        "error TS1149: File name '/build/src/Button.ts' differs from already included file name '/build/src/button.ts' only in casing.\n",
        "Button.ts is also imported as button.ts; upper and lower case have to be the file's own",
        "",
    );
    // What is not there in any case stays what it is, and nothing outside the tree is looked for.
    check(
        "ERROR in ./src/cart.js\nModule not found: Error: Can't resolve '../../../Etc' in '/build/src'\n",
        "1 error, src/cart.js Can't resolve '../../../Etc'",
        "",
    );
}

#[test]
fn a_node_of_another_time_names_the_one_that_is_wanted() {
    let check = |output: &str, expected: &str, node: &str| {
        let step = finished(StepKind::Bundle, "bundle", output);
        told_with(&step, &format!("failed: {expected}"), &format!("node = \"{node}\""), output);
    };
    check(
        "internal/modules/cjs/loader.js:883\n  throw err;\n\nError: Cannot find module 'node:fs'\nRequire stack:\n",
        "this node is too old (Error: Cannot find module 'node:fs'); [toolchain] node = \"22\"",
        "22",
    );
    check(
        "/build/node_modules/a/index.js:3\nx ??= 1\n  ^^^\n\nSyntaxError: Unexpected token '??='\n",
        "this node is too old (SyntaxError: Unexpected token '??='); [toolchain] node = \"16\"",
        "16",
    );
    check(
        "Node.js version v16.20.2 detected.\nThe Angular CLI requires a minimum Node.js version of v18.13.\n",
        "the Angular CLI wants node 18.13; [toolchain] node = \">=18.13\"",
        ">=18.13",
    );
    check(
        "You are using Node.js 16.20.2. For Next.js, Node.js version >= v18.17.0 is required.\n",
        "Next.js wants node 18.17.0; [toolchain] node = \">=18.17.0\"",
        ">=18.17.0",
    );
    check(
        "You are using Node.js 18.0.0. Vite requires Node.js version 20.19+ or 22.12+. Please upgrade.\nTypeError: crypto.hash is not a function\n",
        "Vite wants node 20.19; [toolchain] node = \">=20.19\"",
        ">=20.19",
    );
    check(
        "node: --openssl-legacy-provider is not allowed in NODE_OPTIONS\n",
        "this node does not know --openssl-legacy-provider; take it out of NODE_OPTIONS, or [toolchain] node = \"20\"",
        "20",
    );
    // The same words in a page that is built, or in a test's name, are no cause.
    assert_eq!(
        told(&finished(StepKind::Check, "test", "  ok: fetch is not defined offline\n")),
        "failed: exit status 1, ok: fetch is not defined offline"
    );
}

#[test]
fn a_closed_network_names_the_lines_that_open_it() {
    let angular = "✘ [ERROR] bundle initial exceeded maximum budget. Budget 500.00 kB was not met by 12.00 kB with a total of 512.00 kB.\n";
    let check = |kind, output: &str, expected: &str, mend: &str| {
        let step = finished(kind, "bundle", output);
        told_with(&step, &format!("failed: {expected}"), mend, output);
    };
    check(
        StepKind::Bundle,
        "Error: getaddrinfo EAI_AGAIN api.acme.dev\n",
        "api.acme.dev is closed to this step; allow it: bundle.network in .hookmill.toml",
        "network = [\"api.acme.dev:443\"]",
    );
    check(
        StepKind::Check,
        "Error: getaddrinfo EAI_AGAIN api.acme.dev\n",
        "api.acme.dev is closed to this step; allow it: the check's network in .hookmill.toml",
        "network = [\"api.acme.dev:443\"]",
    );
    check(
        StepKind::Bundle,
        "Failed to compile.\n\nsrc/app/layout.tsx\n`next/font` error:\nFailed to fetch `Inter` from Google Fonts.\n",
        "fonts.googleapis.com is closed to this step; allow it: bundle.network in .hookmill.toml",
        "network = [\"fonts.googleapis.com:443\", \"fonts.gstatic.com:443\"]",
    );
    check(
        StepKind::Bundle,
        angular,
        "bundle initial is over its Angular budget of 500.00 kB with 512.00 kB; see budgets in angular.json",
        "\"budgets\": [{ \"type\": \"initial\", \"maximumError\": \"2mb\" }]",
    );
    check(
        StepKind::Bundle,
        "? Would you like to share pseudonymous usage data about this project with the Angular Team\n",
        "ng stopped to ask about its analytics; [env] NG_CLI_ANALYTICS = \"false\" answers it",
        "NG_CLI_ANALYTICS = \"false\"",
    );
}

#[test]
fn a_full_table_of_watches_is_not_a_full_disk() {
    let output = "Error: ENOSPC: System limit for number of file watchers reached, watch '/build/src'\n";
    told_with(
        &finished(StepKind::Check, "test", output),
        "broken: no inotify watch is left on the agent; a watcher (--watch) runs in this step, or raise the limit",
        "sysctl fs.inotify.max_user_watches=524288",
        "watches",
    );
}

#[test]
fn lists_of_tests_in_other_words() {
    let check = |output: &str, expected: &str| {
        assert_eq!(told(&finished(StepKind::Check, "test", output)), format!("failed: {expected}"));
    };
    check(
        "Started\n.F\n\nFailures:\n1) cart counts the price\n  Message:\n    Expected 1 to be 2.\n\n2 specs, 1 failure\n",
        "1 test failed: cart counts the price",
    );
    check(
        "TAP version 13\nok 1 - adds\nnot ok 2 - counts the price\n  ---\nnot ok 3 - later # TODO\n1..3\n",
        "1 test failed: counts the price",
    );
    check(
        "\u{1b}[96msrc/cart.ts\u{1b}[0m:\u{1b}[93m3\u{1b}[0m:\u{1b}[93m7\u{1b}[0m - \u{1b}[91merror\u{1b}[0m\u{1b}[90m TS2322: \u{1b}[0mNo.\n\nFound 1 error.\n",
        "1 error, src/cart.ts:3 TS2322: No.",
    );
}

#[test]
fn a_heap_that_was_raised_is_raised_further_and_a_lost_mode_is_named() {
    let output = "[1:0x1] 90 ms: Mark-Compact (reduce) 4045.0 (4130.0) -> 4044.0 (4130.0) MB\n\nFATAL ERROR: Reached heap \
                  limit Allocation failed - JavaScript heap out of memory\n";
    told_with(
        &finished(StepKind::Bundle, "bundle", output),
        "failed: out of memory, node's heap is full; [env] NODE_OPTIONS = \"--max-old-space-size=8192\" raises it",
        "NODE_OPTIONS = \"--max-old-space-size=8192\"",
        "a heap of 4 GiB",
    );
    let output = "> shop@1.0.0 build\n> ./scripts/build.sh\n\nsh: 1: ./scripts/build.sh: Permission denied\n";
    told_with(
        &Finished { exit: Exit::Code(126), ..finished(StepKind::Bundle, "bundle", output) },
        "failed: scripts/build.sh is not executable in the repository; git update-index --chmod=+x scripts/build.sh",
        "git update-index --chmod=+x scripts/build.sh",
        "a lost mode",
    );
}

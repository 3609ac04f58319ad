//! A bundle that is larger than its repository wants fails, and says by how much.

use crate::support::forge::Forge;
use crate::support::server::Server;

/// 312 kB that gzip makes small, and a map that does not count.
const BUNDLE: &str = "const fs = require('fs');\n\
    fs.mkdirSync('web/js', { recursive: true });\n\
    fs.writeFileSync('web/js/main.3f2a.js', 'x'.repeat(312000));\n\
    fs.writeFileSync('web/js/main.3f2a.js.map', 'x'.repeat(9000000));\n";

#[test]
fn bundles_against_budgets() {
    let forge = Forge::start();
    let repo = forge.repo("acme/shop");
    let server = Server::start(&forge);
    let check = |branch: &str, bundle: &str, budget: &str, outcome: &str, reason: &str| {
        let file = format!("[bundle]\ncommand = ['node', 'bundle.js']\n{bundle}[budget]\n{budget}");
        let moved = repo.push(branch, &[(".hookmill.toml", &file), ("bundle.js", BUNDLE)]);
        let build = server.finished(server.deliver(&repo.pushed(&moved)).build());
        assert_eq!(build["outcome"], outcome, "{build:#}");
        let said = build["reason"].as_str().expect("a reason");
        assert!(said.contains(reason), "{said}");
        let status = forge.final_status(&moved.after, "hookmill");
        assert_eq!(status.state, if outcome == "passed" { "success" } else { "failure" }, "{status:?}");
    };
    let web = "output = 'web'\n";
    let over = "Over budget: js/main.3f2a.js 312 kB > 300 kB ([budget.assets] \"main.*.js\")";
    check("a", web, "[budget.assets]\n'main.*.js' = '300kB'\n", "failed", over);
    check("b", web, "total = '300kB'\n", "failed", "Over budget: total 312 kB > 300 kB ([budget] total)");
    check("c", web, "total = '1.2MB'\n", "passed", "· total 312 kB of 1.2 MB");
    check("d", web, "total = '300kB'\nmeasure = 'gzip'\n", "passed", " B of 300 kB gzipped");
    check("e", "", "total = '1.2MB'\n", "failed", "name its folder: [bundle] output in .hookmill.toml");
    check("f", "output = 'dist'\n", "total = '1.2MB'\n", "failed", "the bundle wrote nothing into dist");
}

//! A step that takes all it can get: it ends with a sentence, and nobody else notices.

use crate::support::forge::Forge;
use crate::support::machine::{adopt_orphans, nothing_left, script};
use crate::support::server::{Server, Settings, step};

#[test]
fn memory_and_processes_end_a_step_and_nothing_else() {
    adopt_orphans();
    for require in ["available", "none"] {
        let forge = Forge::start();
        let tables = format!(
            "[sandbox]\nrequire = \"{require}\"\n\n[defaults]\nlimits = {{ memory = \"256MiB\", processes = 80 }}\n"
        );
        let server = Server::start_with(&forge, Settings { slots: 2, tables, ..crate::fence::plain() });
        let quiet = forge.repo("acme/quiet");
        let waits = quiet.push("main", &[(".hookmill.toml", &script("echo begun; sleep 600 & read x; wait"))]);
        let waits_id = server.deliver(&quiet.pushed(&waits)).build();

        let repo = forge.repo("acme/shop");
        let greedy = script("head -c 16G /dev/zero | tail");
        let moved = repo.push("main", &[(".hookmill.toml", &greedy)]);
        let id = server.deliver(&repo.pushed(&moved)).build();
        let build = server.finished(id);
        let word = "Out of memory: bundle passed 256 MiB (limits.memory)";
        assert_eq!((&build["outcome"], &build["reason"]), (&"failed".into(), &word.into()), "{build:#}");
        let mend = step(&build, "bundle")["mend"].as_str().expect("a way out").to_owned();
        assert!(mend.contains("limits = { memory = \"8GiB\" }"), "{mend}");
        let status = forge.final_status(&moved.after, "hookmill");
        assert_eq!((status.state.as_str(), status.description.as_str()), ("failure", word));

        let is_counted = rustix::process::geteuid().is_root() || require == "available";
        if is_counted {
            let crowd = script("for i in $(seq 10000); do sleep 600 & done; echo all of them; wait");
            let moved = repo.push("main", &[(".hookmill.toml", &crowd)]);
            let id = server.deliver(&repo.pushed(&moved)).build();
            let build = server.finished(id);
            assert_eq!(build["outcome"], "failed", "{build:#}");
            assert!(build["reason"].as_str().is_some_and(|why| why.contains("limits.processes")), "{build:#}");
            assert!(!server.log(id, "bundle").contains("all of them"));
        }

        assert_eq!(server.get("/healthz").code, 200);
        assert_eq!(server.build(waits_id)["state"], "running", "the other slot's build goes on");
        assert_eq!(server.post(&format!("/api/v1/builds/{waits_id}/cancel"), "").code, 202);
        server.finished(waits_id);
        nothing_left(&forge, &server.url());
        forge.finish();
    }
}

//! The outbox under fire: whatever the forge does, each commit's last word is its newest verdict, nothing is asked before
//! its time, and what can't be said is shown.

#[expect(dead_code, reason = "each file of tests asks for another part")]
#[path = "../support/forge.rs"]
mod forge;
#[expect(dead_code, reason = "each file of tests steers another part")]
#[path = "../support/git_http.rs"]
mod git_http;
#[expect(dead_code, reason = "each file of tests asks for another part")]
#[path = "../support/server.rs"]
mod server;

mod flapping;
mod misbehaving;
mod sender;
mod taking;

//! The store: what it promises on a SQLite file and on PostgreSQL, alone and with others on the same database.

mod file;
mod promises;
/// The promises on PostgreSQL: every test of `promises.rs` again, word for word.
#[expect(clippy::duplicate_mod, reason = "it asks for its own name, and opens its databases accordingly")]
#[path = "promises.rs"]
mod promises_on_postgres;
mod server;
mod together;

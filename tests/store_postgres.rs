//! The store's promises on PostgreSQL: every test of `store.rs` again, word for word. That file asks for the name of the
//! program that it is part of, and opens its databases accordingly.

#[path = "store.rs"]
mod store;

//! A commit at a forge becomes files on disk: by the real child process, from real git over HTTP.

mod hostile;
mod mirrors;
mod network;
mod parts;
mod tree;

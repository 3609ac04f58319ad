//! What tests share: the forge, the registries, the servers and the machines that stand around the program.

pub(crate) mod bucket;
pub(crate) mod cut;
pub(crate) mod disks;
pub(crate) mod door;
pub(crate) mod events;
pub(crate) mod forge;
pub(crate) mod git_http;
pub(crate) mod lockfiles;
pub(crate) mod machine;
pub(crate) mod managers;
pub(crate) mod ordinary;
pub(crate) mod port;
pub(crate) mod postgres;
pub(crate) mod published;
pub(crate) mod registry;
pub(crate) mod roots;
pub(crate) mod runner;
pub(crate) mod server;
pub(crate) mod small_disk;
pub(crate) mod way_out;
pub(crate) mod whole;
pub(crate) mod workbench;

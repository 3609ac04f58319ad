//! Where nothing can be stacked: trees that are lent and come back, alone and under whole builds.
#![cfg(target_os = "linux")]

mod builds;
mod trees;

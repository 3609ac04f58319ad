//! One promise of a reader, by its name in `HOOKMILL_TARGET`, under libFuzzer.
#![no_main]

use std::sync::LazyLock;

use hookmill::fuzz::Target;
use libfuzzer_sys::fuzz_target;

static TARGET: LazyLock<&'static Target> = LazyLock::new(|| {
    let name = std::env::var("HOOKMILL_TARGET").unwrap_or_default();
    let names: Vec<&str> = hookmill::promises().map(|target| target.name).collect();
    hookmill::promises().find(|target| target.name == name).unwrap_or_else(|| panic!("HOOKMILL_TARGET is one of {names:?}"))
});

fuzz_target!(|bytes: &[u8]| (TARGET.holds)(bytes));

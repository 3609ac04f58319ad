//! One promise of a reader, by its name in `HOOKMILL_TARGET`, under libFuzzer. Real inputs are put into `HOOKMILL_CORPUS` first.
#![no_main]

use std::sync::LazyLock;

use hookmill::fuzz::Target;
use libfuzzer_sys::fuzz_target;

static TARGET: LazyLock<&'static Target> = LazyLock::new(|| {
    let name = std::env::var("HOOKMILL_TARGET").unwrap_or_default();
    let names: Vec<&str> = hookmill::promises().map(|target| target.name).collect();
    hookmill::promises().find(|target| target.name == name).unwrap_or_else(|| panic!("HOOKMILL_TARGET is one of {names:?}"))
});

fn put_real_inputs() {
    let Some(corpus) = std::env::var_os("HOOKMILL_CORPUS") else { return };
    let words = TARGET.words.iter().map(|word| word.as_bytes());
    for (number, input) in TARGET.real.iter().copied().chain(words).enumerate() {
        std::fs::write(std::path::Path::new(&corpus).join(format!("real-{number}")), input).expect("HOOKMILL_CORPUS is a folder");
    }
}

fuzz_target!(init: put_real_inputs(), |bytes: &[u8]| (TARGET.holds)(bytes));

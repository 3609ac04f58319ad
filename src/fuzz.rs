//! Promises of the readers of strangers' bytes, tried on inputs that nobody wrote.
//!
//! Beside each such reader stands a file `fuzz.rs` with a [`Target`]: real inputs, words of its language, and a function that
//! panics where a promise does not hold. The tests make some thousand inputs out of the real ones with a fixed seed;
//! `HOOKMILL_FUZZ=600 cargo test --lib fuzz` makes other ones for that many seconds each; and `tests/fuzz/` has libFuzzer look for
//! inputs by what the code does with them. One that broke a promise is kept in `tests/data/fuzz/<target>/`, and tried for ever.

use std::path::PathBuf;

/// One reader and what it promises.
pub struct Target {
    /// Its name, and that of the folder with inputs that once broke a promise.
    pub name: &'static str,
    /// Inputs as they come in real life.
    pub real: &'static [&'static [u8]],
    /// Words of its language.
    pub words: &'static [&'static str],
    /// How many inputs the tests make: fewer where one costs more.
    pub tries: usize,
    /// Panics where a promise does not hold.
    pub holds: fn(&[u8]),
}

impl Target {
    /// Inputs that once broke a promise.
    pub fn kept(&self) -> Vec<Vec<u8>> {
        let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/fuzz")).join(self.name);
        let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
        files.map(|file| std::fs::read(file.path()).expect("a file of ours")).collect()
    }
}

#[cfg(test)]
mod tries {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::time::{Duration, Instant};

    use fastrand::Rng;

    use super::Target;

    /// Made inputs are no longer than this; the long ones are tried apart.
    const LONGEST: usize = 16 << 10;
    /// A megabyte of anything is read within a second. Builds for tests are some ten times slower than others, and are given
    /// a quarter to read: what takes the square of the length is still too slow by far.
    const LONG: usize = if cfg!(debug_assertions) { 256 << 10 } else { 1 << 20 };
    const AT_ONCE: Duration = Duration::from_secs(if cfg!(debug_assertions) { 3 } else { 1 });

    impl Target {
        /// Tries every input that is known, many that are made of them, and long ones.
        #[track_caller]
        pub(crate) fn try_it(&self) {
            let mut known = self.kept();
            known.extend(self.real.iter().map(|bytes| bytes.to_vec()));
            known.iter().for_each(|bytes| self.try_one(bytes));
            let long = std::env::var("HOOKMILL_FUZZ").ok().and_then(|text| text.parse().ok()).map(Duration::from_secs);
            let mut rng = if long.is_some() { Rng::new() } else { Rng::with_seed(7) };
            let begun = Instant::now();
            let mut tries = 0;
            while long.map_or(tries < self.tries, |long| begun.elapsed() < long) {
                self.try_one(&made(&mut rng, &known, self.words));
                tries += 1;
            }
            if long.is_some() {
                println!("{}: {tries} inputs", self.name);
            }
            self.try_long();
        }

        #[track_caller]
        fn try_one(&self, bytes: &[u8]) {
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| (self.holds)(bytes))) {
                eprintln!("{} breaks its promise for b\"{}\"", self.name, bytes.escape_ascii());
                std::panic::resume_unwind(panic);
            }
        }

        /// Much of each input, and of each word: neither time nor the stack grows with what a stranger sends.
        #[track_caller]
        fn try_long(&self) {
            let words = self.words.iter().map(|word| word.as_bytes());
            for part in self.real.iter().copied().chain(words).filter(|part| !part.is_empty()) {
                let mut bytes = part.repeat(LONG / part.len());
                bytes.extend_from_slice(part);
                let begun = computed();
                self.try_one(&bytes);
                let took = computed() - begun;
                let shown = &part[..part.len().min(40)];
                assert!(took < AT_ONCE, "{}: {LONG} bytes of b\"{}\" took {took:?}", self.name, shown.escape_ascii());
            }
        }
    }

    /// For how long this thread has computed: a busy machine does not make it longer.
    fn computed() -> Duration {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).expect("less than a second"))
    }

    /// An input that is like a known one.
    fn made(rng: &mut Rng, known: &[Vec<u8>], words: &[&str]) -> Vec<u8> {
        let mut bytes = rng.choice(known).cloned().unwrap_or_default();
        for _ in 0..rng.usize(1..8) {
            change(rng, &mut bytes, known, words);
            bytes.truncate(LONGEST);
        }
        bytes
    }

    fn change(rng: &mut Rng, bytes: &mut Vec<u8>, known: &[Vec<u8>], words: &[&str]) {
        let at = rng.usize(0..=bytes.len());
        let end = rng.usize(at..=bytes.len().min(at + 64));
        match rng.u8(0..9) {
            0 if at < bytes.len() => bytes[at] ^= 1 << rng.u8(0..8),
            1 if at < bytes.len() => {
                bytes[at] = *rng.choice(b"\0\n\r \"'\\<>{}[]:;=/.~\x1b\x7f\x80\xc3\xff").expect("not empty");
            }
            2 | 3 => {
                let word = rng.choice(words).copied().unwrap_or_default();
                bytes.splice(at..at, word.bytes());
            }
            4 => drop(bytes.drain(at..end)),
            5 => {
                let again = bytes[at..end].repeat(rng.usize(1..40));
                bytes.splice(at..at, again);
            }
            6 => {
                let other = rng.choice(known).cloned().unwrap_or_default();
                let from = rng.usize(0..=other.len());
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
            7 => bytes.truncate(at),
            _ => {
                let random: Vec<u8> = (0..rng.usize(1..6)).map(|_| rng.u8(..)).collect();
                bytes.splice(at..at, random);
            }
        }
    }

    #[test]
    fn a_broken_promise_is_noticed() {
        let target = Target {
            name: "no reader",
            real: &[b"abcdef"],
            words: &["needle"],
            tries: 1000,
            holds: |bytes| assert!(!bytes.windows(6).any(|six| six == b"needle")),
        };
        let quiet = std::panic::take_hook();
        std::panic::set_hook(Box::new(|_| {}));
        let noticed = catch_unwind(|| target.try_it()).is_err();
        std::panic::set_hook(quiet);
        assert!(noticed);
    }
}

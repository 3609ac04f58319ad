//! How much of a machine's processors a step may use.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Processors that a step and all that it starts may use at once; counted in thousandths of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Cpus(u32);

impl Cpus {
    /// The least that Linux keeps: 1 ms in each period of 100 ms.
    pub const LEAST: Self = Self(10);

    /// `2.0`, `0.5`, rounded to thousandths; `None` below [`LEAST`](Self::LEAST), and for what no machine has.
    pub fn of(number: f64) -> Option<Self> {
        let thousandths = (number * 1000.0).round();
        // The bounds make the conversion exact; what is no number is outside of them.
        (f64::from(Self::LEAST.0)..=f64::from(u32::MAX)).contains(&thousandths).then_some(Self(thousandths as u32))
    }

    /// What of each `period` it is, added up over all processors; in the period's unit.
    pub fn of_each(self, period: u64) -> u64 {
        u64::from(self.0) * period / 1000
    }
}

impl fmt::Display for Cpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", f64::from(self.0) / 1000.0)
    }
}

#[cfg(test)]
mod tests {
    use super::Cpus;

    #[test]
    fn numbers_are_shares_of_a_period() {
        let check = |number: f64, expected: Option<(u64, &str)>| {
            let found = Cpus::of(number).map(|cpus| (cpus.of_each(100_000), cpus.to_string()));
            assert_eq!(found, expected.map(|(quota, shown)| (quota, shown.to_owned())), "{number}");
        };
        check(2.0, Some((200_000, "2")));
        check(0.5, Some((50_000, "0.5")));
        check(1.3337, Some((133_400, "1.334")));
        check(0.01, Some((1_000, "0.01")));
        check(0.009, None);
        check(0.0, None);
        check(-1.0, None);
        check(f64::NAN, None);
        check(f64::INFINITY, None);
    }
}

//! How many requests a host may be sent in how much time. Pure: what was spent and the present time are handed in.

use std::time::Duration;

use super::time::Timestamp;

/// At most so many requests within any window of this length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bound {
    /// The window's length.
    pub window: Duration,
    /// Requests within it.
    pub most: u32,
}

/// Several bounds that hold together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget(pub &'static [Bound]);

/// What a request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// A final word: all of the budget.
    Final,
    /// A word that a final one will follow: half of it, so that what is begun can also be ended.
    Pending,
}

impl Budget {
    /// How long a request counts.
    pub fn memory(self) -> Duration {
        self.0.iter().map(|bound| bound.window).max().unwrap_or_default()
    }

    /// How many requests may be sent now, when earlier ones were sent at `spent` (in rising order).
    pub fn left(self, wanted: Use, spent: &[Timestamp], now: Timestamp) -> u32 {
        let left = |bound: &Bound| bound.most_for(wanted).saturating_sub(bound.counting(spent, now));
        self.0.iter().map(left).min().unwrap_or(u32::MAX)
    }

    /// How long until a request may be sent; zero when one may now.
    pub fn wait(self, wanted: Use, spent: &[Timestamp], now: Timestamp) -> Duration {
        let wait = |bound: &Bound| {
            let counting = bound.counting(spent, now);
            let most = bound.most_for(wanted).max(1);
            // The one whose leaving makes room, counted from the newest.
            let leaves = (counting >= most).then(|| spent[spent.len() - most as usize]);
            leaves.map_or(Duration::ZERO, |leaves| leaves.plus(bound.window).since(now))
        };
        self.0.iter().map(wait).max().unwrap_or_default()
    }
}

impl Bound {
    fn most_for(&self, wanted: Use) -> u32 {
        match wanted {
            Use::Final => self.most,
            Use::Pending => self.most.div_ceil(2),
        }
    }

    /// How many of `spent` count at `now`.
    fn counting(&self, spent: &[Timestamp], now: Timestamp) -> u32 {
        let gone = spent.partition_point(|at| at.plus(self.window) <= now);
        u32::try_from(spent.len() - gone).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1000;
    const BUDGET: Budget = Budget(&[
        Bound { window: Duration::from_secs(10), most: 4 },
        Bound { window: Duration::from_secs(60), most: 6 },
    ]);

    #[test]
    fn the_strictest_bound_decides() {
        // Sent at these seconds; at this one: how many more final words and pendings, and how long until one may go.
        let check = |spent: &[i64], now: i64, finals: u32, pendings: u32, waits: (u64, u64)| {
            let spent: Vec<Timestamp> = spent.iter().map(|at| Timestamp(at * SECOND)).collect();
            let now = Timestamp(now * SECOND);
            let left = |wanted| BUDGET.left(wanted, &spent, now);
            let wait = |wanted| BUDGET.wait(wanted, &spent, now).as_secs();
            assert_eq!((left(Use::Final), left(Use::Pending)), (finals, pendings), "{spent:?} at {now:?}");
            assert_eq!((wait(Use::Final), wait(Use::Pending)), waits, "{spent:?} at {now:?}");
        };
        check(&[], 0, 4, 2, (0, 0));
        check(&[0], 0, 3, 1, (0, 0));
        check(&[0, 1], 1, 2, 0, (0, 9));
        check(&[0, 1, 2, 3], 3, 0, 0, (7, 58));
        check(&[0, 1, 2, 3], 9, 0, 0, (1, 52));
        check(&[0, 1, 2, 3], 10, 1, 0, (0, 51));
        check(&[0, 1, 2, 3], 13, 2, 0, (0, 48));
        check(&[0, 1, 2, 3, 20, 21], 30, 0, 0, (30, 33));
        check(&[0, 1, 2, 3, 20, 21], 60, 1, 0, (0, 3));
        check(&[0, 1, 2, 3, 20, 21], 81, 4, 2, (0, 0));
    }

    #[test]
    fn whoever_asks_at_every_moment_never_breaks_a_bound() {
        let mut spent: Vec<Timestamp> = Vec::new();
        for tick in 0..4000 {
            let now = Timestamp(tick * 100);
            let wanted = if tick % 3 == 0 { Use::Pending } else { Use::Final };
            let left = BUDGET.left(wanted, &spent, now);
            assert_eq!(left > 0, BUDGET.wait(wanted, &spent, now).is_zero(), "at {tick}");
            spent.extend((0..left.min(1)).map(|_| now));
        }
        for bound in BUDGET.0 {
            let most = spent
                .iter()
                .map(|from| spent.iter().filter(|at| *at >= from && at.since(*from) < bound.window).count());
            assert_eq!(most.max(), Some(bound.most as usize), "{bound:?} is used and never broken");
        }
    }
}

//! Points in time as they are stored and shown. Deadlines never use these: they use a monotonic clock.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Milliseconds since 1970-01-01T00:00:00Z; written as RFC 3339 in JSON and on pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// The time that passed from `earlier` to this; zero when the wall clock stepped back between.
    pub fn since(self, earlier: Timestamp) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// This point, moved later.
    pub fn plus(self, wait: Duration) -> Timestamp {
        Timestamp(self.0.saturating_add(i64::try_from(wait.as_millis()).unwrap_or(i64::MAX)))
    }

    fn system_time(self) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(u64::try_from(self.0).unwrap_or(0))
    }
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        let millis = time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
        Timestamp(i64::try_from(millis).unwrap_or(i64::MAX))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", humantime::format_rfc3339_millis(self.system_time()))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        humantime::parse_rfc3339(&text).map(Timestamp::from).map_err(serde::de::Error::custom)
    }
}

/// A duration as people read it on a status: `0.4s`, `9s`, `1m 05s`, `2h 10m`.
pub fn brief(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0 => format!("{:.1}s", duration.as_secs_f64()),
        1..60 => format!("{}s", duration.as_secs_f64().round() as u64),
        60..3600 => format!("{}m {:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h {:02}m", seconds / 3600, seconds % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brief_durations() {
        let check = |millis, text: &str| assert_eq!(brief(Duration::from_millis(millis)), text);
        check(0, "0.0s");
        check(420, "0.4s");
        check(8_700, "9s");
        check(65_000, "1m 05s");
        check(7_800_000, "2h 10m");
    }

    #[test]
    fn timestamps_are_rfc_3339_both_ways() {
        let stamp = Timestamp(1_763_820_000_123);
        let json = serde_json::to_string(&stamp).expect("a string");
        assert_eq!(json, "\"2025-11-22T14:00:00.123Z\"");
        assert_eq!(serde_json::from_str::<Timestamp>(&json).expect("same form"), stamp);
    }
}

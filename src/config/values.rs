//! The small languages within values: durations, sizes, and which known word somebody may have meant.

use std::time::Duration;

/// Units of sizes, with their bytes. `k` is 1000 and `Ki` is 1024, as IEC 80000-13 has it.
pub(super) const SIZE_UNITS: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("B", 1),
];

/// `30s`, `1h 30m`, `90d`; the error fits after "… is not a duration: ".
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|_| "write a number with a unit, like \"30s\", \"20m\", \"90d\"".to_owned())
}

/// `64MiB`, `1.5GB`, `512` (bytes); the error fits after "… is not a size: ".
pub(super) fn size(text: &str) -> Result<u64, String> {
    let wrong = || "write a number with a unit, like \"64MiB\" or \"1.2MB\" (KiB = 1024, kB = 1000)".to_owned();
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = (&text[..digits], text[digits..].trim());
    let factor = match unit {
        "" => 1,
        _ => SIZE_UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?.1,
    };
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(factor).ok_or_else(|| "it is larger than any disk".to_owned());
    }
    let fraction: f64 = number.parse().map_err(|_| wrong())?;
    Ok((fraction * factor as f64).round() as u64)
}

/// The known word that is nearest to a misspelt one, if one is near enough to be meant.
pub(super) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&word.to_lowercase(), candidate), candidate))
        .filter(|(distance, candidate)| *distance <= 1.max(candidate.len().min(word.len()) / 3))
        .min()
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        let check = |text, bytes| assert_eq!(size(text).ok(), bytes, "{text}");
        check("64MiB", Some(64 << 20));
        check("4 GiB", Some(4 << 30));
        check("1.2MB", Some(1_200_000));
        check("300kB", Some(300_000));
        check("512", Some(512));
        check("0B", Some(0));
        for wrong in ["", "MiB", "64mib", "64 M", "-1kB", "1.2.3MB", "99999999999TiB"] {
            check(wrong, None);
        }
    }

    #[test]
    fn durations() {
        let check =
            |text, seconds: Option<u64>| assert_eq!(duration(text).ok().map(|d| d.as_secs()), seconds, "{text}");
        check("30s", Some(30));
        check("1h 30m", Some(5400));
        check("90d", Some(7_776_000));
        for wrong in ["", "30", "5 parsecs", "-3s"] {
            check(wrong, None);
        }
    }

    #[test]
    fn nearest_words() {
        let known = ["listen", "public_url", "read", "repo"];
        assert_eq!(nearest("lisen", known), Some("listen"));
        assert_eq!(nearest("publicurl", known), Some("public_url"));
        assert_eq!(nearest("Read", known), Some("read"));
        assert_eq!(nearest("repos", known), Some("repo"));
        assert_eq!(nearest("colour", known), None);
    }
}

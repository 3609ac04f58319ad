//! A strict reading of JSON: what two readers could understand differently is refused.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// How many objects and arrays may stand inside one another, the outermost included.
const DEEPEST: usize = 128;

/// Refuses what is not one JSON document in UTF-8, repeats a key anywhere, or is nested deeper than 128.
///
/// serde's structs notice a repeated key only among the fields they know; between us and a proxy or an
/// audit that reads the other value, a repeated key is a way to say two things at once.
pub(super) fn check(bytes: &[u8]) -> Result<(), serde_json::Error> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    // The library's own limit is one less than the contract's; ours below takes its place.
    reader.disable_recursion_limit();
    Strict { room: DEEPEST }.deserialize(&mut reader)?;
    reader.end()
}

/// Walks a value and keeps nothing of it.
#[derive(Clone, Copy)]
struct Strict {
    /// How many levels may still open below this one.
    room: usize,
}

impl Strict {
    fn deeper<E: Error>(self) -> Result<Self, E> {
        match self.room.checked_sub(1) {
            Some(room) => Ok(Self { room }),
            None => Err(E::custom(format_args!("nested deeper than {DEEPEST}"))),
        }
    }
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let below = self.deeper()?;
        while items.next_element_seed(below)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        let below = self.deeper()?;
        let mut seen = HashSet::new();
        while let Some(Key(key)) = entries.next_key()? {
            if seen.contains(&key) {
                let shown: String = key.chars().take(64).collect();
                return Err(A::Error::custom(format_args!("the key {shown:?} comes twice in one object")));
            }
            seen.insert(key);
            entries.next_value_seed(below)?;
        }
        Ok(())
    }
}

/// An object's key, borrowed from the body wherever it holds no escape.
#[derive(Deserialize, PartialEq, Eq, Hash)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

#[cfg(test)]
mod tests {
    use super::*;

    fn check_text(text: impl AsRef<[u8]>, expected: Result<(), &str>) {
        match (check(text.as_ref()), expected) {
            (Ok(()), Ok(())) => {}
            (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error}"),
            (got, _) => panic!("{:?}: {got:?}", String::from_utf8_lossy(&text.as_ref()[..20.min(text.as_ref().len())])),
        }
    }

    #[test]
    fn one_reading_or_none() {
        check_text(r#"{"a":1,"b":[{"a":2},{"a":-3.5e2,"c":null,"d":true,"e":"\u00e9\u0000"}]}"#, Ok(()));
        check_text(r#"{"after":"1","after":"2"}"#, Err("\"after\" comes twice"));
        check_text(r#"{"a":[{"b":{"x":1,"y":2,"\u0078":3}}]}"#, Err("\"x\" comes twice"));
        check_text("", Err("EOF"));
        check_text("{} {}", Err("trailing"));
        check_text("{'a':1}", Err("key must be a string"));
        check_text(b"{\"a\":\"\xff\"}", Err("unicode"));
        check_text(r#"{"a":"\ud800"}"#, Err("hex escape"));
        check_text("NaN", Err("expected"));
    }

    #[test]
    fn the_limit_is_128_levels() {
        let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        check_text(nested(128), Ok(()));
        check_text(nested(129), Err("deeper than 128"));
        check_text("[".repeat(1_000_000), Err("deeper than 128"));
        check_text("{\"a\":".repeat(10_000), Err("deeper than 128"));
    }
}

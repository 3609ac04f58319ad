//! Values that count something: numbers, processors, times, sizes; each more than nothing.

use std::time::Duration;

use super::{Located, Section};
use crate::config::document::{Node, Value};
use crate::config::problem::{Kind, Place, Problem};
use crate::config::schema::Shape;
use crate::config::values;
use crate::domain::cpus::Cpus;

impl Section<'_> {
    pub(in crate::config) fn count(&mut self, key: &'static str) -> Option<Located<u64>> {
        let node = self.take_as(key, Shape::Count)?.node;
        let count = match &node.value {
            Value::Integer(number) => u64::try_from(*number).ok(),
            Value::Word(word) => word.parse().ok(),
            _ => {
                self.mismatch(key, &node, "a whole number");
                return None;
            }
        };
        if count.is_none() {
            let message = format!("`{}` must be a whole number, 0 or more", self.key(key));
            self.findings.push(Problem::at(Kind::Wrong, &node.place, message));
        }
        Some(Located { value: count?, place: node.place })
    }

    /// A bound of zero would stop everything, so it is taken for a mistake.
    pub(in crate::config) fn positive(&mut self, key: &'static str) -> Option<u64> {
        let count = self.count(key);
        self.refine(key, Shape::Positive);
        let count = count?;
        self.above_zero(key, &count.place, count.value > 0).then_some(count.value)
    }

    /// A number of processors, whole or not.
    pub(in crate::config) fn cpus(&mut self, key: &'static str) -> Option<Cpus> {
        let node = self.take_as(key, Shape::Cpus)?.node;
        let number = match &node.value {
            Value::Integer(number) => Some(*number as f64),
            Value::Fraction(number) => Some(*number),
            Value::Word(word) => word.parse().ok(),
            _ => None,
        };
        let Some(number) = number else {
            self.mismatch(key, &node, "a number of processors");
            return None;
        };
        let cpus = Cpus::of(number);
        if cpus.is_none() {
            let message = format!("`{}` must be {} or more", self.key(key), Cpus::LEAST);
            self.wrong(
                &node.place,
                message,
                "write a number of processors, like 2 or 0.5; without the line there is no bound",
            );
        }
        cpus
    }

    fn above_zero(&mut self, key: &str, place: &Place, holds: bool) -> bool {
        if !holds {
            let message = format!("`{}` must be more than zero", self.key(key));
            self.findings.push(Problem::at(Kind::Wrong, place, message));
        }
        holds
    }

    pub(in crate::config) fn duration(&mut self, key: &'static str) -> Option<Duration> {
        let text = self.text(key);
        self.refine(key, Shape::Duration);
        let text = text?;
        match values::duration(&text.value) {
            Ok(duration) => self.above_zero(key, &text.place, !duration.is_zero()).then_some(duration),
            Err(fix) => {
                self.wrong(&text.place, format!("{:?} is not a duration", text.value), fix);
                None
            }
        }
    }

    /// A duration of at least `shortest`, or `"off"`, which is `Some(None)`.
    pub(in crate::config) fn duration_or_off(
        &mut self,
        key: &'static str,
        shortest: Duration,
    ) -> Option<Option<Duration>> {
        let text = self.text(key);
        self.refine(key, Shape::DurationOr("off"));
        let text = text?;
        if text.value == "off" {
            return Some(None);
        }
        let name = self.key(key);
        match values::duration(&text.value) {
            Ok(duration) if duration >= shortest => Some(Some(duration)),
            Ok(_) => {
                let shortest = humantime::format_duration(shortest);
                self.wrong(
                    &text.place,
                    format!("`{name}` must be {shortest} or longer"),
                    format!("write \"{shortest}\""),
                );
                None
            }
            Err(_) => {
                let message = format!("`{name}` is \"off\" or a duration, not {:?}", text.value);
                self.wrong(&text.place, message, "write \"off\", or a number with a unit, like \"1m\"");
                None
            }
        }
    }

    pub(in crate::config) fn size(&mut self, key: &'static str) -> Option<u64> {
        let node = self.take_as(key, Shape::Size)?.node;
        self.size_of(key, &node)
    }

    /// A table of sizes under names that are the writer's own; `None` for a size that was reported.
    pub(in crate::config) fn sizes(&mut self, key: &'static str) -> Vec<(Located<String>, Option<u64>)> {
        let entries = self.table(key).map(|table| table.entries).unwrap_or_default();
        self.refine(key, Shape::Sizes);
        let mut sizes = Vec::with_capacity(entries.len());
        for (name, entry) in entries {
            let bytes = self.size_of(&format!("{key}.{name:?}"), &entry.node);
            sizes.push((Located { place: entry.key, value: name }, bytes));
        }
        sizes
    }

    fn size_of(&mut self, key: &str, node: &Node) -> Option<u64> {
        let bytes = match &node.value {
            Value::Integer(number) => u64::try_from(*number).unwrap_or(0),
            Value::Text(text) | Value::Word(text) => match values::size(text) {
                Ok(bytes) => bytes,
                Err(fix) => {
                    self.wrong(&node.place, format!("{text:?} is not a size"), fix);
                    return None;
                }
            },
            _ => {
                self.mismatch(key, node, "a size like \"300kB\"");
                return None;
            }
        };
        self.above_zero(key, &node.place, bytes > 0).then_some(bytes)
    }
}

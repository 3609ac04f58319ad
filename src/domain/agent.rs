//! Agents: the processes that run builds, as everybody sees them.

use serde::{Deserialize, Serialize};

use super::time::Timestamp;

/// What an operator asked of an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Order {
    /// Claims builds.
    #[default]
    Run,
    /// Claims nothing; what runs ends as it would.
    Pause,
    /// As [`Order::Pause`], and `hookmill agent` ends once nothing runs. It is forgotten at the next start.
    Drain,
}

impl Order {
    /// The word in the store and the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Order::Run => "run",
            Order::Pause => "pause",
            Order::Drain => "drain",
        }
    }
}

impl std::str::FromStr for Order {
    type Err = super::repo::BadName;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "run" => Ok(Order::Run),
            "pause" => Ok(Order::Pause),
            "drain" => Ok(Order::Drain),
            _ => Err(super::repo::BadName(format!("{text:?} is not an order"))),
        }
    }
}

/// How an agent stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Standing {
    /// Claims builds.
    Working,
    /// Was asked to pause.
    Paused,
    /// Was asked to drain.
    Draining,
    /// Nothing was heard of it for as long as a lease: it ended, or can't reach the store.
    Away,
}

impl Standing {
    /// The word in the API and on pages.
    pub fn as_str(self) -> &'static str {
        match self {
            Standing::Working => "working",
            Standing::Paused => "paused",
            Standing::Draining => "draining",
            Standing::Away => "away",
        }
    }
}

/// An agent, as the API shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Agent {
    /// `[agent] name`, unique among those that work on one store.
    pub name: String,
    /// Its program's.
    pub version: String,
    /// The layers that confine its builds, in words.
    pub sandbox: String,
    /// How many builds it runs at once.
    pub slots: u32,
    /// How many it ran when it was last heard of.
    pub busy: u32,
    /// What was asked of it.
    pub order: Order,
    /// How it stands.
    pub standing: Standing,
    /// When it started.
    pub started_at: Timestamp,
    /// When it was last heard of.
    pub seen_at: Timestamp,
    /// How little room its disk has, where that holds builds back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_low: Option<String>,
    /// Since when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_low_since: Option<Timestamp>,
}

impl Agent {
    /// Whether it would claim a build now.
    pub fn has_room(&self) -> bool {
        self.standing == Standing::Working && self.busy < self.slots && self.disk_low.is_none()
    }

    /// Whether it claims nothing for want of room on its disk.
    pub fn is_held_back(&self) -> bool {
        self.standing == Standing::Working && self.disk_low.is_some()
    }
}

/// Why a queued build has not begun, in one sentence; `None` when one of the agents has room and is about to claim it.
pub fn why_it_waits(agents: &[Agent]) -> Option<String> {
    let able: Vec<&Agent> = agents.iter().filter(|agent| agent.slots > 0).collect();
    let here: Vec<&&Agent> = able.iter().filter(|agent| agent.standing != Standing::Away).collect();
    let working: Vec<&&&Agent> = here.iter().filter(|agent| agent.standing == Standing::Working).collect();
    if able.is_empty() {
        return Some("no agent is there: start `hookmill agent`, or set agent.slots above 0".to_owned());
    }
    if here.is_empty() {
        let last = able.iter().max_by_key(|agent| agent.seen_at).map_or("", |agent| agent.name.as_str());
        return Some(format!("no agent was heard of lately; the last was {last}"));
    }
    if working.is_empty() {
        let names: Vec<&str> = here.iter().map(|agent| agent.name.as_str()).collect();
        let what = if names.len() == 1 { "the agent is" } else { "every agent is" };
        let first = names.first().copied().unwrap_or_default();
        return Some(format!("{what} paused ({}): hookmill agents resume {first}", names.join(", ")));
    }
    let of_a_free_slot = working.iter().filter(|agent| agent.is_held_back() && agent.busy < agent.slots);
    let held_back = of_a_free_slot.filter_map(|agent| Some((agent, agent.disk_low.as_ref()?))).next();
    if let Some((agent, words)) = held_back.filter(|_| working.iter().all(|agent| !agent.has_room())) {
        return Some(format!("the disk of agent {} has {words}", agent.name));
    }
    let slots: u32 = working.iter().map(|agent| agent.slots).sum();
    let busy = working.iter().all(|agent| !agent.has_room());
    busy.then(|| if slots == 1 { "the only slot is busy".to_owned() } else { format!("all {slots} slots are busy") })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agent(name: &str, standing: Standing, busy: u32) -> Agent {
        Agent {
            name: name.to_owned(),
            version: "0.1.0".to_owned(),
            sandbox: String::new(),
            slots: 2,
            busy,
            order: Order::Run,
            standing,
            started_at: Timestamp(0),
            seen_at: Timestamp(0),
            disk_low: None,
            disk_low_since: None,
        }
    }

    #[test]
    fn why_builds_wait() {
        let check = |agents: &[Agent], said: Option<&str>| assert_eq!(why_it_waits(agents).as_deref(), said);
        let none = Some("no agent is there: start `hookmill agent`, or set agent.slots above 0");
        check(&[], none);
        check(&[Agent { slots: 0, ..agent("door", Standing::Working, 0) }], none);
        check(&[agent("a", Standing::Away, 0)], Some("no agent was heard of lately; the last was a"));
        let paused =
            [agent("a", Standing::Paused, 0), agent("b", Standing::Draining, 1), agent("c", Standing::Away, 0)];
        check(&paused[..1], Some("the agent is paused (a): hookmill agents resume a"));
        check(&paused, Some("every agent is paused (a, b): hookmill agents resume a"));
        check(&[agent("a", Standing::Paused, 0), agent("b", Standing::Working, 2)], Some("all 2 slots are busy"));
        check(&[agent("a", Standing::Paused, 0), agent("b", Standing::Working, 1)], None);
        let full = |busy| Agent { disk_low: Some("5 MiB free".to_owned()), ..agent("f", Standing::Working, busy) };
        check(&[full(0), agent("b", Standing::Working, 2)], Some("the disk of agent f has 5 MiB free"));
        check(&[full(0), agent("b", Standing::Working, 1)], None);
        check(&[full(2)], Some("all 2 slots are busy"));
    }
}

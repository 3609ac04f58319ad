//! Health, readiness, figures.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};
use serde_json::{Map, json};

use crate::domain::time::Timestamp;

use super::Pages;
use super::answer::Refused;
use super::records::Counts;

/// `GET /healthz`: the process answers. Nothing else is looked at.
pub(super) async fn alive() -> &'static str {
    "ok"
}

/// `GET /readyz`: whether builds can be taken and run; the parts only for those who may read.
pub(super) async fn ready(State(pages): State<Arc<Pages>>, headers: HeaderMap) -> Response {
    let parts = pages.records.parts().await;
    let ready = parts.iter().all(|part| part.ok || !part.needed);
    let mut answer = json!({"ready": ready});
    if pages.site().may_read_all(&headers) {
        let shown = parts.into_iter().map(|part| (part.name.to_owned(), json!({"ok": part.ok, "detail": part.detail})));
        answer["parts"] = shown.collect::<Map<_, _>>().into();
    }
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(answer)).into_response()
}

/// `GET /metrics`, in the `OpenMetrics` text format, which Prometheus reads.
pub(super) async fn metrics(State(pages): State<Arc<Pages>>, headers: HeaderMap) -> Result<Response, Refused> {
    if !pages.site().may_read_all(&headers) {
        return Err(Refused::not_found());
    }
    let counts = pages.records.counts().await?;
    let text = exposition(&counts, pages.logs.bytes_written());
    Ok(([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text).into_response())
}

type Gauges<const N: usize> = Family<[(&'static str, &'static str); N], Gauge<u64, AtomicU64>>;

// Labels are words of ours, or of whoever configured the server. A repository's or branch's name as a label would let strangers make series.
fn exposition(counts: &Counts, log_bytes: u64) -> String {
    let mut registry = Registry::with_prefix("hookmill");
    let builds = Gauges::default();
    for &(state, outcome, count) in &counts.builds {
        let outcome = outcome.map_or("", |outcome| outcome.as_str());
        builds.get_or_create(&[("state", state.as_str()), ("outcome", outcome)]).set(count);
    }
    registry.register("builds", "Builds that are kept, by state and outcome", builds);

    let deliveries = Family::<[(&'static str, &'static str); 1], Counter>::default();
    for &(answer, count) in &counts.deliveries {
        deliveries.get_or_create(&[("answer", answer)]).inc_by(count);
    }
    registry.register("deliveries", "Requests to hooks since the start, by class of answer", deliveries);

    let outbox = Gauges::default();
    outbox.get_or_create(&[("state", "pending")]).set(counts.outbox_pending);
    outbox.get_or_create(&[("state", "dead")]).set(counts.outbox_dead);
    registry.register("statuses", "Statuses that wait to be sent, or were given up", outbox);

    let by_forge = |of: &[(String, u64)]| {
        let family = Family::<[(&'static str, String); 1], Gauge<u64, AtomicU64>>::default();
        for (forge, value) in of {
            family.get_or_create(&[("forge", forge.clone())]).set(*value);
        }
        family
    };
    let paused = by_forge(&counts.paused);
    registry.register_with_unit("forge_pause", "How long forges are left alone still", Unit::Seconds, paused);
    let ends = |(forge, at): &(String, Timestamp)| (forge.clone(), u64::try_from(at.0 / 1000).unwrap_or(0));
    let ends = by_forge(&counts.token_ends.iter().map(ends).collect::<Vec<_>>());
    let help = "When forges' tokens end, since 1970, where they say so";
    registry.register_with_unit("forge_token_end_timestamp", help, Unit::Seconds, ends);

    let queued = Gauge::<u64, AtomicU64>::default();
    queued.set(counts.queued);
    registry.register("queue_length", "Builds that wait for a slot", queued);

    let slots = Gauges::default();
    slots.get_or_create(&[("state", "busy")]).set(counts.slots_busy);
    slots.get_or_create(&[("state", "free")]).set(counts.slots.saturating_sub(counts.slots_busy));
    registry.register("slots", "Slots of this process's agent", slots);

    let lookups = Family::<[(&'static str, &'static str); 2], Counter>::default();
    for &(level, hits, misses) in &counts.caches {
        for (found, count) in [("hit", hits), ("miss", misses)] {
            lookups.get_or_create(&[("level", level.as_str()), ("result", found)]).inc_by(count);
        }
    }
    registry.register("cache_lookups", "Snapshots that builds looked for since the start", lookups);

    let (looks, missed) = (Family::<[(&'static str, &'static str); 1], Counter>::default(), Family::default());
    let found: &Family<[(&'static str, &'static str); 1], Counter> = &missed;
    for &(result, count) in &counts.looks {
        looks.get_or_create(&[("result", result)]).inc_by(count);
    }
    for &(kind, count) in &counts.missed {
        found.get_or_create(&[("kind", kind)]).inc_by(count);
    }
    registry.register("sweep_looks", "Looks at a repository for what no delivery told of, since the start", looks);
    registry.register("sweep_found", "What they found", missed);
    let sent_again: Counter = Counter::default();
    sent_again.inc_by(counts.sent_again);
    registry.register("deliveries_sent_again", "Failed deliveries that a forge was asked to send again", sent_again);

    let snapshots = Gauge::<u64, AtomicU64>::default();
    snapshots.set(counts.snapshot_bytes);
    registry.register_with_unit("snapshots", "Kept for later builds on this agent's disk", Unit::Bytes, snapshots);

    if let Some((bytes, inodes)) = counts.disk_free {
        let (room, files) = (Gauge::<u64, AtomicU64>::default(), Gauge::<u64, AtomicU64>::default());
        room.set(bytes);
        files.set(inodes);
        registry.register_with_unit("disk_free", "Free on the disk of this process's data", Unit::Bytes, room);
        registry.register(
            "disk_free_inodes",
            "Files that may still be made there; 0 where they are not counted",
            files,
        );
    }

    let bytes: Counter = Counter::default();
    bytes.inc_by(log_bytes);
    registry.register_with_unit("log", "Step output written to disk since the start", Unit::Bytes, bytes);

    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).expect("a String takes any text");
    text
}

#[cfg(test)]
mod tests {
    use crate::domain::build::State;
    use crate::domain::outcome::Outcome;
    use crate::domain::snapshot::Level;

    use super::*;

    #[test]
    fn figures_are_told_with_words_of_ours_only() {
        let counts = Counts {
            builds: vec![(State::Finished, Some(Outcome::Passed), 3), (State::Queued, None, 1)],
            deliveries: vec![("202", 4)],
            paused: vec![("github".into(), 61)],
            token_ends: vec![("github".into(), Timestamp(1_800_000_000_500))],
            slots: 2,
            slots_busy: 1,
            caches: vec![(Level::Packages, 5, 2)],
            snapshot_bytes: 81_000_000,
            disk_free: Some((5_000_000, 700)),
            looks: vec![("ok", 6)],
            missed: vec![("push", 3)],
            sent_again: 2,
            ..Counts::default()
        };
        let text = exposition(&counts, 99);
        for line in [
            r#"hookmill_builds{state="finished",outcome="passed"} 3"#,
            r#"hookmill_builds{state="queued",outcome=""} 1"#,
            r#"hookmill_deliveries_total{answer="202"} 4"#,
            r#"hookmill_slots{state="free"} 1"#,
            r#"hookmill_cache_lookups_total{level="packages",result="hit"} 5"#,
            r#"hookmill_cache_lookups_total{level="packages",result="miss"} 2"#,
            r#"hookmill_sweep_looks_total{result="ok"} 6"#,
            r#"hookmill_sweep_found_total{kind="push"} 3"#,
            "hookmill_deliveries_sent_again_total 2",
            "hookmill_snapshots_bytes 81000000",
            "hookmill_disk_free_bytes 5000000",
            "hookmill_disk_free_inodes 700",
            r#"hookmill_forge_pause_seconds{forge="github"} 61"#,
            r#"hookmill_forge_token_end_timestamp_seconds{forge="github"} 1800000000"#,
            "hookmill_log_bytes_total 99",
            "# EOF",
        ] {
            assert!(text.lines().any(|there| there == line), "{line} in\n{text}");
        }
    }
}

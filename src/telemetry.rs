//! Logs for operators: one line per delivery, state change and posted status.
//!
//! Values appear as fields; a secret, a payload or an environment's value never does.

use std::io::IsTerminal;

use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// What `HOOKMILL_LOG` says when it is not set.
const DEFAULT_FILTER: &str = "info";

/// Sends log lines to standard error: text on a terminal, else one JSON object a line.
///
/// `HOOKMILL_LOG` takes targets and levels (`info`, `hookmill::worker=debug`), `HOOKMILL_LOG_FORMAT` takes `text` or
/// `json`.
///
/// # Errors
/// The sentence for the operator when one of the two variables can't be read.
pub fn init() -> Result<(), String> {
    let filter = std::env::var("HOOKMILL_LOG").unwrap_or_else(|_| DEFAULT_FILTER.to_owned());
    let targets: Targets = filter.parse().map_err(|error| {
        format!("HOOKMILL_LOG={filter:?} can't be read ({error}); write a level (info) or target=level pairs")
    })?;
    let json = match std::env::var("HOOKMILL_LOG_FORMAT").as_deref() {
        Ok("json") => true,
        Ok("text") => false,
        Ok(other) => return Err(format!("HOOKMILL_LOG_FORMAT={other:?}: write text or json")),
        Err(_) => !std::io::stderr().is_terminal(),
    };
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let layer = if json {
        layer.json().flatten_event(true).with_current_span(false).with_span_list(false).boxed()
    } else {
        let colour =
            std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()) && std::io::stderr().is_terminal();
        layer.with_ansi(colour).with_target(false).boxed()
    };
    tracing_subscriber::registry().with(layer.with_filter(targets)).init();
    Ok(())
}

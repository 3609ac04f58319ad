//! `hookmill cache ls`.

use std::io::IsTerminal;
use std::time::SystemTime;

use serde_json::{Value, json};

use super::super::output::Out;
use super::super::table::{age, aligned, headings, width};
use super::{Kept, Refusal, ref_of};
use crate::cache::Listed;
use crate::domain::sentence::{one_line, size};
use crate::domain::time::Timestamp;

/// The characters of a key that are shown: enough to tell two of a scope apart.
pub(super) const KEY: usize = 10;

pub(super) fn run(kept: &Kept, repo: Option<&str>, json: bool, out: &mut Out) -> Result<bool, Refusal> {
    let mut listed = kept.cache.list();
    if let Some(text) = repo {
        let repo = kept.repo(text)?;
        listed.retain(|listed| listed.record.scope.repo == repo);
    }
    let bytes = kept.cache.bytes();
    if json {
        out.line(json!({
            "data_dir": kept.data_dir,
            "bytes": bytes,
            "quota_bytes": kept.quota,
            "snapshots": listed.iter().map(document).collect::<Vec<_>>(),
        }));
        return Ok(true);
    }
    if listed.is_empty() {
        eprintln!("hookmill: {}", kept.nothing());
        return Ok(true);
    }
    for line in table(&listed) {
        out.line(line);
    }
    // What shares layers shows them in each row, and they take their room once.
    eprintln!("\n{} in all, of {} ([retention] snapshots)", size(bytes), size(kept.quota));
    Ok(true)
}

/// Aligned and cut to the terminal, or columns with tabs between for another program.
fn table(listed: &[Listed]) -> Vec<String> {
    let on_terminal = std::io::stdout().is_terminal();
    let now = Timestamp::from(SystemTime::now());
    let mut rows: Vec<Vec<String>> = Vec::new();
    if on_terminal {
        rows.push(headings(&["REPOSITORY", "REF", "OF", "SIZE", "USED", "BUILD", "COMMIT", "KEY"]));
    }
    rows.extend(listed.iter().map(|Listed { record, used, bytes, .. }| {
        vec![
            record.scope.repo.to_string(),
            one_line(&ref_of(&record.scope), 100),
            record.level.as_str().to_owned(),
            if on_terminal { size(*bytes) } else { bytes.to_string() },
            if on_terminal { age(*used, now) } else { used.to_string() },
            record.build.to_string(),
            if on_terminal { record.sha.short().to_owned() } else { record.sha.to_string() },
            record.inputs.key().chars().take(if on_terminal { KEY } else { usize::MAX }).collect(),
        ]
    }));
    if on_terminal { aligned(&rows, width()) } else { rows.iter().map(|row| row.join("\t")).collect() }
}

fn document(Listed { record, used, bytes, .. }: &Listed) -> Value {
    json!({
        "repo": record.scope.repo.to_string(),
        "ref": record.scope.git_ref,
        "trust": record.scope.trust,
        "level": record.level,
        "key": record.inputs.key(),
        "bytes": bytes,
        "used_at": used,
        "kept_at": record.kept_at,
        "build": record.build,
        "sha": record.sha,
        "note": record.note,
        "layers": record.layers.iter().map(|layer| &layer.id).collect::<Vec<_>>(),
    })
}

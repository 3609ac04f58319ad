//! `hookmill cache verify`.

use super::super::output::Out;
use super::{Kept, Refusal};

pub(super) fn run(kept: &Kept, repair: bool, out: &mut Out) -> Result<bool, Refusal> {
    let verified = kept.cache.verify(repair)?;
    for damage in &verified.damages {
        let then = match (damage.removed, repair) {
            (true, _) => ": removed",
            (false, true) => ": a build is using it; it goes when that has ended",
            (false, false) => "",
        };
        out.line(format_args!("damaged: {}{then}", damage.what.escape_debug()));
    }
    if repair {
        kept.empty_trash()?;
    }
    let read = format!(
        "{} of {} read",
        count(verified.layers, "layer", "layers"),
        count(verified.entries, "file or folder", "files and folders")
    );
    let left = verified.damages.iter().filter(|damage| !damage.removed).count();
    out.line(match (verified.damages.len(), left) {
        (0, _) if verified.layers == 0 => kept.nothing(),
        (0, _) => format!("{read}: all of it is as it was sealed"),
        (_, 0) => format!("{read}; what was damaged is removed, and the next build makes it anew"),
        (_, left) if repair => format!("{read}; {left} still there"),
        (all, _) => format!("{read}; {all} damaged: `hookmill cache verify --repair` removes that"),
    });
    Ok(left == 0)
}

fn count(number: usize, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

//! Whether a bundle is as small as its repository wants it: `[budget]` of the repository file.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::config::repo_file::{self, Budget, Measure, RepoFile};
use crate::domain::outcome::{Outcome, Verdict};
use crate::domain::sentence::{self, size};
use crate::domain::spec::Plan;
use crate::domain::step::StepKind;
use crate::tree::{self, Dir, Kind, Visit};

/// Where bundlers write when nobody says where, the usual one first.
const USUAL_OUTPUTS: [&str; 6] = ["dist", "build", "out", "public", "www", "_site"];

/// A file of the bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Asset {
    /// From the output folder.
    path: String,
    /// As `[budget] measure` counts.
    bytes: u64,
}

/// What a budget says about a bundle.
#[derive(Debug, Default)]
pub(super) struct Judged {
    /// The build's verdict, when the budget is exceeded or can't be applied.
    pub(super) verdict: Option<Verdict>,
    /// For people.
    pub(super) notices: Vec<String>,
    /// `total 812 kB of 1.2 MB`, for the sentence of a build that passed.
    pub(super) figure: Option<String>,
}

/// Measures what the bundle wrote beneath `root`, the tree as the build left it, and compares.
pub(super) async fn judge(root: &Path, plan: &Plan, file: &RepoFile) -> Judged {
    let budget = file.budget.clone();
    if budget == Budget::default() {
        return Judged::default();
    }
    let Some(bundle) = plan.steps().find(|step| step.kind == StepKind::Bundle) else {
        let notice = "[budget] is not compared: nothing is bundled".to_owned();
        return Judged { notices: vec![notice], ..Judged::default() };
    };
    let dir = file.bundle.dir.clone().unwrap_or_else(|| bundle.dir.clone());
    let places: Vec<String> = match &file.bundle.output {
        Some(output) => vec![within(&dir, output)],
        None => USUAL_OUTPUTS.iter().map(|name| within(&dir, name)).collect(),
    };
    let (root, named, measure) = (root.to_owned(), file.bundle.output.is_some(), budget.measure);
    let measured = tokio::task::spawn_blocking(move || first_written(&root, &places, measure).map(|it| (it, places)));
    match measured.await.map_err(io::Error::other).and_then(|measured| measured) {
        Ok((Some((place, assets)), _)) => {
            let mut judged = compare(&budget, &assets);
            if !named {
                judged
                    .notices
                    .insert(0, format!("[budget] is compared with {place}/ (bundle.output names another folder)"));
            }
            judged
        }
        Ok((None, places)) if named => {
            cannot(&format!("the bundle wrote nothing into {}; mend [bundle] output", places[0]))
        }
        Ok((None, places)) => {
            cannot(&format!("the bundle wrote none of {}; name its folder: [bundle] output", places.join(", ")))
        }
        Err(error) => cannot(&format!("what was written can't be read: {error}")),
    }
}

fn cannot(why: &str) -> Judged {
    let reason = format!("Budget: {why} in {}", repo_file::FILE_NAME);
    let verdict = Verdict::new(Outcome::Failed, sentence::one_line(&reason, sentence::MAX_CHARS));
    Judged { verdict: Some(verdict), ..Judged::default() }
}

/// `output` of the folder `dir`, from the tree's root.
fn within(dir: &str, output: &str) -> String {
    match (dir, output) {
        (".", output) => output.to_owned(),
        (dir, ".") => dir.to_owned(),
        (dir, output) => format!("{dir}/{output}"),
    }
}

/// The first of the folders in which something was written, with what.
fn first_written(root: &Path, places: &[String], measure: Measure) -> io::Result<Option<(String, Vec<Asset>)>> {
    for place in places {
        let assets = assets(root, place, measure)?;
        if !assets.is_empty() {
            return Ok(Some((place.clone(), assets)));
        }
    }
    Ok(None)
}

/// Every file of the folder but source maps, which no browser loads unless somebody debugs. No link is followed.
fn assets(root: &Path, place: &str, measure: Measure) -> io::Result<Vec<Asset>> {
    let top = Dir::open(root).map_err(io::Error::other)?;
    let (mut assets, mut failed) = (Vec::new(), None);
    // From the root down, since a folder on the way may have become a link.
    tree::walk(root, |entry| {
        let Some(path) = entry.path.to_str() else { return Visit::Skip };
        let beneath = if place == "." { Some(path) } else { path.strip_prefix(place) };
        let beneath = beneath.filter(|rest| place == "." || rest.is_empty() || rest.starts_with('/'));
        match (entry.kind, beneath) {
            (Kind::Dir, Some(rest)) if rest.split('/').any(|name| name == "node_modules") => Visit::Skip,
            (Kind::Dir, Some(_)) => Visit::Continue,
            (Kind::Dir, None) if place.strip_prefix(path).is_some_and(|rest| rest.starts_with('/')) => Visit::Continue,
            (Kind::File, Some(rest)) if !rest.is_empty() && !rest.ends_with(".map") => {
                match bytes(&top, &entry.path, entry.size, measure) {
                    Ok(bytes) => assets.push(Asset { path: rest.trim_start_matches('/').to_owned(), bytes }),
                    Err(error) => failed = Some(error),
                }
                if failed.is_some() { Visit::Stop } else { Visit::Continue }
            }
            _ => Visit::Skip,
        }
    })
    .map_err(io::Error::other)?;
    failed.map_or(Ok(assets), Err)
}

fn bytes(top: &Dir, path: &Path, size: u64, measure: Measure) -> io::Result<u64> {
    match measure {
        Measure::Raw => Ok(size),
        Measure::Gzip => {
            let mut file = top.open_file(path).map_err(io::Error::other)?;
            let mut encoder = GzEncoder::new(Counted(0), Compression::best());
            io::copy(&mut file, &mut encoder)?;
            Ok(encoder.finish()?.0)
        }
    }
}

/// Counts what is written to it.
struct Counted(u64);

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// One bound that does not hold.
struct Over {
    what: String,
    bytes: u64,
    bound: u64,
    key: String,
}

fn compare(budget: &Budget, assets: &[Asset]) -> Judged {
    let mut judged = Judged::default();
    let mut over = Vec::new();
    for (glob, &bound) in &budget.assets {
        let matching: BTreeSet<&str> =
            assets.iter().filter(|asset| names(glob, &asset.path)).map(|asset| asset.path.as_str()).collect();
        if matching.is_empty() {
            judged.notices.push(format!("[budget.assets] {glob:?} matches no file of the bundle"));
        }
        let too_large = assets.iter().filter(|asset| asset.bytes > bound && matching.contains(asset.path.as_str()));
        over.extend(too_large.map(|asset| Over {
            what: asset.path.clone(),
            bytes: asset.bytes,
            bound,
            key: format!("[budget.assets] {glob:?}"),
        }));
    }
    // The farthest beyond its bound is what somebody looks at first.
    over.sort_by(|a, b| (b.bytes as f64 / b.bound as f64).total_cmp(&(a.bytes as f64 / a.bound as f64)));
    let total: u64 = assets.iter().map(|asset| asset.bytes).sum();
    let unit = if budget.measure == Measure::Gzip { " gzipped" } else { "" };
    judged.figure = Some(match budget.total {
        Some(bound) => format!("total {} of {}{unit}", size(total), size(bound)),
        None => format!("total {}{unit}", size(total)),
    });
    if let Some(bound) = budget.total.filter(|bound| total > *bound) {
        over.push(Over { what: "total".to_owned(), bytes: total, bound, key: "[budget] total".to_owned() });
    }
    judged.verdict = over.first().map(|first| Verdict::new(Outcome::Failed, over_budget(first, over.len() - 1, unit)));
    judged.notices.extend(over.iter().skip(1).map(|other| spoken(other, unit)));
    judged
}

/// A glob without a slash is a file's name wherever it lies, since bundlers write into folders of their own choice.
fn names(glob: &str, path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    fast_glob::glob_match(glob, path) || (!glob.contains('/') && fast_glob::glob_match(glob, name))
}

/// `Over budget: main.3f2a.js 312 kB > 300 kB ([budget.assets] "main.*.js")`.
fn over_budget(over: &Over, others: usize, unit: &str) -> String {
    let more = if others == 0 { String::new() } else { format!(" and {others} more") };
    sentence::one_line(&format!("{}{more}", spoken(over, unit)), sentence::MAX_CHARS)
}

fn spoken(Over { what, bytes, bound, key }: &Over, unit: &str) -> String {
    let (mut is, mut may_be) = (size(*bytes), size(*bound));
    if is == may_be {
        (is, may_be) = (format!("{bytes} B"), format!("{bound} B"));
    }
    format!("Over budget: {what} {is}{unit} > {may_be} ({key})")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(total: Option<u64>, assets: &[(&str, u64)]) -> Budget {
        let assets = assets.iter().map(|(glob, bytes)| ((*glob).to_owned(), *bytes)).collect();
        Budget { total, measure: Measure::Raw, assets }
    }

    #[test]
    fn bundles_against_budgets() {
        let assets: Vec<Asset> = [("js/main.3f2a.js", 312_000), ("vendor.js", 800_000), ("index.html", 900)]
            .map(|(path, bytes)| Asset { path: path.to_owned(), bytes })
            .to_vec();
        let check = |budget: &Budget, reason: Option<&str>, notices: &[&str]| {
            let judged = compare(budget, &assets);
            assert_eq!(judged.verdict.as_ref().map(|verdict| verdict.reason.as_str()), reason, "{budget:?}");
            assert_eq!(judged.notices, notices, "{budget:?}");
        };
        check(&budget(Some(1_200_000), &[("main.*.js", 312_000)]), None, &[]);
        check(
            &budget(None, &[("main.*.js", 300_000)]),
            Some("Over budget: js/main.3f2a.js 312 kB > 300 kB ([budget.assets] \"main.*.js\")"),
            &[],
        );
        check(
            &budget(Some(1_000_000), &[("js/*.js", 311_999), ("vendor.js", 100_000)]),
            Some("Over budget: vendor.js 800 kB > 100 kB ([budget.assets] \"vendor.js\") and 2 more"),
            &[
                "Over budget: js/main.3f2a.js 312000 B > 311999 B ([budget.assets] \"js/*.js\")",
                "Over budget: total 1.1 MB > 1 MB ([budget] total)",
            ],
        );
        check(&budget(None, &[("/main.js", 1)]), None, &["[budget.assets] \"/main.js\" matches no file of the bundle"]);
        let figure = |budget| compare(&budget, &assets).figure;
        assert_eq!(figure(budget(Some(1_200_000), &[])).as_deref(), Some("total 1.1 MB of 1.2 MB"));
        assert_eq!(figure(budget(None, &[("*", 1)])).as_deref(), Some("total 1.1 MB"));
    }

    #[test]
    fn maps_and_links_are_not_counted_and_gzip_is_smaller() {
        let root = tempfile::tempdir().expect("a folder");
        let write = |path: &str, bytes: usize| {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().expect("inside")).expect("a folder");
            std::fs::write(path, "x".repeat(bytes)).expect("a file");
        };
        write("client/dist/js/a.js", 10_000);
        write("client/dist/js/a.js.map", 50_000);
        write("client/distant/b.js", 10_000);
        write("client/empty/a.map", 10);
        std::os::unix::fs::symlink("/etc", root.path().join("client/dist/etc")).expect("a link");
        let places = ["client/gone", "client/empty", "client/dist"].map(str::to_owned);
        let measured = |measure| first_written(root.path(), &places, measure).expect("readable").expect("written");
        let (place, raw) = measured(Measure::Raw);
        assert_eq!((place.as_str(), raw), ("client/dist", vec![Asset { path: "js/a.js".to_owned(), bytes: 10_000 }]));
        let (_, gzip) = measured(Measure::Gzip);
        assert!((1..200).contains(&gzip[0].bytes), "{gzip:?}");
        assert_eq!(assets(root.path(), ".", Measure::Raw).expect("readable").len(), 2);
    }

    #[test]
    fn outputs_are_in_the_folder_of_the_bundle() {
        assert_eq!([within(".", "dist"), within("a", "."), within("a", "b")], ["dist", "a", "a/b"]);
    }
}

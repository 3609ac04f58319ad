//! Whether what several machines share can be reached.

use super::finding::Finding;
use crate::blobs::Depot;
use crate::config::server::{Blobs, Server, StoreUrl};

const BLOBS: &str = "blobs";
const NAME: &str = "blobs_url";

/// The shared place is listed, which needs its address and a key; nothing is put there.
pub(super) async fn blobs(settings: &Server) -> Option<Finding> {
    let Some(blobs) = settings.blobs.clone() else {
        let is_shared = matches!(*settings.store, StoreUrl::Postgres(_));
        let detail = "not set: a log is shown only by the process whose agent wrote it";
        let fix = "with more than one process, set [data] blobs_url to a bucket or a folder that all machines mount";
        return is_shared.then(|| Finding::warning(BLOBS, NAME, detail, fix));
    };
    let shown = match &*blobs {
        Blobs::Folder(dir) => dir.display().to_string(),
        Blobs::S3(bucket) => format!("bucket {}", bucket.name),
    };
    let depot = match Depot::new(&blobs, &settings.network) {
        Ok(depot) => depot,
        Err(error) => return Some(Finding::fault(BLOBS, NAME, error.to_string(), "correct what it names")),
    };
    let looked = tokio::task::spawn_blocking(move || depot.examine()).await.map_err(std::io::Error::other);
    Some(match looked.flatten() {
        Ok(()) => Finding::good(BLOBS, NAME, format!("{shown} can be listed")),
        Err(error) => {
            let fix = "correct [data] blobs_url, blobs_endpoint and the key, or mount the folder; builds run meanwhile, and \
                       are shared later";
            Finding::fault(BLOBS, NAME, format!("{shown}: {error}"), fix)
        }
    })
}

//! What a Gitea or Forgejo event means.

use serde::Deserialize;

use crate::domain::event::{Event, Heard};
use crate::domain::repo::RefName;
use crate::forge::BadPayload;
use crate::forge::wire::{Push, Repository, ignored, pull_request, shape, unknown};

/// A branch or tag that is gone. Deleting a branch sends only this; deleting a tag sends a push as well.
#[derive(Deserialize)]
struct Delete {
    #[serde(rename = "ref")]
    short: String,
    ref_type: String,
    repository: Repository,
}

/// Reads checked JSON.
pub(in crate::forge) fn read(event: &str, json: &[u8]) -> Result<Heard, BadPayload> {
    match event {
        "push" => shape::<Push>("push", json)?.heard(),
        // Gitea's word ends in d, GitHub's does not.
        "pull_request" => pull_request(json, "synchronized"),
        "delete" => shape::<Delete>("delete", json)?.heard(),
        // A push with `before` of zeros comes as well, and says the commit.
        "create" => Ok(ignored(json, |_| "the push of the same branch or tag decides".to_owned())),
        _ => Ok(unknown(event, json)),
    }
}

impl Delete {
    fn heard(self) -> Result<Heard, BadPayload> {
        const NAME: &str = "delete";
        let git_ref = match self.ref_type.as_str() {
            "branch" => RefName::branch(&self.short),
            "tag" => RefName::tag(&self.short),
            _ => {
                let because = "what was deleted is neither a branch nor a tag".to_owned();
                return self.repository.heard(NAME, Event::Ignored { because });
            }
        };
        let git_ref = git_ref.map_err(|error| BadPayload::Shape { event: NAME, why: error.to_string() })?;
        self.repository.heard(NAME, Event::Deleted { git_ref, tip: None, pushed_at: None })
    }
}

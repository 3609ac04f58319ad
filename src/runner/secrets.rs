//! What of the configured secrets the steps of a build see.

use std::collections::BTreeMap;

use crate::config::secret::Secret;
use crate::domain::spec::{Decision, Plan, StepSpec};

/// A `[[repo.secret]]` as far as it concerns one build.
#[derive(Debug, Clone)]
pub struct StepSecret {
    /// The variable.
    pub name: String,
    /// Its value; or why this build is not given it, in which case nothing of the build holds it.
    pub value: Result<Secret, String>,
    /// The names of the steps that see it.
    pub steps: Vec<String>,
}

impl StepSecret {
    /// Whether a step is one of those that it is for. `bundle` means every bundle of a build that has several, `npm` the
    /// installs in every folder.
    fn is_for(&self, step: &StepSpec) -> bool {
        self.steps.iter().any(|name| *name == step.name || *name == step.tool)
    }
}

/// The values that a step is given, by variable.
pub(super) fn given(secrets: &[StepSecret], step: &StepSpec) -> BTreeMap<String, String> {
    let given = secrets.iter().filter(|secret| secret.is_for(step));
    let given = given.filter_map(|secret| Some((secret.name.clone(), secret.value.as_ref().ok()?)));
    given.map(|(name, value)| (name, String::from_utf8_lossy(value.expose()).into_owned())).collect()
}

/// The names of those that steps are given, by step; steps without any are left out. They are part of every key: what a
/// step made that knew a secret may hold it, and is found by no build that is not given it.
pub(super) fn names(secrets: &[StepSecret], plan: &Plan) -> BTreeMap<String, Vec<String>> {
    let names = |step: &StepSpec| given(secrets, step).into_keys().collect::<Vec<_>>();
    let steps = plan.steps().map(|step| (step.name.clone(), names(step)));
    steps.filter(|(_, names)| !names.is_empty()).collect()
}

/// Accounts for each secret in the plan, and notes those whose steps are not in it.
pub(super) fn account(secrets: &[StepSecret], plan: &mut Plan) {
    for secret in secrets {
        let steps: Vec<String> =
            plan.steps().filter(|step| secret.is_for(step)).map(|step| step.name.clone()).collect();
        let (decided, because) = match &secret.value {
            Err(why) => ("empty in every step".to_owned(), why.clone()),
            Ok(_) if steps.is_empty() => {
                let all: Vec<&str> = plan.steps().map(|step| step.name.as_str()).collect();
                let (asked, all) = (secret.steps.join(", "), all.join(", "));
                plan.notices.push(format!(
                    "no step sees the secret {}: it is for {asked}, and the steps here are {all}; correct its steps in the server's [[repo.secret]]",
                    secret.name
                ));
                ("given to no step".to_owned(), format!("there is no step {asked}"))
            }
            Ok(_) => (format!("given to {}", steps.join(", ")), "the server's configuration says so".to_owned()),
        };
        plan.decisions.push(Decision { seen: format!("[[repo.secret]] {}", secret.name), decided, because });
    }
}

//! Commit statuses at GitHub: REST "Create a commit status", version 2022-11-28.

/// The headers of a request that carries this token.
pub(in crate::forge) fn headers(token: &str) -> Vec<(&'static str, String)> {
    vec![
        ("authorization", format!("Bearer {token}")),
        // The documentation recommends the first, the published description names only the second.
        ("accept", "application/vnd.github+json, application/json".to_owned()),
        ("x-github-api-version", "2022-11-28".to_owned()),
    ]
}

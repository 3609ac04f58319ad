//! Commit statuses at Gitea and Forgejo: the request is GitHub's, the token's scheme is their own.
//!
//! An unknown commit answers 500 here, and an unknown state 201 (seen on 1.15.3).

/// The headers of a request that carries this token.
pub(in crate::forge) fn headers(token: &str) -> Vec<(&'static str, String)> {
    vec![("authorization", format!("token {token}")), ("accept", "application/json".to_owned())]
}

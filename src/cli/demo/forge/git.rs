//! git over HTTP, read only: every request is handed to `git http-backend` as a CGI program
//! (<https://git-scm.com/docs/git-http-backend>, RFC 3875). Its answers are small enough here to be held in memory.

use std::process::Stdio;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, Uri};
use axum::response::IntoResponse;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use super::Shared;

/// Request headers that the program reads, with their names as CGI variables.
const PASSED_ON: [(&str, &str); 3] = [
    ("content-type", "CONTENT_TYPE"),
    ("content-encoding", "HTTP_CONTENT_ENCODING"),
    ("git-protocol", "HTTP_GIT_PROTOCOL"),
];

pub(super) async fn serve(
    State(shared): State<Arc<Shared>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> axum::response::Response {
    if !uri.path().contains(".git/") {
        return (StatusCode::NOT_FOUND, "not found\n").into_response();
    }
    let mut command = Command::new("git");
    command
        .arg("http-backend")
        .env_clear()
        .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_PROJECT_ROOT", &shared.repositories)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("REQUEST_METHOD", method.as_str())
        .env("PATH_INFO", uri.path())
        .env("QUERY_STRING", uri.query().unwrap_or_default())
        .env("CONTENT_LENGTH", body.len().to_string())
        .env("REMOTE_ADDR", "127.0.0.1");
    for (header, variable) in PASSED_ON {
        if let Some(value) = headers.get(header).and_then(|value| value.to_str().ok()) {
            command.env(variable, value);
        }
    }
    match run(command, &body).await {
        Ok(output) => answer(&output),
        Err(error) => (StatusCode::BAD_GATEWAY, format!("git http-backend: {error}\n")).into_response(),
    }
}

async fn run(mut command: Command, body: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true).spawn()?;
    let mut stdin = child.stdin.take().expect("it was asked for as a pipe");
    let feed = async move {
        // A program that needs no more of the body may have closed its end; its answer tells what it thought of it.
        let _ = stdin.write_all(body).await;
    };
    let (output, ()) = tokio::join!(child.wait_with_output(), feed);
    Ok(output?.stdout)
}

/// A CGI program's output as a response: header lines, an empty line, the body.
fn answer(output: &[u8]) -> axum::response::Response {
    let (head, body) = match output.windows(4).position(|four| four == b"\r\n\r\n") {
        Some(end) => (&output[..end], output[end + 4..].to_vec()),
        None => return (StatusCode::BAD_GATEWAY, "git http-backend gave no answer\n").into_response(),
    };
    let mut response = Response::new(body.into());
    for line in String::from_utf8_lossy(head).lines() {
        let Some((name, value)) = line.split_once(':') else { continue };
        let value = value.trim();
        if name.eq_ignore_ascii_case("status") {
            let code = value.split(' ').next().and_then(|code| code.parse().ok());
            *response.status_mut() = code.unwrap_or(StatusCode::BAD_GATEWAY);
        } else if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), value.parse::<HeaderValue>()) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cgi_answer_becomes_a_response() {
        let response = answer(b"Status: 404 Not Found\r\nContent-Type: text/plain\r\n\r\nno");
        assert_eq!(response.status(), StatusCode::NOT_FOUND);
        assert_eq!(response.headers()["content-type"], "text/plain");
        assert_eq!(answer(b"Content-Type: a/b\r\n\r\n").status(), StatusCode::OK);
        assert_eq!(answer(b"fatal").status(), StatusCode::BAD_GATEWAY);
    }
}

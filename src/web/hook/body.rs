//! Reads a hook's body within its bounds.

use std::time::Duration;

use axum::body::{Body, HttpBody};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

/// The largest body that is taken: GitHub's own cap is 25 MB, and a larger event is never sent.
pub(super) const LARGEST: usize = 26_214_400;
/// From the end of the header to the end of the body.
const DEADLINE: Duration = Duration::from_secs(30);
/// Bytes that every request may hold. Nobody has shown a signature yet, so more is rationed.
const FREE: usize = 256 * 1024;
/// Bodies over [`FREE`] that are held at once; the next one waits, within its deadline.
pub(super) const LARGE_AT_ONCE: usize = 16;
/// A refused body is read on for so long, and so far, before the answer: closing on a peer that is still
/// sending resets the connection, and the peer would never see why.
const LINGER: Duration = Duration::from_secs(5);
const LINGER_BYTES: usize = 2 * LARGEST;

/// A body that was read whole.
pub(super) struct Received<'a> {
    pub(super) bytes: Bytes,
    /// Held as long as a large body is in memory.
    _ration: Option<SemaphorePermit<'a>>,
}

/// Why a body was not read.
#[derive(Debug, PartialEq)]
pub(super) enum Unread {
    TooLarge,
    Late,
    Cut,
}

/// Reads the body, and stops as soon as it is known to be too large.
pub(super) async fn read<'a>(body: &mut Body, large: &'a Semaphore) -> Result<Received<'a>, Unread> {
    timeout(DEADLINE, collect(body, large)).await.unwrap_or(Err(Unread::Late))
}

async fn collect<'a>(body: &mut Body, large: &'a Semaphore) -> Result<Received<'a>, Unread> {
    let announced = body.size_hint().lower();
    if announced > LARGEST as u64 {
        return Err(Unread::TooLarge);
    }
    let mut bytes = BytesMut::with_capacity(FREE.min(usize::try_from(announced).unwrap_or(FREE)));
    let mut ration = None;
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| Unread::Cut)?.into_data() else { continue };
        let length = bytes.len() + data.len();
        if length > LARGEST {
            return Err(Unread::TooLarge);
        }
        if length > FREE && ration.is_none() {
            ration = Some(large.acquire().await.expect("the semaphore is never closed"));
        }
        bytes.extend_from_slice(&data);
    }
    Ok(Received { bytes: bytes.freeze(), _ration: ration })
}

/// Reads what is left of a refused body, and forgets it.
pub(super) async fn discard(body: &mut Body) {
    let reading = async {
        let mut read = 0;
        while let Some(Ok(frame)) = body.frame().await {
            read += frame.data_ref().map_or(0, Bytes::len);
            if read > LINGER_BYTES {
                break;
            }
        }
    };
    timeout(LINGER, reading).await.ok();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_limit_is_exact() {
        let large = Semaphore::new(1);
        let check = async |length: usize, expected: Result<usize, Unread>| {
            let got = read(&mut Body::from(vec![b' '; length]), &large).await.map(|received| received.bytes.len());
            assert_eq!(got, expected);
        };
        check(0, Ok(0)).await;
        check(LARGEST, Ok(LARGEST)).await;
        check(LARGEST + 1, Err(Unread::TooLarge)).await;
        assert_eq!(large.available_permits(), 1, "the ration comes back");
    }
}

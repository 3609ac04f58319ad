//! A response body that is made while it is read.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use tokio::sync::mpsc;

/// A reader who takes nothing for so long is cut; by its last id, or a range, it can come back.
const PATIENCE: Duration = Duration::from_secs(60);

/// The sending half. One piece is on its way at most, so a slow reader holds little memory.
pub(super) struct Pieces {
    pieces: mpsc::Sender<io::Result<Bytes>>,
}

/// The reader is gone, or so slow that it was cut.
pub(super) struct ReaderGone;

/// A body with its sending half. `length` in bytes, when it is known beforehand.
pub(super) fn streamed(length: Option<u64>) -> (Pieces, Body) {
    let (sender, pieces) = mpsc::channel(1);
    (Pieces { pieces: sender }, Body::new(Streamed { pieces, left: length }))
}

impl Pieces {
    pub(super) async fn send(&self, piece: io::Result<Bytes>) -> Result<(), ReaderGone> {
        self.pieces.send_timeout(piece, PATIENCE).await.map_err(|_| ReaderGone)
    }

    /// Returns when the reader has gone.
    pub(super) async fn closed(&self) {
        self.pieces.closed().await;
    }
}

struct Streamed {
    pieces: mpsc::Receiver<io::Result<Bytes>>,
    left: Option<u64>,
}

impl hyper::body::Body for Streamed {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        self.pieces.poll_recv(cx).map(|piece| {
            let piece = piece?;
            if let (Ok(bytes), Some(left)) = (&piece, &mut self.left) {
                *left = left.saturating_sub(bytes.len() as u64);
            }
            Some(piece.map(Frame::data))
        })
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

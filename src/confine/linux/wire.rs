//! What the agent and a holder say to each other: JSON after its length (u32, little endian), over a socket pair.
//!
//! The write end of a step's output pipe travels beside the bytes of its [`Request::Start`] (`SCM_RIGHTS`), behind it
//! the socket over which a step with doors sends the sockets that it listens on, and last the file of its control group.

use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::domain::spec::StepCommand;
use crate::domain::view::View;
use crate::process::Bound;

/// Longer messages are a fault of ours, not of a step: an environment of 4 MiB can't be passed to exec(2).
const LONGEST: usize = 4 * 1024 * 1024;

/// Descriptors that go beside one message; [`DOORS`](crate::confine::DOORS) and some room.
const BESIDE: usize = 20;

/// Names a step within its holder.
pub type StepId = u64;

/// The network of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Netns {
    /// The host's.
    Host,
    /// Its own, with nothing in it but loopback.
    Own,
    /// Its own, with a socket listening at [`DOOR`](crate::confine::DOOR); a socket to send that one over comes along too.
    Door,
}

/// What the holder does for a step beside starting it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    /// The step's first process is put under Landlock, or not started.
    pub landlock: bool,
    /// Under the seccomp filters too.
    pub seccomp: bool,
    /// It starts in a control group: the descriptor of that one's `cgroup.procs` comes along.
    pub cgroup: bool,
    /// Bytes of memory that no control group counts: the holder does, and ends the step beyond.
    pub memory: Option<u64>,
    /// The same for processes and threads.
    pub processes: Option<u64>,
}

/// From the agent.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// Join the view's stacks and build the root that steps see. Once, before the first step.
    Mount(View),
    /// Start a step; the write end of its output pipe comes along.
    Start {
        /// The name for later messages.
        id: StepId,
        /// What to run.
        command: StepCommand,
        /// Give it a network namespace of its own.
        netns: Netns,
        /// Where else a socket is to listen in a network with a door.
        doors: Vec<SocketAddr>,
        /// What else is done for it.
        terms: Terms,
    },
    /// SIGTERM to the step.
    Terminate(StepId),
    /// SIGKILL to everything that the step started.
    Kill(StepId),
}

/// From the holder.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// Namespaces are there (or were not asked for).
    Ready,
    /// The view is mounted.
    Mounted,
    /// What could not be done and why, to follow "could not".
    Refused(String),
    /// The step's process was started.
    Started(StepId),
    /// It was not.
    NotStarted {
        /// Which one.
        id: StepId,
        /// What the system said.
        why: String,
    },
    /// The step's process exited with this status, `128 + n` for signal `n`.
    Exited {
        /// Which one.
        id: StepId,
        /// The status; `None` when the fence could not be built.
        status: Option<i32>,
        /// The bound that it passed, where the holder counted.
        over: Option<Bound>,
    },
}

/// A message as it goes over the socket.
pub fn encode(message: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut frame = vec![0; 4];
    serde_json::to_writer(&mut frame, message)?;
    let length = frame.len() - 4;
    if length > LONGEST {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a step's command and environment exceed 4 MiB"));
    }
    let length = u32::try_from(length).expect("checked against LONGEST");
    frame[..4].copy_from_slice(&length.to_le_bytes());
    Ok(frame)
}

/// Sends some of `bytes` and, beside the first of them, up to `BESIDE` descriptors. Gives how many bytes went.
pub fn send(socket: BorrowedFd<'_>, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(BESIDE))];
    let mut beside = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() {
        beside.push(SendAncillaryMessage::ScmRights(fds));
    }
    Ok(sendmsg(socket, &[IoSlice::new(bytes)], &mut beside, SendFlags::NOSIGNAL)?)
}

/// Sends a whole message over a blocking socket.
pub fn send_all(socket: impl AsFd, message: &impl Serialize) -> io::Result<()> {
    let frame = encode(message)?;
    let mut rest = &frame[..];
    while !rest.is_empty() {
        let sent = send(socket.as_fd(), rest, &[])?;
        rest = &rest[sent..];
    }
    Ok(())
}

/// Bytes and descriptors that came, until they are whole messages.
#[derive(Debug, Default)]
pub struct Inbox {
    bytes: Vec<u8>,
    fds: VecDeque<OwnedFd>,
}

impl Inbox {
    /// Nothing came yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Receives once. `Ok(false)`: the other side is gone.
    ///
    /// # Errors
    /// `WouldBlock` on a socket that does not block; what recvmsg(2) says.
    pub fn receive(&mut self, socket: impl AsFd) -> io::Result<bool> {
        let mut piece = [0; 64 * 1024];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(BESIDE))];
        let mut beside = RecvAncillaryBuffer::new(&mut space);
        let mut into = [IoSliceMut::new(&mut piece)];
        let got = recvmsg(socket, &mut into, &mut beside, RecvFlags::CMSG_CLOEXEC)?;
        for message in beside.drain() {
            if let RecvAncillaryMessage::ScmRights(fds) = message {
                self.fds.extend(fds);
            }
        }
        self.bytes.extend_from_slice(&piece[..got.bytes]);
        Ok(got.bytes > 0)
    }

    /// The next whole message.
    ///
    /// # Errors
    /// `InvalidData` when the other side does not speak this language.
    pub fn message<T: DeserializeOwned>(&mut self) -> io::Result<Option<T>> {
        let Some((head, body)) = self.bytes.split_first_chunk::<4>() else { return Ok(None) };
        let length = u32::from_le_bytes(*head) as usize;
        if length > LONGEST {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a message without end"));
        }
        let Some(body) = body.get(..length) else { return Ok(None) };
        let message = serde_json::from_slice(body)?;
        self.bytes.drain(..4 + length);
        Ok(Some(message))
    }

    /// The descriptor that came with the oldest message that had one and was not yet asked.
    pub fn fd(&mut self) -> Option<OwnedFd> {
        self.fds.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn messages_survive_any_cut_and_descriptors_stay_with_them() {
        let (here, there) = UnixStream::pair().expect("a pair");
        let (mut read, write) = std::io::pipe().expect("a pipe");
        let frame = encode(&Request::Terminate(7)).expect("small");
        for (at, byte) in frame.iter().enumerate() {
            let fds: &[BorrowedFd<'_>] = if at == 0 { &[write.as_fd()] } else { &[] };
            assert_eq!(send(here.as_fd(), &[*byte], fds).expect("sent"), 1);
        }
        send_all(&here, &Request::Kill(8)).expect("sent");
        drop((here, write));
        let mut inbox = Inbox::new();
        while inbox.receive(&there).expect("received") {}
        assert!(matches!(inbox.message().expect("clean"), Some(Request::Terminate(7))));
        assert!(matches!(inbox.message().expect("clean"), Some(Request::Kill(8))));
        assert!(inbox.message::<Request>().expect("clean").is_none());
        let mut write = std::fs::File::from(inbox.fd().expect("one came"));
        write.write_all(b"hello").expect("written");
        drop(write);
        let mut text = String::new();
        read.read_to_string(&mut text).expect("read");
        assert_eq!(text, "hello");
    }

    #[test]
    fn a_message_without_end_is_refused() {
        let (here, there) = UnixStream::pair().expect("a pair");
        send(here.as_fd(), &[0xff; 8], &[]).expect("sent");
        let mut inbox = Inbox::new();
        inbox.receive(&there).expect("received");
        assert!(inbox.message::<Request>().is_err());
    }
}

//! The one way out of a step that may reach some hosts: sockets that listen in its own network.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::net::{AddressFamily, SocketType, socket};
use rustix::thread::{UnshareFlags, unshare_unsafe};

use crate::confine::{DOOR, wire};

/// Has the command's process, before it becomes the program, leave for a network of its own, listen there at [`DOOR`]
/// and at `further` places, and send the listening sockets over `socket`. The kernel keeps a socket in the network in
/// which it was made, so whoever accepts on it needs no way in.
pub(super) fn before(command: &mut Command, socket: OwnedFd, further: Vec<SocketAddr>) {
    // SAFETY: the holder has one thread, so in its forked child no lock is held by another one; the closure takes
    // none and touches only descriptors of its own.
    unsafe { command.pre_exec(move || open(&socket, &further)) };
}

fn open(socket: &OwnedFd, further: &[SocketAddr]) -> io::Result<()> {
    // SAFETY: descriptors are not unshared, and there is one thread.
    unsafe { unshare_unsafe(UnshareFlags::NEWNET) }?;
    raise_loopback()?;
    let mut listeners = vec![TcpListener::bind(DOOR)?];
    // Where none can be had (no IPv6, the door's own place) it is missing, and whoever asks there is refused.
    listeners.extend(further.iter().filter_map(|address| TcpListener::bind(address).ok()));
    let all: Vec<_> = listeners.iter().map(AsFd::as_fd).collect();
    wire::send(socket.as_fd(), b"d", &all)?;
    Ok(())
}

/// A new network's loopback is down, netdevice(7).
fn raise_loopback() -> io::Result<()> {
    let any = socket(AddressFamily::INET, SocketType::DGRAM, None)?;
    // SAFETY: all-zero bytes are a legal `ifreq`.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(*b"lo") {
        *to = from.cast_signed() as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: the request is whole, and the kernel reads it before the call returns.
    match unsafe { libc::ioctl(any.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

//! The bridge that `pods/exec` starts: bytes between its stdio and the agent's socket.
//!
//! Plain read and write loops in two threads. `std::io::copy` picks splice, which hung or died
//! at 100 MiB on the pipes that container runtimes make.

use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::sync::mpsc;
use std::thread;

/// Copies both ways until either side closes.
pub(crate) fn connect(name: &str) -> io::Result<()> {
    let socket = UnixStream::connect_addr(&SocketAddr::from_abstract_name(name)?)?;
    let (done, ended) = mpsc::channel();
    let up = (socket.try_clone()?, done.clone());
    thread::Builder::new().spawn(move || {
        let result = copy(io::stdin().lock(), &up.0);
        let _ = up.1.send(result);
    })?;
    let down = socket.try_clone()?;
    thread::Builder::new().spawn(move || {
        let _ = done.send(copy(&down, io::stdout().lock()));
    })?;
    // Whichever direction ends first ends the bridge: half of a call is of no use to HTTP/2.
    let result = ended.recv().unwrap_or(Ok(()));
    let _ = socket.shutdown(Shutdown::Both);
    result
}

fn copy(mut from: impl Read, mut to: impl Write) -> io::Result<()> {
    let mut buffer = vec![0; wire::limits::CHUNK];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(length) => {
                to.write_all(&buffer[..length])?;
                to.flush()?;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

//! Terminals: what a run has instead of pipes when somebody, or something, types into it.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::unistd;
use rustix::process::ioctl_tiocsctty;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcgetwinsize, tcsetwinsize};
use wire::v1::Terminal;

/// What a terminal measures of which nobody says it: rows and columns of the first ones.
const USUAL: (u16, u16) = (24, 80);
/// What ends the input of a program that reads lines: control-D.
pub(crate) const END_OF_FILE: u8 = 4;

/// Both ends of a new terminal: ours, which does not block, and the one programs have.
pub(crate) fn open(size: Terminal) -> io::Result<(OwnedFd, OwnedFd)> {
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    grantpt(&ours)?;
    unlockpt(&ours)?;
    let flags = OFlag::from_bits_retain(fcntl(&ours, FcntlArg::F_GETFL)?);
    fcntl(&ours, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    let name = ptsname(&ours, Vec::new())?;
    let theirs = OpenOptions::new()
        .read(true)
        .write(true)
        // It is to become the program's terminal, and not the agent's.
        .custom_flags(OFlag::O_NOCTTY.bits())
        .open(std::ffi::OsStr::from_bytes(name.to_bytes()))?;
    let (ws_row, ws_col) = USUAL;
    tcsetwinsize(&ours, Winsize { ws_row, ws_col, ws_xpixel: 0, ws_ypixel: 0 })?;
    resize(&ours, size)?;
    Ok((ours, theirs.into()))
}

/// Gives a terminal another size, of which its programs hear by a signal; a 0 leaves what it is.
pub(crate) fn resize(terminal: impl AsFd, size: Terminal) -> io::Result<()> {
    let mut now = tcgetwinsize(&terminal)?;
    for (side, wanted) in [(&mut now.ws_row, size.rows), (&mut now.ws_col, size.columns)] {
        if let Some(wanted) = u16::try_from(wanted).ok().filter(|wanted| *wanted > 0) {
            *side = wanted;
        }
    }
    Ok(tcsetwinsize(&terminal, now)?)
}

/// Becomes a program, the first of a session whose terminal is stdout: its jobs get the terminal's signals, and
/// it may read from it. It returns only if that cannot be.
pub(crate) fn enter(mut arguments: impl Iterator<Item = String>) -> io::Error {
    let (Some(program), Some(name)) = (arguments.next(), arguments.next()) else {
        return io::Error::other("no program is named");
    };
    let taken = || {
        unistd::setsid()?;
        ioctl_tiocsctty(io::stdout())?;
        unistd::dup2_stdin(io::stdout())?;
        Ok(())
    };
    match taken() {
        Ok(()) => Command::new(program).arg0(name).args(arguments).exec(),
        Err(error) => error,
    }
}

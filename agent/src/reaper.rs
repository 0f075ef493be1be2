//! The one owner of the agent's children: nobody else starts or waits for any.
//!
//! As PID 1 the agent inherits every orphan of the sandbox. Spawning and reaping hold one lock, since
//! `Command::spawn` waits for its child itself when it cannot start, and a reaper that came first
//! would make it panic.

use std::collections::HashMap;
use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::sys::prctl;
use nix::sys::signal::{self, Signal};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::control::Order;
use crate::proc;

/// The supervisors that live, with the sockets that order them.
#[derive(Clone, Debug)]
pub(crate) struct Reaper {
    supervisors: Arc<Mutex<HashMap<i32, UnixStream>>>,
    alive: watch::Sender<usize>,
}

impl Reaper {
    /// Starts to reap, in a task of its own.
    pub(crate) fn start() -> io::Result<Self> {
        // PID 1 is one anyway; a test's agent has to become one.
        prctl::set_child_subreaper(true)?;
        let mut ended = signal(SignalKind::child())?;
        let reaper = Self { supervisors: Arc::default(), alive: watch::Sender::new(0) };
        let own = reaper.clone();
        tokio::spawn(async move {
            while ended.recv().await.is_some() {
                own.reap();
            }
        });
        Ok(reaper)
    }

    /// Starts a supervisor, whose orders go to `control`, and gives its pid.
    pub(crate) fn spawn(&self, command: &mut Command, control: UnixStream) -> io::Result<i32> {
        let mut supervisors = self.lock();
        let child = command.spawn()?;
        let pid = i32::try_from(child.id()).map_err(io::Error::other)?;
        supervisors.insert(pid, control);
        self.alive.send_replace(supervisors.len());
        Ok(pid)
    }

    /// Takes in a copy's supervisor, which is our child since it became an orphan. Says whether it is one:
    /// its pid is what a process of the user's tells us.
    pub(crate) fn adopt(&self, pid: i32, control: UnixStream) -> bool {
        // While this is held nothing is reaped, and a number stays its process's own.
        let mut supervisors = self.lock();
        let ours = proc::parent(pid) == Some(Pid::this().as_raw());
        if !ours || supervisors.contains_key(&pid) {
            return false;
        }
        supervisors.insert(pid, control);
        self.alive.send_replace(supervisors.len());
        true
    }

    /// Gives a supervisor an order; one that has ended needs none.
    pub(crate) fn order(&self, supervisor: i32, order: Order) {
        if let Some(control) = self.lock().get_mut(&supervisor) {
            let _ = control.write(&[order.byte()]);
        }
    }

    /// Kills a supervisor that does not obey: user code can stop it. What was below it is killed when
    /// it is reaped.
    pub(crate) fn kill(&self, supervisor: i32) {
        // Only one that is not reaped yet still has its number.
        if self.lock().contains_key(&supervisor) {
            let _ = signal::kill(Pid::from_raw(supervisor), Signal::SIGKILL);
        }
    }

    /// Orders every run to be killed and waits until the last has ended.
    pub(crate) async fn kill_all(&self) {
        let mut alive = self.alive.subscribe();
        for mut control in self.lock().values() {
            // One that has just ended needs no order.
            let _ = control.write(&[Order::Kill.byte()]);
        }
        let _ = alive.wait_for(|count| *count == 0).await;
    }

    fn reap(&self) {
        let mut supervisors = self.lock();
        while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            let Some(pid) = status.pid() else { break };
            let known = supervisors.remove(&pid.as_raw()).is_some();
            if known && !matches!(status, WaitStatus::Exited(_, 0)) {
                // Somebody has killed a supervisor: what was below it is ours now, and only that is.
                let orphans = proc::descendants_but(Pid::this().as_raw(), |pid| {
                    supervisors.contains_key(&pid)
                });
                for orphan in orphans {
                    let _ = signal::kill(Pid::from_raw(orphan), Signal::SIGKILL);
                }
            }
        }
        self.alive.send_replace(supervisors.len());
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<i32, UnixStream>> {
        self.supervisors.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A user's process can say any number; only one that an orphan of ours has is taken.
    #[test]
    fn only_a_child_of_ours_is_adopted_and_once() {
        let reaper = Reaper { supervisors: Arc::default(), alive: watch::Sender::new(0) };
        let control = || UnixStream::pair().unwrap().0;
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let said = [1, Pid::this().as_raw(), pid, pid].map(|pid| reaper.adopt(pid, control()));
        assert_eq!(said, [false, false, true, false]);
        assert_eq!(*reaper.alive.borrow(), 1);
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

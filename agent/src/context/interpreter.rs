//! A live interpreter: cells go in one at a time, and each is followed to its end.

use std::collections::BTreeMap;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::PathBuf;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::AsyncWriteExt;
use tokio::net::unix::pipe;
use tokio::time::{Instant, sleep_until, timeout};
use wire::limits::{DRAIN_GRACE, KILL_GRACE};
use wire::{Code, Error};

use super::language::Language;
use super::protocol::{self, Events, Said};
use crate::control::{Exit, Order, Report, Spec, Status};
use crate::output::Output;
use crate::process::{self, Control, Private};
use crate::reaper::Reaper;
use crate::run::{Cause, End, Run, command};

/// How long an interpreter may take to come up.
const STARTUP: Duration = Duration::from_secs(30);
/// How often a cell is interrupted before it is killed: one that is about to wait in a system call when the
/// signal comes notices nothing of it, in Python for one.
const INTERRUPTS: u32 = 4;
/// How long it has after each. What is lost with a cell that is killed is worth some patience on a node that has much to do.
const INTERRUPT_EVERY: Duration = Duration::from_secs(1);
/// How much is told of what one that did not come up has written.
const MAX_LAST_WORDS: usize = 1000;

/// Where an interpreter starts, and with which variables beside those it inherits.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Place {
    pub(super) cwd: PathBuf,
    pub(super) env: BTreeMap<String, String>,
}

/// An interpreter and all ends of it.
#[derive(Debug)]
pub(super) struct Interpreter {
    pub(super) language: &'static Language,
    pub(super) control: Control,
    pub(super) output: Output,
    pub(super) requests: pipe::Sender,
    pub(super) events: Events,
    /// Where copies of it get their ends, if it can be copied.
    pub(super) forks: Option<StdUnixStream>,
    /// How many cells it has been given, or what it is a copy of.
    pub(super) cells: u64,
}

/// What is known about the cell that runs.
#[derive(Default)]
struct Cell {
    /// What its driver has yet to be sent.
    unsent: BytesMut,
    /// What asks for its end besides a signal, if anything does.
    interrupt: Vec<u8>,
    cause: Option<Cause>,
    /// Whether an interrupt may still be on its way.
    interrupting: bool,
    /// How many it has been sent.
    interrupts: u32,
    status: Option<u8>,
    /// Whether it, and all it has started, was ordered to be killed.
    killed: bool,
    /// The interpreter's end, if it came to that.
    death: Option<Death>,
}

struct Death {
    /// `None`: its supervisor was killed, and nobody has seen how it ended.
    exit: Option<Exit>,
    /// How long its children are still listened to.
    patience: Instant,
}

impl Interpreter {
    /// Starts an interpreter and sends it its driver.
    pub(super) async fn start(
        language: &'static Language,
        place: &Place,
        reaper: &Reaper,
    ) -> Result<Self, Error> {
        let mut env = language.env();
        env.extend(place.env.clone());
        let (file, driver) = language.driver();
        let spec = Spec { argv: language.argv(), env, cwd: place.cwd.clone(), ..Spec::default() };
        let started = process::start_private(reaper, spec, &file, language.forks).await;
        let (control, output, private) = started.map_err(|error| match error.code {
            Code::CommandNotFound => language.missing(&error.message),
            _ => error,
        })?;
        let mut own = Self::of(language, control, output, private);
        // An interpreter that dies of it is seen below.
        let _ = own.requests.write_all(&driver).await;
        own.ready().await?;
        Ok(own)
    }

    pub(super) fn of(
        language: &'static Language,
        control: Control,
        output: Output,
        private: Private,
    ) -> Self {
        let Private { requests, events, forks } = private;
        let events = Events::new(events);
        Self { language, control, output, requests, events, forks, cells: 0 }
    }

    /// Waits until the driver runs. What it writes until then belongs to no run.
    pub(super) async fn ready(&mut self) -> Result<(), Error> {
        let deadline = Instant::now() + STARTUP;
        let mut said = Vec::new();
        loop {
            tokio::select! {
                event = self.events.next() => match event {
                    Ok(Some(Said::Ready)) => break,
                    Ok(Some(_)) => {}
                    Ok(None) | Err(_) => {
                        self.output.drain(|_, data| keep_end(&mut said, &data));
                        return Err(self.language.broken(&said));
                    }
                },
                stream = self.output.ready() => if let Some(data) = self.output.take(stream) {
                    keep_end(&mut said, &data);
                },
                () = sleep_until(deadline) => return Err(self.language.broken(&said)),
            }
        }
        self.output.totals();
        Ok(())
    }

    /// Runs a cell to its outcome. Gives the interpreter back if it is still alive.
    pub(super) async fn execute(
        mut self,
        run: &Run,
        source: &[u8],
        limit: Duration,
    ) -> Option<Self> {
        self.cells += 1;
        let cell = self.follow(run, source, limit).await;
        self.output.drain(|stream, data| run.output(stream, data));
        let context_lost = cell.death.is_some();
        let exit = match (cell.death, cell.status) {
            (Some(death), _) => death.exit.map(|exit| exit.status),
            (None, status) => Some(Status::Exited(status.unwrap_or(1).into())),
        };
        // What an interpreter has used since it began is not what the cell has used.
        let exit = exit.map(|status| Exit { status, cpu_ms: 0, max_rss_bytes: 0 });
        run.tell_changes().await;
        run.finish(End { cause: cell.cause, exit, totals: self.output.totals(), context_lost });
        if context_lost {
            self.leave();
            return None;
        }
        Some(self)
    }

    /// Waits for the interpreter's end between cells. What is written then belongs to no run.
    pub(super) async fn idle(&mut self) {
        loop {
            tokio::select! {
                report = self.control.report() => if matches!(report, None | Some(Report::Exited(_))) {
                    return;
                },
                stream = self.output.ready() => {
                    self.output.take(stream);
                    self.output.totals();
                    tokio::task::yield_now().await;
                }
            }
        }
    }

    /// Stays with what an interpreter that has ended leaves behind.
    pub(super) fn leave(mut self) {
        tokio::spawn(async move { command::outlive(&mut self.control, &mut self.output).await });
    }

    /// Ends it, with all that it has started.
    pub(super) async fn kill(mut self) {
        self.control.order(Order::Kill);
        let gone = command::outlive(&mut self.control, &mut self.output);
        if timeout(KILL_GRACE * 2, gone).await.is_err() {
            self.control.force();
        }
    }

    async fn follow(&mut self, run: &Run, source: &[u8], limit: Duration) -> Cell {
        let Self { control, output, requests, events, cells, language, .. } = self;
        let mut heard_all = false;
        let mut cell = Cell { unsent: protocol::request(*cells, source), ..Cell::default() };
        if language.interrupted_by_request {
            cell.interrupt = protocol::interrupt(*cells);
        }
        // When the run's time is up; after an interrupt, when patience with the cell is.
        let mut deadline = Instant::now() + limit;
        loop {
            match &cell.death {
                None if cell.status.is_some() && !cell.interrupting => break,
                Some(_) if heard_all && output.ended() => break,
                _ => {}
            }
            let due = cell.death.as_ref().map_or(deadline, |death| death.patience);
            tokio::select! {
                // An error means that the interpreter is dying, which is reported.
                sent = requests.write_buf(&mut cell.unsent), if !cell.unsent.is_empty() => {
                    if sent.is_err() {
                        cell.unsent.clear();
                    }
                }
                stream = output.ready() => command::take(run, output, stream).await,
                said = events.next(), if !heard_all => match said {
                    Ok(Some(Said::Event(event))) => {
                        // What was printed before comes before.
                        output.drain(|stream, data| run.output(stream, data));
                        run.append(event);
                    }
                    Ok(Some(Said::Done { number, status })) if number == *cells => cell.status = Some(status),
                    Ok(Some(Said::Done { .. } | Said::Ready)) => {}
                    Ok(None) => heard_all = true,
                    Err(_) => {
                        // The user's code has written into the pipe: no later word could be told from it.
                        heard_all = true;
                        cell.killed = true;
                        control.order(Order::Kill);
                    }
                },
                report = control.report(), if cell.death.is_none() => match report {
                    Some(Report::Interrupted) => cell.interrupting = false,
                    Some(Report::Exited(exit)) => cell.death = Some(death(Some(exit))),
                    Some(_) => {}
                    None => cell.death = Some(death(None)),
                },
                () = run.until_cancelled(), if cell.cause.is_none() && cell.death.is_none() => {
                    deadline = interrupt(control, &mut cell, Cause::Cancelled);
                }
                () = sleep_until(due) => match (&cell.death, cell.cause) {
                    (Some(_), _) => break,
                    (None, None) => deadline = interrupt(control, &mut cell, Cause::TimedOut),
                    (None, Some(cause)) if cell.interrupts < INTERRUPTS => {
                        deadline = interrupt(control, &mut cell, cause);
                    }
                    (None, Some(_)) => {
                        if cell.killed {
                            control.force();
                        }
                        cell.killed = true;
                        control.order(Order::Kill);
                        deadline = Instant::now() + KILL_GRACE * 2;
                    }
                },
            }
        }
        if cell.killed {
            command::gone(run, control, output).await;
        }
        cell
    }
}

fn keep_end(said: &mut Vec<u8>, data: &[u8]) {
    said.extend_from_slice(data);
    said.drain(..said.len().saturating_sub(MAX_LAST_WORDS));
}

fn interrupt(control: &Control, cell: &mut Cell, cause: Cause) -> Instant {
    cell.cause = Some(cause);
    cell.interrupting = true;
    cell.interrupts += 1;
    cell.unsent.extend_from_slice(&cell.interrupt);
    control.order(Order::Interrupt);
    Instant::now() + INTERRUPT_EVERY
}

fn death(exit: Option<Exit>) -> Death {
    Death { exit, patience: Instant::now() + DRAIN_GRACE }
}

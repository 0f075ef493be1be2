//! New contexts as copies of an interpreter that has run nothing yet, and copies of live ones.

use tokio::io::AsyncWriteExt;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until, timeout};
use wire::v1::run_event::Event;
use wire::{Code, Error};

use super::interpreter::{Interpreter, Place};
use super::language::Language;
use super::protocol::{self, Said};
use crate::adoption::Adoption;
use crate::control::{Order, Report};
use crate::failure::fault;
use crate::process::SILENCE;
use crate::reaper::Reaper;

/// What a driver's status says if a new interpreter would find other packages than it has.
const OUTDATED: u8 = 2;

/// The interpreter that new contexts are copied from: a copy comes up some ten times as fast.
///
/// There is one, of the language that can be copied. It is made with the first context, runs nothing of
/// the user's, and is replaced when it dies or is outdated.
#[derive(Debug, Default)]
pub(super) struct Zygote(Mutex<Option<Interpreter>>);

impl Zygote {
    /// A new interpreter: a copy where there can be one.
    pub(super) async fn spawn(
        &self,
        language: &'static Language,
        place: &Place,
        reaper: &Reaper,
    ) -> Result<Interpreter, Error> {
        let mut zygote = self.0.lock().await;
        if let Some(live) = &mut *zygote
            && let Ok(Some(copy)) = live.fork(true, reaper).await
        {
            return Ok(copy);
        }
        if let Some(old) = zygote.take() {
            tokio::spawn(old.kill());
        }
        let mut live = Interpreter::start(language, place, reaper).await?;
        // Where copying does not work at all, what has started is the context itself.
        let Ok(Some(copy)) = live.fork(true, reaper).await else { return Ok(live) };
        *zygote = Some(live);
        Ok(copy)
    }
}

impl Interpreter {
    /// Makes a copy of it between cells. `None`: `new` was asked for, and a copy would not be.
    pub(super) async fn fork(&mut self, new: bool, reaper: &Reaper) -> Result<Option<Self>, Error> {
        self.let_go().await?;
        let copied = self.copy(new, reaper).await;
        self.control.order(Order::Adopt);
        copied
    }

    /// Has its supervisor leave orphans to us for a while: one of them will be the copy's supervisor.
    /// What daemonises in these milliseconds belongs to no context.
    async fn let_go(&mut self) -> Result<(), Error> {
        self.control.order(Order::LetGo);
        let agreed = async {
            loop {
                match self.control.report().await {
                    Some(Report::LetsGo) => return true,
                    None | Some(Report::Exited(_)) => return false,
                    Some(_) => {}
                }
            }
        };
        match timeout(SILENCE, agreed).await {
            Ok(true) => Ok(()),
            _ => Err(died()),
        }
    }

    async fn copy(&mut self, new: bool, reaper: &Reaper) -> Result<Option<Self>, Error> {
        let forks = self.forks.as_ref().ok_or_else(|| self.language.unforkable())?;
        let adoption = Adoption::offer(forks).map_err(|error| fault(&error))?;
        // One that dies of it is seen below.
        let _ = self.requests.write_all(&protocol::copy(self.cells, new)).await;
        if self.copied().await? == OUTDATED {
            return Ok(None);
        }
        let (control, output, private) = adoption.complete(reaper).await?;
        let mut copy = Self::of(self.language, control, output, private);
        copy.cells = self.cells;
        copy.ready().await?;
        Ok(Some(copy))
    }

    /// What the interpreter says about the copy that it was asked for.
    async fn copied(&mut self) -> Result<u8, Error> {
        let deadline = Instant::now() + SILENCE;
        let mut why = None;
        loop {
            tokio::select! {
                said = self.events.next() => match said {
                    Ok(Some(Said::Done { status: 1, .. })) => return Err(why.unwrap_or_else(died)),
                    Ok(Some(Said::Done { status, .. })) => return Ok(status),
                    Ok(Some(Said::Event(Event::Exception(raised)))) => {
                        let message = format!(
                            "the context cannot be forked ({}: {}); end what it does not need, or ask for a larger sandbox",
                            raised.name, raised.value
                        );
                        why = Some(Error::new(Code::TooMany, message));
                    }
                    Ok(Some(_)) => {}
                    Ok(None) | Err(_) => return Err(died()),
                },
                // Between runs it belongs to none.
                stream = self.output.ready() => {
                    self.output.take(stream);
                    self.output.totals();
                }
                () = sleep_until(deadline) => return Err(died()),
            }
        }
    }
}

/// What cannot be copied, since it is no more.
pub(super) fn died() -> Error {
    Error::new(
        Code::ContextNotFound,
        "the context's interpreter has ended; run something in it first",
    )
}

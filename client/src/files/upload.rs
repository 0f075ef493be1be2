//! Uploads: a file's bytes from where they are read. One whose stream breaks goes on where it broke.

use std::{io::SeekFrom, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncSeek, AsyncSeekExt},
    time::{Instant, sleep},
};
use wire::v1::{Entry, UploadEvent, UploadFrom, WriteReply, WriteStart, upload_event::Event};

use super::sending::{Sending, begin};
use crate::{
    Error, Lane, Session,
    session::{Call, check_digest},
};

/// How long an upload is tried to go on with while nothing more of it arrives: an API server or a kubelet needs some
/// ten seconds to come back, and the agent keeps what it has for longer.
const PATIENCE: Duration = Duration::from_mins(1);
/// The pause between two tries, doubled from the first to the second bound.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));
/// How often an upload goes on at most: what an agent makes us do has a bound.
const RESUMES: u32 = 100;
impl Session {
    /// Replaces a file with all bytes of `source`, from its beginning on, or not at all. `mode` 0 keeps the file's
    /// own, or 0644.
    ///
    /// `id` is the upload's own, 1 to 64 characters out of `A-Z a-z 0-9 _ . -`. A stream that breaks is opened again
    /// and the upload goes on with what the agent does not have, as it also does when it is called again with the
    /// same id within three minutes, by another process for example; the later one goes on. The digest is of all
    /// bytes: a source that changes meanwhile is [`Error::Corrupted`], or the agent's `CORRUPTED`. The file is
    /// replaced once; where the agent has forgotten an upload whose end it was sent, [`Error::Uncertain`]. With an
    /// agent that knows no uploads it is a write, sent anew once when its stream breaks. A part that the agent does
    /// not take within 20 s is a break.
    pub async fn upload<S>(
        &self,
        id: &str,
        path: &str,
        source: &mut S,
        mode: u32,
        create_parents: bool,
        lane: Lane,
    ) -> Result<Entry, Error>
    where
        S: AsyncRead + AsyncSeek + Unpin,
    {
        let start =
            WriteStart { path: path.into(), mode, create_parents, upload_id: id.to_owned() };
        let sending = Sending::new("Upload", self, path, source, lane);
        let mut upload = Upload { start, sending, arrived: 0 };
        let reply = match upload.follow().await {
            Err(Error::TooOld { .. }) => upload.write().await?,
            reply => reply?,
        };
        check_digest(path, &upload.sending.digest(), &reply.sha256)?;
        Ok(reply.entry.unwrap_or_default())
    }
}

/// How far an upload is.
struct Upload<'a, S> {
    start: WriteStart,
    sending: Sending<'a, S>,
    /// How many bytes the agent has said it has.
    arrived: u64,
}

impl<S: AsyncRead + AsyncSeek + Unpin> Upload<'_, S> {
    /// Sends all that is missing, in as many streams as it takes.
    async fn follow(&mut self) -> Result<WriteReply, Error> {
        let (mut broke, mut failing) = (None, (Instant::now(), PAUSE.0));
        for resumes in 0.. {
            let before = self.arrived;
            let error = match self.stream().await {
                // Of one that could not be resumed the break is what has happened.
                Err(Error::TooOld { .. }) if broke.is_some() => break,
                Err(error) if error.is_transport() => error,
                end => return end,
            };
            if self.arrived > before || resumes == 0 {
                failing = (Instant::now(), PAUSE.0);
            }
            let (since, pause) = failing;
            if resumes == RESUMES || since.elapsed() >= PATIENCE {
                return Err(error);
            }
            let (pod, path) = (self.sending.session.pod(), &self.start.path);
            tracing::debug!(pod, path, %error, "resuming the upload");
            broke = Some(error);
            sleep(pause).await;
            failing.1 = PAUSE.1.min(pause * 2);
        }
        Err(broke.expect("it broke"))
    }

    /// Sends what is missing in one stream.
    async fn stream(&mut self) -> Result<WriteReply, Error> {
        let (session, lane) = (self.sending.session, self.sending.lane);
        let (parts, stream) = begin(self.start.clone());
        let opened = session.answer(Call::new("Upload", lane), async {
            let mut agent = session.agent(lane).await?;
            let answer = agent.upload(stream).await;
            answer.map_err(|status| session.error(&status))
        });
        let mut events = opened.await?;
        match session.message("Upload", &mut events).await?.and_then(|told| told.event) {
            Some(Event::From(UploadFrom { known: false, .. })) if self.sending.ended => {
                let reason = "the agent does not know it any more".to_owned();
                let path = self.start.path.clone();
                return Err(Error::Uncertain { doing: "Upload", path, reason });
            }
            Some(Event::From(UploadFrom { bytes, .. })) => {
                self.arrived = bytes;
                self.seek(bytes).await?;
            }
            // It was all there: of the last part only the answer was lost.
            Some(Event::Reply(reply)) => {
                self.seek(u64::MAX).await?;
                return Ok(reply);
            }
            None => return Err(self.lost()),
        }
        let told = self.sending.send(parts, events.message()).await?;
        // In the middle of its data an agent has nothing to say but what is wrong.
        let told = match told {
            Some(told) => told.map_err(|status| session.error(&status))?,
            None => {
                session
                    .answer(self.sending.last(), async {
                        let told =
                            events.message().await.map_err(|status| session.error(&status))?;
                        Ok(tonic::Response::new(told))
                    })
                    .await?
            }
        };
        match told {
            Some(UploadEvent { event: Some(Event::Reply(reply)) }) => Ok(reply),
            _ => Err(self.lost()),
        }
    }

    /// The upload as agents take it that know no uploads: in one stream, and once more in another.
    async fn write(&mut self) -> Result<WriteReply, Error> {
        match self.write_once().await {
            Err(error) if error.is_transport() => self.write_once().await,
            answer => answer,
        }
    }

    async fn write_once(&mut self) -> Result<WriteReply, Error> {
        let (session, lane) = (self.sending.session, self.sending.lane);
        self.seek(0).await?;
        let mut agent = session
            .answer(Call::new("Write", lane), async {
                session.agent(lane).await.map(tonic::Response::new)
            })
            .await?;
        let (parts, stream) = begin(self.start.clone());
        let mut answer = std::pin::pin!(agent.write(stream));
        let Some(told) = self.sending.send(parts, &mut answer).await? else {
            let answer = async { answer.await.map_err(|status| session.error(&status)) };
            return session.answer(self.sending.last(), answer).await;
        };
        told.map(tonic::Response::into_inner).map_err(|status| session.error(&status))
    }

    /// Goes to a place of the source, or its end, with all before it hashed.
    async fn seek(&mut self, to: u64) -> Result<(), Error> {
        let sending = &mut self.sending;
        let from = sending.hashed.min(to);
        let sought = sending.source.seek(SeekFrom::Start(from)).await;
        sending.position = sought.map_err(|source| sending.local("read the source", source))?;
        while sending.position < to {
            if sending.chunk(to - sending.position).await?.is_empty() {
                break;
            }
        }
        if sending.position < to && to != u64::MAX {
            let what = self.start.path.clone();
            return Err(Error::Corrupted { what, why: "the agent has more of it than there is" });
        }
        Ok(())
    }

    fn lost(&self) -> Error {
        let reason = format!("the upload of {} ended before its answer", self.start.path);
        Error::Lost { pod: self.sending.session.pod().into(), reason }
    }
}

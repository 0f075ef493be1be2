//! Uploads: a file's bytes from where they are read. One whose stream breaks goes on where it broke.

use std::{io::SeekFrom, time::Duration};

use bytes::{Bytes, BytesMut};
use sha2::{Digest, Sha256};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncSeek, AsyncSeekExt},
    sync::mpsc,
    time::{Instant, sleep, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use wire::{
    limits::CHUNK,
    v1::{
        Entry, UploadEvent, UploadFrom, WriteEnd, WriteReply, WriteRequest, WriteStart,
        upload_event::Event, write_request::Part,
    },
};

use super::transfer;
use crate::{
    Error, Lane, Session,
    session::{CALL_DEADLINE, Call, check_digest},
};

/// How long an upload is tried to go on with while nothing more of it arrives: an API server or a kubelet needs some
/// ten seconds to come back, and the agent keeps what it has for longer.
const PATIENCE: Duration = Duration::from_mins(1);
/// The pause between two tries, doubled from the first to the second bound.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));
/// How often an upload goes on at most: what an agent makes us do has a bound.
const RESUMES: u32 = 100;
/// How many parts wait for the stream to take them.
const WAITING: usize = 2;

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
        let mut upload = Upload::new(self, start, source, lane);
        let reply = match upload.follow().await {
            Err(Error::TooOld { .. }) => upload.write().await?,
            reply => reply?,
        };
        check_digest(path, &upload.hash.finalize(), &reply.sha256)?;
        Ok(reply.entry.unwrap_or_default())
    }
}

/// How far an upload is.
struct Upload<'a, S> {
    session: &'a Session,
    start: WriteStart,
    source: &'a mut S,
    lane: Lane,
    /// Of the first `hashed` bytes.
    hash: Sha256,
    hashed: u64,
    /// The next byte to be read.
    position: u64,
    /// How many bytes the agent has said it has.
    arrived: u64,
    /// Whether the end was sent: the file may be there.
    ended: bool,
}

impl<'a, S: AsyncRead + AsyncSeek + Unpin> Upload<'a, S> {
    fn new(session: &'a Session, start: WriteStart, source: &'a mut S, lane: Lane) -> Self {
        let (hash, hashed, position, arrived, ended) = (Sha256::new(), 0, 0, 0, false);
        Self { session, start, source, lane, hash, hashed, position, arrived, ended }
    }

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
            let (pod, path) = (self.session.pod(), &self.start.path);
            tracing::debug!(pod, path, %error, "resuming the upload");
            broke = Some(error);
            sleep(pause).await;
            failing.1 = PAUSE.1.min(pause * 2);
        }
        Err(broke.expect("it broke"))
    }

    /// Sends what is missing in one stream.
    async fn stream(&mut self) -> Result<WriteReply, Error> {
        let session = self.session;
        let (parts, stream) = mpsc::channel(WAITING);
        // There is room for it.
        let _ = parts.try_send(request(Part::Start(self.start.clone())));
        let opened = session.answer(Call::new("Upload", self.lane), async {
            let mut agent = session.agent(self.lane).await?;
            let answer = agent.upload(ReceiverStream::new(stream)).await;
            answer.map_err(|status| session.error(&status))
        });
        let mut events = opened.await?;
        match session.message("Upload", &mut events).await?.and_then(|told| told.event) {
            Some(Event::From(UploadFrom { known: false, .. })) if self.ended => {
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
        let told = self.send(parts, events.message()).await?;
        // In the middle of its data an agent has nothing to say but what is wrong.
        let told = match told {
            Some(told) => told.map_err(|status| session.error(&status))?,
            None => {
                session
                    .answer(self.last(), async {
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
        let session = self.session;
        self.seek(0).await?;
        let mut agent = session
            .answer(Call::new("Write", self.lane), async {
                session.agent(self.lane).await.map(tonic::Response::new)
            })
            .await?;
        let (parts, stream) = mpsc::channel(WAITING);
        let _ = parts.try_send(request(Part::Start(self.start.clone())));
        let mut answer = std::pin::pin!(agent.write(ReceiverStream::new(stream)));
        let Some(told) = self.send(parts, &mut answer).await? else {
            let answer = async { answer.await.map_err(|status| session.error(&status)) };
            return session.answer(self.last(), answer).await;
        };
        told.map(tonic::Response::into_inner).map_err(|status| session.error(&status))
    }

    /// Sends what is behind the position, and its end. Whatever the agent says before that ends it, and is returned.
    async fn send<T>(
        &mut self,
        parts: mpsc::Sender<WriteRequest>,
        answer: impl Future<Output = T>,
    ) -> Result<Option<T>, Error> {
        let mut answer = std::pin::pin!(answer);
        loop {
            let data = self.chunk(u64::MAX).await?;
            let part = if data.is_empty() {
                let sha256 = self.hash.clone().finalize().to_vec().into();
                self.ended = true;
                Part::End(WriteEnd { sha256 })
            } else {
                Part::Data(data)
            };
            let end = matches!(part, Part::End(_));
            let taken = async {
                // A stream that has ended takes nothing more; how it has is in the answer.
                let taken = timeout(CALL_DEADLINE, parts.send(request(part))).await;
                taken.map_err(|_| Error::Deadline {
                    doing: "Upload",
                    pod: self.session.pod().into(),
                    after: CALL_DEADLINE,
                })
            };
            tokio::select! {
                biased;
                told = &mut answer => return Ok(Some(told)),
                taken = taken => match taken? {
                    Ok(()) if end => return Ok(None),
                    Ok(()) => {}
                    Err(_) => return Ok(None),
                },
            }
        }
    }

    /// How long the last answer may take: the agent may have to copy all of it once more.
    fn last(&self) -> Call {
        let bytes = usize::try_from(self.position).unwrap_or(usize::MAX);
        Call { doing: "Upload", lane: self.lane, within: CALL_DEADLINE + transfer(bytes) }
    }

    /// Goes to a place of the source, or its end, with all before it hashed.
    async fn seek(&mut self, to: u64) -> Result<(), Error> {
        let from = self.hashed.min(to);
        let sought = self.source.seek(SeekFrom::Start(from)).await;
        self.position = sought.map_err(|source| self.local(source))?;
        while self.position < to {
            if self.chunk(to - self.position).await?.is_empty() {
                break;
            }
        }
        if self.position < to && to != u64::MAX {
            let what = self.start.path.clone();
            return Err(Error::Corrupted { what, why: "the agent has more of it than there is" });
        }
        Ok(())
    }

    /// The next bytes of the source, hashed; none at its end.
    async fn chunk(&mut self, most: u64) -> Result<Bytes, Error> {
        let most = most.min(CHUNK as u64);
        let mut data = BytesMut::with_capacity(CHUNK);
        let mut part = (&mut *self.source).take(most);
        while (data.len() as u64) < most {
            match part.read_buf(&mut data).await {
                Ok(0) => break,
                Ok(_) => {}
                Err(source) => return Err(self.local(source)),
            }
        }
        let data = data.freeze();
        let known = self.hashed.saturating_sub(self.position).min(data.len() as u64);
        self.hash.update(&data[usize::try_from(known).unwrap_or(data.len())..]);
        self.position += data.len() as u64;
        self.hashed = self.hashed.max(self.position);
        Ok(data)
    }

    fn lost(&self) -> Error {
        let reason = format!("the upload of {} ended before its answer", self.start.path);
        Error::Lost { pod: self.session.pod().into(), reason }
    }

    fn local(&self, source: std::io::Error) -> Error {
        Error::Local { doing: "read the source", path: self.start.path.clone(), source }
    }
}

fn request(part: Part) -> WriteRequest {
    WriteRequest { part: Some(part) }
}

//! Downloads: a part of a file as it arrives. One whose stream breaks goes on where it broke.

use std::time::Duration;

use bytes::{Buf, Bytes};
use sha2::{Digest, Sha256};
use tokio::time::sleep;
use wire::v1::{ReadEnd, ReadEvent, ReadRequest, ResumeRequest, read_event::Event};

use super::{Piece, TOO_LONG};
use crate::{
    Error, Lane, Session,
    session::{Call, check_digest},
};

/// How often a download is resumed at most, and the pause before: what an agent makes us do has a bound.
const RESUMES: (u32, Duration) = (10, Duration::from_millis(100));

impl Session {
    /// Reads a part of a file (`length` 0: to its end), handing on what arrives, each byte once. Its bytes are right
    /// only when this has returned without an error. It is resumed as long as each new stream brings some of it.
    pub async fn download(
        &self,
        path: &str,
        offset: u64,
        length: u64,
        lane: Lane,
        take: impl FnMut(Piece),
    ) -> Result<u64, Error> {
        let part = ReadRequest { path: path.into(), offset, length };
        let mut download = Download { part, take, received: 0, hash: Sha256::new() };
        let (mut broke, mut resumes) = (None, 0);
        loop {
            let before = download.received;
            match (download.follow(self, lane).await, broke.take()) {
                (Ok(true), _) => return Ok(download.received),
                // Not broken, and so not mended by another.
                (Ok(false), _) => {
                    let reason = format!("{path} ended before its digest");
                    return Err(Error::Lost { pod: self.pod().into(), reason });
                }
                (Err(error), _)
                    if error.is_transport()
                        && download.received > before
                        && resumes < RESUMES.0 =>
                {
                    tracing::debug!(pod = self.pod(), path, %error, "resuming the download");
                    (broke, resumes) = (Some(error), resumes + 1);
                    sleep(RESUMES.1).await;
                }
                // Of one that could not be resumed the break is what has happened.
                (Err(Error::TooOld { .. }), Some(error)) | (Err(error), _) => return Err(error),
            }
        }
    }
}

/// How far a download is.
struct Download<F> {
    part: ReadRequest,
    take: F,
    received: u64,
    hash: Sha256,
}

impl<F: FnMut(Piece)> Download<F> {
    /// Takes what one stream brings, and says whether it has come to the end of the part.
    async fn follow(&mut self, session: &Session, lane: Lane) -> Result<bool, Error> {
        let ReadRequest { path, offset, length } = self.part.clone();
        // Of a part that lacks nothing but its digest the last byte comes once more: a length of 0 is all.
        let again = u64::from(length > 0 && self.received == length);
        let rest = ReadRequest {
            path: path.clone(),
            offset: offset.saturating_add(self.received - again),
            length: if length == 0 { 0 } else { length - self.received + again },
        };
        let resumed = self.received > 0;
        // Only the opening is tried again: what was handed on cannot be taken back.
        let mut stream = session
            .call(Call::new("Read", lane), |mut agent| {
                let rest = rest.clone();
                async move {
                    if resumed {
                        let request = ResumeRequest { rest: Some(rest), digest_from: offset };
                        agent.resume(request).await
                    } else {
                        agent.read(rest).await
                    }
                }
            })
            .await?;
        let mut sent = 0;
        while let Some(ReadEvent { event }) = session.message("Read", &mut stream).await? {
            match event {
                Some(Event::Entry(entry)) if !resumed => (self.take)(Piece::Entry(entry)),
                Some(Event::Data(mut data)) => {
                    let known = again.saturating_sub(sent).min(data.len() as u64);
                    sent += data.len() as u64;
                    data.advance(usize::from(known > 0));
                    self.data(data)?;
                }
                Some(Event::End(end)) => return self.end(&end, sent).map(|()| true),
                Some(Event::Entry(_)) | None => {}
            }
        }
        Ok(false)
    }

    fn data(&mut self, data: Bytes) -> Result<(), Error> {
        let received = self.received + data.len() as u64;
        // Callers keep what they get: an agent that sends for ever is stopped here.
        if self.part.length > 0 && received > self.part.length {
            return Err(self.corrupted(TOO_LONG));
        }
        self.received = received;
        self.hash.update(&data);
        if !data.is_empty() {
            (self.take)(Piece::Data(data));
        }
        Ok(())
    }

    fn end(&self, end: &ReadEnd, sent: u64) -> Result<(), Error> {
        check_digest(&self.part.path, &self.hash.clone().finalize(), &end.sha256)?;
        if end.bytes != sent {
            return Err(self.corrupted("its length differs from the agent's"));
        }
        Ok(())
    }

    fn corrupted(&self, why: &'static str) -> Error {
        Error::Corrupted { what: self.part.path.clone(), why }
    }
}

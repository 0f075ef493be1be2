//! Trees as tar streams, both ways. One that breaks is not gone on with: files may have changed since.

use sha2::{Digest, Sha256};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use wire::v1::{
    ArchiveEnd, ArchiveEvent, ArchiveRequest, ExtractReply, WriteStart, archive_event::Event,
};

use super::sending::{Sending, begin};
use crate::{
    Error, Lane, Session,
    session::{CALL_DEADLINE, Call, check_digest},
};

impl Session {
    /// Writes what is below a directory of the sandbox, or a file, into `sink` as a tar stream without compression,
    /// and flushes that. It is a whole archive only when this has returned without an error, and then the digest in
    /// the answer is right.
    ///
    /// Names are relative to the directory, which itself is left out, in the order of their components' bytes: the
    /// same tree gives the same bytes. Modes, symlinks and the seconds of mtimes are kept; owners are not, nor are
    /// holes, and hard links are files of their own. Sockets, pipes and devices are left out and counted. A path that
    /// is a symlink is followed. The agent may take 20 s for each part.
    ///
    /// Errors of the agent are `FILE_NOT_FOUND`, `PERMISSION_DENIED` for whatever may not be read, `CONFLICT` for a
    /// file that becomes shorter meanwhile, and `INVALID_ARGUMENT` for more than 64 levels; [`Error::Local`] is the
    /// sink's. An agent that knows no archives is [`Error::TooOld`].
    pub async fn archive<W>(
        &self,
        path: &str,
        sink: &mut W,
        lane: Lane,
    ) -> Result<ArchiveEnd, Error>
    where
        W: AsyncWrite + Unpin,
    {
        let request = ArchiveRequest { path: path.into() };
        let mut stream = self
            .call(Call::new("Archive", lane), |mut agent| {
                let request = request.clone();
                async move { agent.archive(request).await }
            })
            .await?;
        let local =
            |source| Error::Local { doing: "hand on the archive", path: path.into(), source };
        let (mut bytes, mut hash) = (0, Sha256::new());
        while let Some(ArchiveEvent { event }) = self.message("Archive", &mut stream).await? {
            match event {
                Some(Event::Data(data)) => {
                    bytes += data.len() as u64;
                    hash.update(&data);
                    sink.write_all(&data).await.map_err(local)?;
                }
                Some(Event::End(end)) => {
                    check_digest(path, &hash.finalize(), &end.sha256)?;
                    if end.bytes != bytes {
                        let why = "its length differs from the agent's";
                        return Err(Error::Corrupted { what: path.into(), why });
                    }
                    sink.flush().await.map_err(local)?;
                    return Ok(end);
                }
                None => {}
            }
        }
        let reason = format!("the archive of {path} ended before its digest");
        Err(Error::Lost { pod: self.pod().into(), reason })
    }

    /// Unpacks a tar stream without compression, all that `source` holds, into a directory of the sandbox.
    ///
    /// A directory that does not exist is there when all has been unpacked, with `mode` (0: 0755), or not at all. In
    /// one that exists files and symlinks, but not hard links, take the place of what has their names; what had been
    /// unpacked when something went wrong stays there. Names that are absolute or hold `..` are refused, and so is
    /// writing through a symlink that leads out of the directory. Modes, symlinks, hard links and the seconds of
    /// mtimes are kept; owners are not. Devices, pipes and the setuid, setgid and sticky bits are left out and
    /// counted.
    ///
    /// The source cannot be read again, and so nothing is sent twice: a stream that breaks before all was sent is
    /// [`Error::Lost`], and behind that [`Error::Uncertain`]. A part that the agent does not take within 20 s is a
    /// break. Errors of the agent are `INVALID_ARGUMENT` for what is no tar or leads out, `NO_SPACE`,
    /// `PERMISSION_DENIED`, `ALREADY_EXISTS` and `FILE_KIND` for what is in the way, `CORRUPTED`, and `TOO_MANY` where
    /// two archives are being unpacked already. [`Error::Local`] is the source's. An agent that knows no archives is
    /// [`Error::TooOld`].
    pub async fn extract<S>(
        &self,
        path: &str,
        source: &mut S,
        mode: u32,
        create_parents: bool,
        lane: Lane,
    ) -> Result<ExtractReply, Error>
    where
        S: AsyncRead + Unpin,
    {
        let start = WriteStart { path: path.into(), mode, create_parents, ..WriteStart::default() };
        let mut sending = Sending::new("Extract", self, path, source, lane);
        let opening = Call { doing: "Extract", lane, within: CALL_DEADLINE };
        let mut agent =
            self.call(opening, |agent| std::future::ready(Ok(tonic::Response::new(agent)))).await?;
        let (parts, stream) = begin(start);
        let mut answer = std::pin::pin!(agent.extract(stream));
        let reply = if let Some(told) = sending.send(parts, &mut answer).await? {
            told.map(tonic::Response::into_inner).map_err(|status| self.error(&status))
        } else {
            let answer = async { answer.await.map_err(|status| self.error(&status)) };
            self.answer(sending.last(), answer).await
        };
        let uncertain =
            |reason: String| Error::Uncertain { doing: "Extract", path: path.into(), reason };
        let reply = reply.map_err(|error| match error {
            error if error.is_transport() && sending.ended => uncertain(error.to_string()),
            error => error,
        })?;
        // Not corrupted: that may be tried again.
        check_digest(path, &sending.digest(), &reply.sha256)
            .map_err(|error| uncertain(error.to_string()))?;
        Ok(reply)
    }
}

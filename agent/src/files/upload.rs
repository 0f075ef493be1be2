//! Writing a file in as many streams as it takes.
//!
//! What has arrived of an upload belongs to its id, and to a stream only for as long as that lasts: streams end
//! anywhere, their calls with them. Of one that broke the open file is kept for a while, and of one that has ended its
//! answer, so that whoever asks again because that was lost replaces nothing a second time.

use std::collections::HashMap;
use std::mem;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex as StdMutex, MutexGuard, PoisonError};

use futures::stream::{self, Stream, StreamExt};
use tokio::runtime::Handle;
use tokio::sync::Mutex;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep};
use wire::limits::{MAX_UPLOAD_ID, UPLOAD_KEPT, UPLOADS_BROKEN, UPLOADS_ENDED};
use wire::v1::upload_event::Event;
use wire::v1::write_request::Part;
use wire::v1::{UploadEvent, UploadFrom, WriteReply, WriteRequest, WriteStart};
use wire::{Code, Error};

use super::write::{How, Writing};
use super::{Turn, blocking, resolve};
use crate::run::spec;

/// The uploads that go on, broke, or have ended, by their ids.
#[derive(Debug, Default)]
pub(crate) struct Uploads(StdMutex<HashMap<String, Upload>>);

#[derive(Debug)]
struct Upload {
    start: WriteStart,
    file: Arc<Mutex<File>>,
    /// The number of the stream that it belongs to, or did last.
    stream: u64,
    ended: bool,
    /// Since when no stream has it, and what forgets it.
    idle: Option<(Instant, AbortHandle)>,
}

/// What there is of an upload's file. Held while a step is made.
#[derive(Default)]
enum File {
    #[default]
    Nothing,
    Part(Writing),
    Whole(WriteReply),
}

/// A stream's hold on an upload. Dropping it leaves that to the next.
struct Hold {
    uploads: Arc<Uploads>,
    id: String,
    stream: u64,
    file: Arc<Mutex<File>>,
}

/// Takes what one stream brings of an upload: says how much is here, and at last what was written.
pub(crate) async fn upload<E, S>(
    workspace: &Path,
    uploads: &Arc<Uploads>,
    turn: &Turn,
    parts: S,
) -> Result<impl Stream<Item = Result<UploadEvent, Error>> + use<E, S>, Error>
where
    S: Stream<Item = Result<WriteRequest, E>> + Send + 'static,
{
    let mut parts = Box::pin(parts.map(|part| part.ok().and_then(|request| request.part)));
    let Some(Part::Start(start)) = parts.next().await.flatten() else {
        let message = "an upload begins with its start: send that first";
        return Err(Error::new(Code::InvalidArgument, message));
    };
    spec::name("upload id", &start.upload_id, MAX_UPLOAD_ID)?;
    let path = resolve(workspace, &start.path)?;
    let hold = uploads.hold(&start)?;
    let first = hold.begin(path, start).await?;
    let turn = turn.clone();
    let rest = async move {
        loop {
            match parts.next().await.flatten() {
                Some(Part::Data(data)) => {
                    hold.step(move |writing| writing.take(&data).map(File::Part)).await?;
                }
                Some(Part::End(end)) => {
                    let turn = turn.lock_owned().await;
                    let whole = hold.step(move |writing| {
                        let _turn = turn;
                        writing.finish(&end.sha256).map(File::Whole)
                    });
                    return whole.await;
                }
                Some(Part::Start(_)) | None => {
                    let message = format!(
                        "upload {}: the stream broke off before its end; begin another with the same id to go on",
                        hold.id
                    );
                    return Err(Error::new(Code::InvalidArgument, message));
                }
            }
        }
    };
    let rest = matches!(first, Event::From(_)).then(|| stream::once(rest));
    let events = stream::once(async { Ok(first) }).chain(stream::iter(rest).flatten());
    Ok(events.map(|event| event.map(|event| UploadEvent { event: Some(event) })))
}

impl Uploads {
    fn all(&self) -> MutexGuard<'_, HashMap<String, Upload>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives an upload to a new stream, whoever had it.
    fn hold(self: &Arc<Self>, start: &WriteStart) -> Result<Hold, Error> {
        let id = start.upload_id.clone();
        let mut all = self.all();
        let upload = all.entry(id.clone()).or_insert_with(|| Upload {
            start: start.clone(),
            file: Arc::default(),
            stream: 0,
            ended: false,
            idle: None,
        });
        if upload.start != *start {
            let path = &upload.start.path;
            let message = format!("upload {id}: is of {path} already; choose another id");
            return Err(Error::new(Code::InvalidArgument, message));
        }
        if let Some((_, forgetting)) = upload.idle.take() {
            forgetting.abort();
        }
        upload.stream += 1;
        let (stream, file) = (upload.stream, upload.file.clone());
        Ok(Hold { uploads: Arc::clone(self), id, stream, file })
    }

    /// Forgets the upload that has been idle longest where there are more than may be.
    fn make_room(all: &mut HashMap<String, Upload>, ended: bool) -> Option<Upload> {
        let idle = all.iter().filter(|(_, upload)| upload.ended == ended && upload.idle.is_some());
        let most = if ended { UPLOADS_ENDED } else { UPLOADS_BROKEN };
        if idle.clone().count() <= most {
            return None;
        }
        let since = |upload: &Upload| upload.idle.as_ref().map(|(since, _)| *since);
        let (id, _) = idle.min_by_key(|(_, upload)| since(upload))?;
        let id = id.clone();
        let upload = all.remove(&id)?;
        if let Some((_, forgetting)) = &upload.idle {
            forgetting.abort();
        }
        Some(upload)
    }
}

impl Hold {
    /// Begins the file if there is nothing of it, and says how much there is.
    async fn begin(&self, path: PathBuf, start: WriteStart) -> Result<Event, Error> {
        let mut file = self.file.clone().lock_owned().await;
        self.own()?;
        let known = self.stream > 1;
        let begun = blocking(move || {
            if let File::Nothing = *file {
                *file = File::Part(Writing::begin(path, &start, How::Replace)?);
            }
            Ok(file.event(known))
        });
        begun.await.inspect_err(|_| self.forget())
    }

    /// Makes a step of the upload, unless another stream has it. One that fails leaves nothing.
    async fn step(
        &self,
        step: impl FnOnce(Writing) -> Result<File, Error> + Send + 'static,
    ) -> Result<Event, Error> {
        let mut file = self.file.clone().lock_owned().await;
        self.own()?;
        let (uploads, id) = (Arc::clone(&self.uploads), self.id.clone());
        let made = blocking(move || {
            if let File::Part(writing) = mem::take(&mut *file) {
                *file = step(writing)?;
            }
            // Here, for nobody may wait for this step any more.
            if let (File::Whole(_), Some(upload)) = (&*file, uploads.all().get_mut(&id)) {
                upload.ended = true;
            }
            Ok(file.event(true))
        });
        made.await.inspect_err(|_| self.forget())
    }

    fn own(&self) -> Result<(), Error> {
        if self.uploads.all().get(&self.id).is_some_and(|upload| upload.stream == self.stream) {
            return Ok(());
        }
        let message = format!("upload {}: goes on in another stream; leave it to that", self.id);
        Err(Error::new(Code::Conflict, message))
    }

    fn forget(&self) {
        let mut all = self.uploads.all();
        if all.get(&self.id).is_some_and(|upload| upload.stream == self.stream) {
            all.remove(&self.id);
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut all = self.uploads.all();
        let upload = all.get_mut(&self.id).filter(|upload| upload.stream == self.stream);
        let (Some(upload), Ok(handle)) = (upload, Handle::try_current()) else { return };
        let (uploads, id, stream) = (Arc::clone(&self.uploads), self.id.clone(), self.stream);
        let forgetting = handle.spawn(async move {
            sleep(UPLOAD_KEPT).await;
            let mut all = uploads.all();
            if all.get(&id).is_some_and(|upload| upload.stream == stream) {
                let gone = all.remove(&id);
                drop(all);
                discard(gone);
            }
        });
        upload.idle = Some((Instant::now(), forgetting.abort_handle()));
        let ended = upload.ended;
        let gone = Uploads::make_room(&mut all, ended);
        drop(all);
        discard(gone);
    }
}

/// Drops an upload where that may take a while: gibibytes of its file are given back.
fn discard(upload: Option<Upload>) {
    if let Some(upload) = upload {
        tokio::task::spawn_blocking(move || drop(upload));
    }
}

impl File {
    fn event(&self, known: bool) -> Event {
        let from = |bytes| Event::From(UploadFrom { bytes, known });
        match self {
            Self::Nothing => from(0),
            Self::Part(writing) => from(writing.bytes()),
            Self::Whole(reply) => Event::Reply(reply.clone()),
        }
    }
}

impl std::fmt::Debug for File {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.event(true).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use bytes::Bytes;
    use tempfile::TempDir;
    use tokio::time::advance;
    use wire::v1::WriteEnd;

    use super::*;

    fn from(bytes: u64) -> Event {
        Event::From(UploadFrom { bytes, known: bytes > 0 })
    }

    struct Sandbox {
        workspace: TempDir,
        uploads: Arc<Uploads>,
        turn: Turn,
    }

    impl Sandbox {
        fn new() -> Self {
            let workspace = tempfile::tempdir().unwrap();
            Self { workspace, uploads: Arc::default(), turn: Arc::default() }
        }

        /// What a stream is told that brings these data, and its end if it has one.
        async fn stream(&self, id: &str, data: &'static [u8], end: bool) -> Vec<Event> {
            let (path, upload_id) = (id.to_owned(), id.to_owned());
            let start = WriteStart { path, upload_id, ..WriteStart::default() };
            let end = end.then(|| Part::End(WriteEnd::default()));
            let parts = [Part::Start(start), Part::Data(Bytes::from_static(data))];
            let parts = parts.into_iter().chain(end);
            let parts = parts.map(|part| Ok::<_, ()>(WriteRequest { part: Some(part) }));
            let parts = stream::iter(parts.collect::<Vec<_>>());
            let (workspace, uploads) = (self.workspace.path(), &self.uploads);
            let events = upload(workspace, uploads, &self.turn, parts).await.unwrap();
            events.filter_map(async |event| event.ok()?.event).collect().await
        }

        async fn broken(&self, id: &str) -> Vec<Event> {
            self.stream(id, b"half", false).await
        }

        fn kept(&self) -> usize {
            self.uploads.all().len()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_broken_upload_is_kept_for_a_while_and_no_longer() {
        let sandbox = Sandbox::new();
        assert_eq!(sandbox.broken("a").await, [from(0)]);
        // From when it broke last.
        for (passed, bytes) in [(1, 4), (UPLOAD_KEPT.as_secs() - 1, 8)] {
            advance(std::time::Duration::from_secs(passed)).await;
            assert_eq!(sandbox.broken("a").await, [from(bytes)]);
        }
        sleep(UPLOAD_KEPT).await;
        tokio::task::yield_now().await;
        assert_eq!((sandbox.kept(), sandbox.broken("a").await), (0, vec![from(0)]));
        assert_eq!(fs::read_dir(sandbox.workspace.path()).unwrap().count(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn of_too_many_broken_uploads_the_one_that_broke_first_goes() {
        let sandbox = Sandbox::new();
        let ids: Vec<String> = (0..=UPLOADS_BROKEN).map(|id| id.to_string()).collect();
        for id in &ids {
            sandbox.broken(id).await;
            advance(std::time::Duration::from_secs(1)).await;
        }
        assert_eq!(sandbox.kept(), UPLOADS_BROKEN);
        assert_eq!(sandbox.broken(&ids[1]).await, [from(4)]);
        assert_eq!(sandbox.broken(&ids[0]).await, [from(0)]);
        assert_eq!(sandbox.broken(&ids[2]).await, [from(0)]);
    }

    #[tokio::test(start_paused = true)]
    async fn ended_uploads_are_remembered_up_to_a_bound_and_for_a_while() {
        let sandbox = Sandbox::new();
        sandbox.broken("broken").await;
        for id in 0..=UPLOADS_ENDED {
            let told = sandbox.stream(&id.to_string(), b"whole", true).await;
            assert!(matches!(told[..], [Event::From(_), Event::Reply(_)]), "{told:?}");
            advance(std::time::Duration::from_secs(1)).await;
        }
        assert_eq!(sandbox.kept(), UPLOADS_ENDED + 1);
        assert_eq!(sandbox.broken("broken").await, [from(4)]);
        assert!(matches!(sandbox.broken("1").await[..], [Event::Reply(_)]));
        sleep(UPLOAD_KEPT).await;
        tokio::task::yield_now().await;
        assert_eq!(sandbox.kept(), 0);
    }
}

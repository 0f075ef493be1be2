//! What is where in a sandbox: entries, and changes of directories, names and modes.
//!
//! A change that would be another one the second time is not tried again when its answer is lost:
//! the file that a move has put somewhere is not the one that a second would find there.

use std::time::Duration;

use wire::{
    limits::LIST_LIMIT,
    v1::{
        CopyRequest, Entry, ListRequest, MakeDirectoryRequest, MoveRequest, RemoveRequest,
        SetModeRequest, StatRequest, entry::Kind,
    },
};

use super::TOO_LONG;
use crate::{Error, Lane, Session, session::Call};

/// How long all of a file or directory may take to be hashed, copied or moved: some ten gibibytes on
/// a disk of 50 MiB a second.
const WHOLE_DEADLINE: Duration = Duration::from_mins(4);

fn whole(doing: &'static str) -> Call {
    Call { doing, lane: Lane::Control, within: WHOLE_DEADLINE }
}

impl Session {
    /// The entries below a directory, to a depth, at most `limit`.
    pub async fn list(&self, path: &str, depth: u32, limit: u32) -> Result<Vec<Entry>, Error> {
        self.find(ListRequest { path: path.into(), depth, limit, ..ListRequest::default() }).await
    }

    /// The entries below a directory that match a glob and come after a path, at most so many as the
    /// request's limit.
    pub async fn find(&self, request: ListRequest) -> Result<Vec<Entry>, Error> {
        let limit = if request.limit == 0 { LIST_LIMIT } else { request.limit } as usize;
        // Every agent knows List. It would leave the others out.
        let plain = request.glob.is_empty() && request.after.is_empty();
        self.all("List", 0, async {
            let mut stream = self
                .call(Call::new("List", Lane::Control), |mut agent| {
                    let request = request.clone();
                    async move {
                        if plain { agent.list(request).await } else { agent.find(request).await }
                    }
                })
                .await?;
            let mut entries = Vec::new();
            while let Some(entry) = self.message("List", &mut stream).await? {
                if entries.len() == limit {
                    let what = format!("the list of {}", request.path);
                    return Err(Error::Corrupted { what, why: TOO_LONG });
                }
                entries.push(entry);
            }
            Ok(entries)
        })
        .await
    }

    /// What a path is; a symlink is not followed.
    pub async fn stat(&self, path: &str) -> Result<Entry, Error> {
        let request = StatRequest { path: path.into(), sha256: false };
        self.call(Call::new("Stat", Lane::Control), |mut agent| {
            let request = request.clone();
            async move { agent.stat(request).await }
        })
        .await
    }

    /// What a path is, with the sha256 of a regular file.
    pub async fn digest(&self, path: &str) -> Result<Entry, Error> {
        let request = StatRequest { path: path.into(), sha256: true };
        let entry = self
            .call(whole("Stat"), |mut agent| {
                let request = request.clone();
                async move { agent.stat(request).await }
            })
            .await?;
        if entry.kind() == Kind::File && entry.sha256.is_empty() {
            return Err(Error::TooOld { pod: self.pod().into() });
        }
        Ok(entry)
    }

    /// Removes a file or directory; says whether there was one.
    pub async fn remove(&self, path: &str, recursive: bool) -> Result<bool, Error> {
        let request = RemoveRequest { path: path.into(), recursive };
        let reply = self
            .call(Call::new("Remove", Lane::Control), |mut agent| {
                let request = request.clone();
                async move { agent.remove(request).await }
            })
            .await?;
        Ok(reply.existed)
    }

    /// Makes a directory. With `parents` those above it too, and one that exists will do.
    pub async fn make_directory(&self, path: &str, parents: bool) -> Result<Entry, Error> {
        let request = MakeDirectoryRequest { path: path.into(), parents };
        let call = Call::new("MakeDirectory", Lane::Control);
        if parents {
            return self
                .call(call, |mut agent| {
                    let request = request.clone();
                    async move { agent.make_directory(request).await }
                })
                .await;
        }
        // The second time it would exist, whoever made it.
        self.call_once(call, path, |mut agent| async move { agent.make_directory(request).await })
            .await
    }

    /// Gives what is at a path another name; what has that is replaced only with `replace`.
    pub async fn rename(&self, from: &str, to: &str, replace: bool) -> Result<Entry, Error> {
        let request = MoveRequest { from: from.into(), to: to.into(), replace };
        self.call_once(whole("Move"), to, |mut agent| async move { agent.r#move(request).await })
            .await
    }

    /// Copies a file or symlink, or with `recursive` a directory.
    pub async fn copy(
        &self,
        from: &str,
        to: &str,
        replace: bool,
        recursive: bool,
    ) -> Result<Entry, Error> {
        let request = CopyRequest { from: from.into(), to: to.into(), replace, recursive };
        self.call_once(whole("Copy"), to, |mut agent| async move { agent.copy(request).await })
            .await
    }

    /// Sets the mode of what a path leads to.
    pub async fn set_mode(&self, path: &str, mode: u32) -> Result<Entry, Error> {
        let request = SetModeRequest { path: path.into(), mode };
        self.call(Call::new("SetMode", Lane::Control), |mut agent| {
            let request = request.clone();
            async move { agent.set_mode(request).await }
        })
        .await
    }
}

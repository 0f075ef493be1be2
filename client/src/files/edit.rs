//! Edits of a sandbox's files.

use bytes::Bytes;
use wire::{
    Code,
    v1::{EditReply, EditRequest, edit_request::Replacement},
};

use crate::{Error, Lane, Session, session::Call};

impl Session {
    /// Replaces texts in a file, all of them or none. With `if_sha256`, which is not empty, only if
    /// the file has this digest.
    pub async fn edit(
        &self,
        path: &str,
        edits: Vec<Replacement>,
        if_sha256: Bytes,
    ) -> Result<EditReply, Error> {
        let request = EditRequest { path: path.into(), edits, if_sha256 };
        let call = Call::new("Edit", Lane::Control);
        let made = async || {
            let request = request.clone();
            self.call_once(call, path, |mut agent| async move { agent.edit(request).await }).await
        };
        match made().await {
            // Made already, it finds another file, and is not made twice.
            Err(Error::Uncertain { reason, .. }) if !request.if_sha256.is_empty() => {
                match made().await {
                    Err(Error::Agent(error)) if error.code == Code::Conflict => {
                        Err(Error::Uncertain { doing: call.doing, path: path.into(), reason })
                    }
                    answer => answer,
                }
            }
            answer => answer,
        }
    }
}

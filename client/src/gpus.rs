//! The GPUs of a sandbox, as its agent tells of them.

use wire::{
    limits::{MAX_GPU_TEXT, MAX_GPUS},
    v1::{GpusReply, GpusRequest},
};

use crate::{Error, Lane, Session, session::Call};

impl Session {
    /// The GPUs that the sandbox has now, and their driver.
    pub async fn gpus(&self) -> Result<GpusReply, Error> {
        let reply = self
            .call(Call::new("Gpus", Lane::Control), |mut agent| async move {
                agent.gpus(GpusRequest {}).await
            })
            .await?;
        let texts = reply.gpus.iter().flat_map(|gpu| [&gpu.uuid, &gpu.name]);
        let fits = texts.chain([&reply.driver]).all(|text| text.len() <= MAX_GPU_TEXT);
        if reply.gpus.len() > MAX_GPUS || !fits {
            return Err(Error::Corrupted {
                what: "the list of GPUs".into(),
                why: "it is longer than any may be",
            });
        }
        Ok(reply)
    }
}

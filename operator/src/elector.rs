//! The Lease in the API server: waits for it, renews it, gives it up.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use kube::{
    Api,
    api::{ObjectMeta, PostParams},
};
use tokio::time::{Instant, sleep, timeout_at};
use tracing::{debug, info, warn};

use crate::{
    call::{Caller, Error, Kind, Verb},
    health::Health,
    lease::{self, GIVE_UP, RETRY, Seen, Step},
};

/// How long a request about the Lease may take: two in a row fit into the time until a holder gives up.
pub(crate) const DEADLINE: Duration = Duration::from_secs(3);
/// How long to wait after a failed renewal.
const PAUSE: Duration = Duration::from_millis(500);
/// How often giving up is tried where others write the Lease, too.
const RELEASES: usize = 3;

/// Why the Lease is no longer ours.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Lost {
    #[error("lost the Lease {lease}: {holder} holds it now")]
    Taken { lease: String, holder: String },

    #[error("lost the Lease {lease}: it was deleted")]
    Deleted { lease: String },

    #[error(
        "gave up the Lease {lease}: it could not be renewed for {} s, and another may take it",
        GIVE_UP.as_secs()
    )]
    Unanswered { lease: String },
}

/// A candidate for a Lease.
pub(crate) struct Elector {
    /// Of the Lease's namespace.
    caller: Caller,
    name: String,
    /// Another for each process, so that none takes a Lease for its own that its predecessor held.
    me: String,
    health: Health,
    seen: Seen,
    /// When the last write that went well was begun.
    renewed: Instant,
}

impl Elector {
    pub(crate) fn new(caller: Caller, name: String, pod: &str, health: Health) -> Self {
        let now = Instant::now();
        let elector = Self {
            me: format!("{pod}_{:016x}", rand::random::<u64>()),
            seen: Seen::new(None, now),
            renewed: now,
            caller,
            name,
            health,
        };
        elector.health.begins(&[elector.lease()], now.into_std());
        elector
    }

    /// Waits until the Lease is ours.
    pub(crate) async fn acquire(&mut self) {
        let mut said = String::new();
        loop {
            let pause = match self.attempt().await {
                Ok(None) => break,
                Ok(Some(pause)) => pause,
                Err(error) if raced(&error) => {
                    debug!(%error, "another candidate was faster");
                    RETRY
                }
                Err(error) => {
                    let error = error.to_string();
                    if said != error {
                        warn!(lease = self.lease(), error, "standing by without knowing who leads");
                        said = error;
                    }
                    RETRY
                }
            };
            sleep(pause).await;
        }
        info!(lease = self.lease(), me = self.me, "leading");
        self.health.works(&self.lease());
    }

    /// Renews the Lease for as long as it can be renewed, and says why it cannot any longer.
    pub(crate) async fn hold(&mut self) -> Lost {
        loop {
            sleep(RETRY).await;
            match timeout_at(self.renewed + GIVE_UP, self.renew()).await {
                Ok(Ok(())) => self.health.beat(&self.lease(), std::time::Instant::now()),
                Ok(Err(lost)) => return lost,
                Err(_) => return Lost::Unanswered { lease: self.lease() },
            }
        }
    }

    /// Gives the Lease up, so that nobody has to wait until it runs out.
    pub(crate) async fn release(&mut self) {
        for _ in 0..RELEASES {
            let result = self.write(lease::released(&self.seen, Timestamp::now())).await;
            match result {
                Ok(()) => return info!(lease = self.lease(), "gave the Lease up"),
                // A renewal that was cut off may have gone through.
                Err(Error::Conflict { .. }) if self.is_ours().await => {}
                Err(error) => {
                    return warn!(%error, "could not give the Lease up; others wait until it runs out");
                }
            }
        }
    }

    /// Looks once, and claims the Lease where it may be. Gives how long to wait where it may not.
    async fn attempt(&mut self) -> Result<Option<Duration>, Error> {
        self.look().await?;
        let step = lease::step(&self.me, &self.seen, Instant::now(), Timestamp::now());
        match step {
            Step::Claim(record) => self.write(record).await.map(|()| None),
            Step::Wait(pause) => {
                let leader = self.seen.holder().unwrap_or_default();
                self.health.stands_by(&self.lease(), leader);
                self.health.beat(&self.lease(), std::time::Instant::now());
                Ok(Some(pause))
            }
        }
    }

    /// Writes until there is an answer that says whether the Lease is still ours.
    async fn renew(&mut self) -> Result<(), Lost> {
        loop {
            let record = lease::claim(&self.me, &self.seen, Timestamp::now());
            let error = match self.write(record).await {
                Ok(()) => return Ok(()),
                Err(error) if error.has_code(404) => {
                    return Err(Lost::Deleted { lease: self.lease() });
                }
                // Written by somebody else, or by a request of ours whose answer did not come.
                Err(error @ Error::Conflict { .. }) => match self.look().await {
                    Ok(()) if self.seen.holder() == Some(&self.me) => error,
                    Ok(()) => {
                        let holder = self.seen.holder().unwrap_or("nobody").to_owned();
                        return Err(Lost::Taken { lease: self.lease(), holder });
                    }
                    Err(error) => error,
                },
                Err(error) => error,
            };
            warn!(%error, "could not renew the Lease; trying again");
            sleep(PAUSE).await;
        }
    }

    async fn is_ours(&mut self) -> bool {
        self.look().await.is_ok() && self.seen.holder() == Some(&self.me)
    }

    async fn look(&mut self) -> Result<(), Error> {
        let leases: Api<Lease> = self.caller.api();
        let get = leases.get_opt(&self.name);
        let lease =
            self.caller.request_within(DEADLINE, Verb::Get, Kind::Lease, &self.name, get).await?;
        self.seen.see(lease, Instant::now());
        Ok(())
    }

    /// Writes a record in the place of the one that was seen, and of no other.
    async fn write(&mut self, record: LeaseSpec) -> Result<(), Error> {
        let began = Instant::now();
        let leases: Api<Lease> = self.caller.api();
        let (caller, name, params) = (&self.caller, &self.name, PostParams::default());
        let written = if let Some(seen) = &self.seen.lease {
            // With the resourceVersion that was seen.
            let lease = Lease { spec: Some(record), ..seen.clone() };
            let replace = leases.replace(name, &params, &lease);
            caller.request_within(DEADLINE, Verb::Update, Kind::Lease, name, replace).await?
        } else {
            let metadata = ObjectMeta { name: Some(name.clone()), ..ObjectMeta::default() };
            let lease = Lease { metadata, spec: Some(record) };
            let create = leases.create(&params, &lease);
            caller.request_within(DEADLINE, Verb::Create, Kind::Lease, name, create).await?
        };
        self.seen = Seen::new(Some(written), began);
        self.renewed = began;
        Ok(())
    }

    /// The Lease, as errors name it.
    fn lease(&self) -> String {
        format!("{}/{}", self.caller.namespace, self.name)
    }
}

/// Whether a claim came too late.
fn raced(error: &Error) -> bool {
    matches!(error, Error::Conflict { .. }) || error.has_code(409)
}

#[cfg(test)]
mod tests;

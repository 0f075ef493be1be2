//! Names where nothing is reached: each is refused at once, and the sandbox's owner is told which.
//!
//! There the pod's only resolver is 127.0.0.1, and the agent listens on it: the loopback of the pod's own network
//! namespace, which nobody else reaches. A query so ends within the sandbox, whatever its name was to carry out.
//! It is a hint and no wall, which is the network policy: user code may ask other addresses.

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, UdpSocket as StdUdpSocket};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::net::UdpSocket;
use wire::limits::MAX_REFUSED_DOMAINS;
use wire::v1::RefusedNamesReply;

pub(crate) mod query;

/// What has been refused until now.
#[derive(Debug, Default)]
pub(crate) struct Refused(Mutex<RefusedNamesReply>);

impl Refused {
    /// What is told of it.
    pub(crate) fn told(&self) -> RefusedNamesReply {
        self.lock().clone()
    }

    /// Counts one, and gives the line for the log, where it is the first of its domain or the first that is only counted.
    fn count(&self, domain: String) -> Option<String> {
        let mut told = self.lock();
        told.count += 1;
        if told.domains.contains(&domain) {
            return None;
        }
        if told.domains.len() < MAX_REFUSED_DOMAINS {
            let line = format!(
                "refused to resolve a name in {domain}: under spec.network.egress Deny none is. Use addresses that spec.network.allow opens, or egress Internet (docs/network.md)"
            );
            told.domains.push(domain);
            return Some(line);
        }
        let first = !std::mem::replace(&mut told.more, true);
        first.then(|| {
            format!("refused names in more than {MAX_REFUSED_DOMAINS} domains: of others none is said, they are counted")
        })
    }

    fn lock(&self) -> MutexGuard<'_, RefusedNamesReply> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Refuses names on this port from now on, as long as the agent lives, and gives what will have been refused. Where that
/// cannot be, as with a runtime that keeps low ports for the privileged, nothing listens there: names fail as well, untold.
pub(crate) fn serve(port: u16) -> Option<Arc<Refused>> {
    match listen(port).and_then(|socket| Ok((socket.local_addr()?, socket))) {
        Ok((address, socket)) => {
            crate::log(&format!("refuses names on {address}"));
            let refused = Arc::<Refused>::default();
            let counted = Arc::clone(&refused);
            tokio::spawn(async move {
                let Err(error) = refuse(&socket, &counted).await;
                crate::log(&format!("refuses names no more; they still fail: {error}"));
            });
            Some(refused)
        }
        Err(error) => {
            crate::log(&format!(
                "could not listen on 127.0.0.1:{port}; names fail, and nobody is told which: {error}"
            ));
            None
        }
    }
}

/// UDP alone: TCP is for who was told by UDP that the answer is cut, and a refusal never is.
fn listen(port: u16) -> io::Result<UdpSocket> {
    let socket = StdUdpSocket::bind((Ipv4Addr::LOCALHOST, port))?;
    socket.set_nonblocking(true)?;
    UdpSocket::from_std(socket)
}

/// Refuses one query after the other.
async fn refuse(socket: &UdpSocket, refused: &Refused) -> io::Result<Infallible> {
    let mut message = [0; query::MAX_QUERY];
    loop {
        let (length, from) = socket.recv_from(&mut message).await?;
        let Some(refusal) = query::refuse(&message[..length]) else { continue };
        if let Some(line) = refused.count(refusal.domain) {
            crate::log(&line);
        }
        // Nobody is waited for: who does not take the answer asks again.
        let _ = socket.try_send_to(&refusal.reply, from);
    }
}

#[cfg(test)]
mod tests;

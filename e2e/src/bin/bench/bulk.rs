//! 100 MiB up and down through the kube API, with the agent's digest checked both ways.

use std::time::Instant;

use anyhow::ensure;
use client::{Lane, Piece};
use e2e::Sandbox;

const SIZE: u32 = 100 << 20;
const TIMES: usize = 5;

/// MiB a second, up and down, each time.
pub(crate) struct Bulk {
    pub(crate) up: Vec<f64>,
    pub(crate) down: Vec<f64>,
}

pub(crate) async fn measure(sandbox: &Sandbox) -> anyhow::Result<Bulk> {
    let data: Vec<u8> = (0..SIZE).map(|i| i.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
    let data = bytes::Bytes::from(data);
    let session = sandbox.session();
    let mut bulk = Bulk { up: vec![], down: vec![] };
    let rate = |began: Instant| f64::from(SIZE >> 20) / began.elapsed().as_secs_f64();
    for _ in 0..TIMES {
        let began = Instant::now();
        session.write("bulk", data.clone(), 0, false).await?;
        bulk.up.push(rate(began));
        let began = Instant::now();
        let (mut at, mut same) = (0, true);
        let take = |piece| {
            if let Piece::Data(part) = piece {
                same &= data[at..].starts_with(&part);
                at += part.len();
            }
        };
        session.download("bulk", 0, 0, Lane::Bulk, take).await?;
        bulk.down.push(rate(began));
        ensure!(same && at == data.len(), "what came back is not what was sent");
    }
    Ok(bulk)
}

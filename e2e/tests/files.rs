//! Files that cross by the client library, whole or not at all.

use std::fmt::Write as _;

use anyhow::ensure;
use e2e::Cluster;
use sha2::{Digest, Sha256};

const MIB: usize = 1 << 20;

/// Bytes that repeat nowhere near.
fn bytes(size: usize) -> Vec<u8> {
    (0..size as u64).map(|i| i.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes()[0]).collect()
}

fn hex(data: &[u8]) -> String {
    Sha256::digest(data).iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// tests.md C7 and D1: nothing, around the traps of 18 KB and 1 MiB, and past the bulk lane's bound. Up to
/// 6 MiB they cross by MCP, too: `e2e/mcp/test_cases_files.py`.
#[tokio::test]
async fn files_come_back_as_they_were_written() -> anyhow::Result<()> {
    let cluster = Cluster::connect().await?;
    let sandbox = cluster.ready("files", e2e::spec()).await?;
    let session = sandbox.session();
    for size in [0, 17_000, 18_000, MIB - 1, MIB, 28 * MIB, 50 * MIB, 100 * MIB] {
        let data = bytes(size);
        session.write("deep/er/file", data.clone().into(), 0, true).await?;
        let seen = sandbox.shell("sha256sum <deep/er/file").await?;
        assert_eq!(seen.text(), format!("{}  -\n", hex(&data)), "{size} bytes did not arrive");
        let back = session.read("deep/er/file", 0, size.max(1)).await?;
        ensure!(back.data == data, "{size} bytes did not come back");
    }
    let part = session.read("deep/er/file", 5, 3).await?;
    assert_eq!(part.data, bytes(8)[5..]);
    sandbox.delete().await
}

//! Contexts: made, copied with half a gigabyte of state, and asked while another one floods.

use std::{sync::Arc, time::Instant};

use anyhow::{Context, ensure};
use client::Session;
use e2e::{Ran, Sandbox, run};
use wire::v1::{
    Code, Command, CreateContextRequest, RunSpec, outcome::How, run_event::Event, run_spec::What,
};

use crate::calls::Calls;

/// How many copies are made.
const FORKS: usize = 20;
/// The state that is copied: pages that were written to.
const STATE: &str = "x = bytearray(500_000_000)\nfor page in range(0, len(x), 4096): x[page] = 1";
/// What a copy has for itself, in KiB.
const OWN: &str = "import re\nprint(re.search(r'Private_Dirty: *(\\d+)', open('/proc/self/smaps_rollup').read())[1])";
/// A flood of this many bytes.
const FLOOD: u64 = 1 << 30;

/// What was measured.
pub(crate) struct Contexts {
    pub(crate) calls: Calls,
    /// What a copy has for itself, in KiB.
    pub(crate) own_kib: u64,
    /// How fast the flood was read, in MiB a second, and how much of it.
    pub(crate) flood: (f64, u64),
}

pub(crate) async fn measure(sandbox: &Sandbox, count: usize) -> anyhow::Result<Contexts> {
    let session = sandbox.session();
    let created = create(&session, count).await?;
    let (forked, own_kib) = fork(&session).await?;
    let (answered, flood) = beside_a_flood(&session).await?;
    let calls = vec![
        ("context create".to_owned(), created),
        ("context fork, 500 MB of state".to_owned(), forked),
        ("1+1 beside 1 GiB of stdout".to_owned(), answered),
    ];
    Ok(Contexts { calls, own_kib, flood })
}

/// The time of making alone: what is made is deleted.
async fn create(session: &Arc<Session>, count: usize) -> anyhow::Result<Vec<f64>> {
    let request = CreateContextRequest {
        name: "bench".into(),
        language: "python".into(),
        ..CreateContextRequest::default()
    };
    timed(
        count,
        async || session.create_context(&request).await.map(drop),
        async || session.delete_context("bench").await.map(drop),
    )
    .await
}

async fn fork(session: &Arc<Session>) -> anyhow::Result<(Vec<f64>, u64)> {
    python(session, "large", STATE).await?;
    let copies = ["copy".to_owned()];
    session.fork_context("large", &copies).await?;
    let own = python(session, "copy", OWN).await?.text().trim().parse().context("a number")?;
    session.delete_context("copy").await?;
    let forked = timed(
        FORKS,
        async || session.fork_context("large", &copies).await.map(drop),
        async || session.delete_context("copy").await.map(drop),
    )
    .await?;
    session.delete_context("large").await?;
    Ok((forked, own))
}

/// A small call again and again while a large output is read to its end.
async fn beside_a_flood(session: &Arc<Session>) -> anyhow::Result<(Vec<f64>, (f64, u64))> {
    let ask = async || {
        let answered = python(session, "small", "print(1+1)").await?;
        ensure!(answered.text() == "2\n", "{answered:?}");
        Ok(())
    };
    ask().await?;
    let shell = format!("head -c {FLOOD} /dev/zero");
    let command = Command { shell, ..Command::default() };
    let spec = RunSpec { what: Some(What::Command(command)), ..RunSpec::default() };
    let mut flood = session.run("flood".into(), spec);
    let began = Instant::now();
    let read = tokio::spawn(async move {
        let mut read = 0;
        while let Some(event) = flood.next().await? {
            match event.event {
                Some(Event::Output(output)) => read += output.data.len() as u64,
                Some(Event::Outcome(outcome)) => {
                    let written = outcome.stdout.map(|total| total.bytes);
                    ensure!(written == Some(FLOOD), "{written:?}");
                }
                _ => {}
            }
        }
        Ok(read)
    });
    let mut answered = Vec::new();
    while !read.is_finished() {
        let began = Instant::now();
        ask().await?;
        answered.push(began.elapsed().as_secs_f64() * 1e3);
    }
    let seconds = began.elapsed().as_secs_f64();
    let read = read.await??;
    #[expect(clippy::cast_precision_loss, reason = "a rate")]
    Ok((answered, ((FLOOD >> 20) as f64 / seconds, read)))
}

/// How long something takes each time, without what undoes it, in milliseconds; the first is not counted.
async fn timed(
    count: usize,
    mut once: impl AsyncFnMut() -> Result<(), client::Error>,
    mut undo: impl AsyncFnMut() -> Result<(), client::Error>,
) -> anyhow::Result<Vec<f64>> {
    let mut times = Vec::new();
    for number in 0..=count {
        let began = Instant::now();
        once().await?;
        if number > 0 {
            times.push(began.elapsed().as_secs_f64() * 1e3);
        }
        undo().await?;
    }
    Ok(times)
}

async fn python(session: &Arc<Session>, context: &str, source: &str) -> anyhow::Result<Ran> {
    let (language, context) = ("python".into(), context.into());
    let code = Code { language, context, source: source.to_owned().into() };
    let ran = run(session, RunSpec { what: Some(What::Code(code)), ..RunSpec::default() }).await?;
    ensure!(ran.outcome.how == Some(How::Exited(0)), "{ran:?}");
    Ok(ran)
}

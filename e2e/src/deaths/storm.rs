//! Many deaths, one upon the other, under many runs that go on all the while.
//!
//! The runs write numbered lines until they are told to stop, which is after the last death, and count their begins and
//! ends. Each is followed through the front end as its errors tell; when all is over its log is read on a stream of its
//! own and compared with the lines that it must have written.

use std::{
    collections::BTreeMap,
    fmt::{self, Write},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, ensure};
use api::{Resources, Settings};
use client::Session;
use futures::future::try_join_all;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use serde_json::{Value, json};
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep},
};
use wire::{Code, v1::outcome::How};

use super::{
    Dice, Fault, Finding, Matrix, Step, Victim,
    follow::Caller,
    judge::{Claim, Output, Ran, judge_errors, judge_run},
    listed,
    workload::sha256,
};
use crate::{Sandbox, follow, spec, until, until_within};

/// What dies, each as often as the others; of an exec stream one of its parts.
const PARTS: [&[Victim]; 4] = [
    &[Victim::FrontEnd],
    &[Victim::FrontEndsConnections, Victim::KubeletsConnections, Victim::Bridge],
    &[Victim::ApiServer],
    &[Victim::Kubelet],
];
/// How many sandboxes there are, and how many runs in each.
const RUNS: (usize, usize) = (5, 10);
/// The longest pause between two deaths, in milliseconds.
const PAUSE: u64 = 1500;
/// The longest that another front end may be in coming. Kubernetes makes, places and starts its pod, and of the programs that
/// do each waits for up to half a minute and longer where the API server has died several times in a row.
const REPLACED: Duration = Duration::from_mins(3);
/// The longest the deaths may take together, and after how many seconds runs end by themselves, which is far behind it.
const PATIENCE: (Duration, u64) = (Duration::from_mins(8), 1500);

/// What many deaths have come to.
#[derive(Debug)]
pub struct Storm {
    /// How often each victim died.
    pub deaths: BTreeMap<Victim, u64>,
    /// How many runs went on meanwhile.
    pub runs: usize,
    /// What callers were told instead of results, by code.
    pub errors: BTreeMap<String, u64>,
    /// What must never be.
    pub findings: Vec<Finding>,
    /// How long the deaths took.
    pub took: Duration,
}

impl Matrix {
    /// So many deaths.
    pub async fn storm(&self, deaths: u64, dice: &mut Dice) -> anyhow::Result<Storm> {
        let sandboxes = try_join_all((0..RUNS.0).map(|n| self.sandbox(n))).await?;
        let callers: Vec<JoinHandle<(Caller, usize, Claim)>> = sandboxes
            .iter()
            .flat_map(|sandbox| (0..RUNS.1).map(move |run| (sandbox.name(), run)))
            .map(|(sandbox, run)| tokio::spawn(self.told(&sandbox, run)))
            .collect();
        try_join_all(sandboxes.iter().map(begun)).await?;

        let names: Vec<(Step, String)> =
            sandboxes.iter().map(|sandbox| (Step::Stream, sandbox.name())).collect();
        let mut storm = Storm {
            deaths: BTreeMap::new(),
            runs: callers.len(),
            errors: BTreeMap::new(),
            findings: Vec::new(),
            took: Duration::ZERO,
        };
        let began = Instant::now();
        while storm.deaths.values().sum::<u64>() < deaths {
            ensure!(began.elapsed() < PATIENCE.0, "too few could be killed: {:?}", storm.deaths);
            sleep(Duration::from_millis(dice.below(PAUSE))).await;
            let part = *one_of(&PARTS, dice);
            let victim = *one_of(part, dice);
            let kills = self.strike(victim, one_of(&names, dice), dice).await;
            // One that has just gone with the victim before has not died once more.
            if kills.with_context(|| victim.to_string())? > 0 {
                *storm.deaths.entry(victim).or_default() += 1;
            }
        }
        storm.took = began.elapsed();

        self.answers().await?;
        try_join_all(sandboxes.iter().map(stop)).await?;
        for caller in callers {
            let (caller, run, claim) = caller.await?;
            let name = format!("{} of {}", id(run), caller.sandbox);
            let sandbox = sandboxes.iter().find(|one| one.name() == caller.sandbox);
            let left = left(&sandbox.context("it is one of them")?.session(), run).await;
            storm.judge(&name, &claim, &left.with_context(|| name.clone())?);
            storm.findings.extend(judge_errors(&"a storm", caller.step, &caller.errors));
            for (code, count) in caller.errors {
                *storm.errors.entry(code).or_default() += count;
            }
        }
        self.renew().await?;
        for sandbox in sandboxes {
            sandbox.delete().await?;
        }
        Ok(storm)
    }

    async fn sandbox(&self, n: usize) -> anyhow::Result<Sandbox> {
        let resources =
            Resources { memory: Some(Quantity("256Mi".into())), ..Resources::default() };
        // Far longer than all of it takes.
        let ttl = Some("1h".into());
        let spec = Settings { resources: Some(resources), ttl, ..spec() };
        self.cluster.ready_for_mcp(&format!("storm-{n}"), spec).await
    }

    /// Starts a run and follows it to what is said of its end. That nobody can tell for now is not yet an answer.
    fn told(
        &self,
        sandbox: &str,
        run: usize,
    ) -> impl Future<Output = (Caller, usize, Claim)> + use<> {
        let mut caller = Caller::new(self.door.clone(), sandbox, Step::Stream);
        caller.deadline = Instant::now() + Duration::from_secs(PATIENCE.1);
        async move {
            let arguments = arguments(&caller.sandbox, run);
            let mut claim = Claim::Unknown;
            while claim == Claim::Unknown && caller.in_time() {
                claim = caller.outcome(arguments.clone()).await.0;
            }
            (caller, run, claim)
        }
    }

    /// Ends a victim; how many processes or connections that were.
    async fn strike(
        &self,
        victim: Victim,
        sandbox: &(Step, String),
        dice: &mut Dice,
    ) -> anyhow::Result<usize> {
        // The others are found without the API server, even while it comes back.
        if victim.daemon().is_none() {
            self.answers().await?;
        }
        if victim == Victim::FrontEnd {
            self.renew().await?;
            // The one that was ready a moment ago may be the one that is taken away.
            self.answers().await?;
        }
        let sandboxes = std::slice::from_ref(sandbox);
        Ok(self.kill(victim, sandboxes, dice, &|_| false).await?.0)
    }

    /// Waits until the API server answers and there is a front end.
    async fn answers(&self) -> anyhow::Result<()> {
        let (component, program) = Victim::FrontEnd.component().context("it is one")?;
        let is_there = async || Ok(self.process(component, program).await.is_ok());
        until_within(REPLACED, "there is a front end", is_there).await
    }
}

impl Storm {
    /// Weighs a run, by what its caller was told and by what is left of it.
    fn judge(&mut self, name: &str, told: &Claim, left: &Ran) {
        for claim in [told, &left.claim] {
            // As under any death that ends no agent.
            let ran = Ran { claim: claim.clone(), ..left.clone() };
            for (fault, words) in judge_run(Victim::FrontEnd, &ran) {
                self.findings.push((fault, format!("{name}: {words}")));
            }
        }
    }
}

impl fmt::Display for Storm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { deaths, runs, errors, findings, took } = self;
        let faults = |fault| findings.iter().filter(|finding| finding.0 == fault).count();
        write!(
            f,
            "{} deaths in {:.0} s under {runs} runs: {}  invented {} twice {} unresolved {}  {}",
            deaths.values().sum::<u64>(),
            took.as_secs_f64(),
            listed(deaths),
            faults(Fault::Invented),
            faults(Fault::Twice),
            faults(Fault::Unresolved),
            listed(errors),
        )
    }
}

fn one_of<'a, T>(all: &'a [T], dice: &mut Dice) -> &'a T {
    let n = usize::try_from(dice.below(all.len() as u64)).expect("it is below a length");
    &all[n]
}

fn id(run: usize) -> String {
    format!("run-{run}")
}

/// The arguments of `run_command`: ten lines a second until there is a file `stop`, in a directory of the run's own.
fn arguments(sandbox: &str, run: usize) -> Value {
    let id = id(run);
    let line = format!(
        "mkdir -p {id} && cd {id} && echo b >>begun || exit 9; i=0; until [ -e ../stop ]; do \
           n=$((i+10)); while [ $i -lt $n ]; do i=$((i+1)); printf '%079d\\n' $i; done; sleep 1; \
         done; echo $i >>ended"
    );
    json!({"sandbox_id": sandbox, "argv": ["/bin/sh", "-c", line], "run_id": id, "max_output_chars": 1000, "timeout_seconds": PATIENCE.1})
}

/// All that a run has written that counted so far.
fn lines(count: u64) -> Vec<u8> {
    let lines = (1..=count).fold(String::new(), |mut lines, i| {
        let _ = writeln!(lines, "{i:079}");
        lines
    });
    lines.into()
}

/// Waits until every run of a sandbox has begun.
async fn begun(sandbox: &Sandbox) -> anyhow::Result<()> {
    until("all runs have begun", async || {
        let begun = sandbox.shell("cat run-*/begun | wc -l").await?.text();
        Ok(begun.trim() == RUNS.1.to_string())
    })
    .await
}

/// Tells the runs of a sandbox to stop. The last death may have been a moment ago.
async fn stop(sandbox: &Sandbox) -> anyhow::Result<()> {
    let session = sandbox.session();
    until("the runs are told to stop", async || {
        Ok(session.write("stop", "".into(), 0, false).await.is_ok())
    })
    .await
}

/// What is left of a run: its log, read from its beginning, and what it has counted.
async fn left(session: &Arc<Session>, run: usize) -> anyhow::Result<Ran> {
    let id = id(run);
    let count = async |file: &str| match session.read(&format!("{id}/{file}"), 0, 4096).await {
        Err(client::Error::Agent(error)) if error.code == Code::FileNotFound => Ok(String::new()),
        read => anyhow::Ok(String::from_utf8(read?.data)?),
    };
    let log = follow(session.attach(id.clone(), 0)).await?;
    let (begun, ended) = (count("begun").await?, count("ended").await?);
    // Of one that has not come to its end nobody knows how much it was to be, and it is wrong anyway.
    let expected = lines(ended.lines().next().map_or(Ok(0), str::parse)?);
    let whole =
        sha256(&log.stdout) == sha256(&expected) && log.stderr.is_empty() && !log.outcome.truncated;
    let claim = match log.outcome.how {
        Some(How::Exited(code)) => Claim::Exited(code.into()),
        how => Claim::Other(format!("{how:?}")),
    };
    Ok(Ran {
        claim,
        output: if whole { Output::Whole } else { Output::Wrong },
        starts: begun.lines().count(),
        finishes: ended.lines().count(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(told: &Claim, left: &Ran) -> Vec<Fault> {
        let mut storm = Storm {
            deaths: BTreeMap::new(),
            runs: 1,
            errors: BTreeMap::new(),
            findings: Vec::new(),
            took: Duration::ZERO,
        };
        storm.judge("run-0 of storm-0", told, left);
        storm.findings.into_iter().map(|(fault, _)| fault).collect()
    }

    #[test]
    fn both_what_is_told_and_what_is_left_have_to_be_so() {
        use Claim::{Exited, Lost, Unknown};
        use Fault::{Invented, Twice};
        let ran = |claim, output, starts| Ran { claim, output, starts, finishes: 1 };
        for (told, left, expected) in [
            (Exited(0), ran(Exited(0), Output::Whole, 1), vec![]),
            (Lost, ran(Exited(0), Output::Whole, 1), vec![Invented]),
            (Unknown, ran(Exited(0), Output::Whole, 1), vec![Invented]),
            (Exited(0), ran(Exited(0), Output::Wrong, 1), vec![Invented, Invented]),
            (Exited(0), ran(Exited(0), Output::Whole, 2), vec![Twice, Invented, Twice, Invented]),
        ] {
            assert_eq!(findings(&told, &left), expected, "{told:?}: {left:?}");
        }
    }

    #[test]
    fn the_lines_are_those_that_the_program_writes() {
        assert_eq!(lines(2), format!("{}1\n{}2\n", "0".repeat(78), "0".repeat(78)).into_bytes());
    }
}

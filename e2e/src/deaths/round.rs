//! One death, and what becomes of ten sandboxes in nine steps.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::anyhow;
use api::CodeSandbox;
use futures::future::{join_all, try_join_all};
use kube::Api;
use serde_json::json;
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep},
};

use super::{
    Dice, Fault, Finding, Matrix, Step, Victim,
    follow::Caller,
    judge::{End, judge, judge_errors, judge_hog},
    node, rests,
    workload::Program,
};
use crate::{mcp::Door, objects_naming};

/// The longest that anything of a deleted sandbox may stay.
const REMAINS: Duration = Duration::from_secs(30);
/// A call to a live sandbox that takes longer counts as one that is not answered.
const SLOW: Duration = Duration::from_secs(1);

/// What one death has come to.
#[derive(Debug)]
pub struct Round {
    /// Who died.
    pub victim: Victim,
    /// How many processes were ended, or connections reset.
    pub kills: usize,
    /// How many sandboxes were in each step.
    pub steps: BTreeMap<Step, usize>,
    /// How many calls were made.
    pub calls: u64,
    /// What callers were told instead of results, by code.
    pub errors: BTreeMap<String, u64>,
    /// The first words of each code.
    pub words: BTreeMap<String, String>,
    /// The call that took longest, and how long.
    pub slowest: (Duration, String),
    /// What must never be.
    pub findings: Vec<Finding>,
    /// From the death until a live sandbox answered all calls again, each within a second.
    pub answers: Duration,
    /// From the death until the last of the sandboxes that were being made was ready.
    pub ready: Duration,
}

/// A caller whose step has ended, how, and for a sandbox that was made when.
pub(super) type Followed = (Caller, Result<End, String>, Option<Instant>);

impl Matrix {
    /// One death.
    pub async fn round(&self, victim: Victim, dice: &mut Dice) -> anyhow::Result<Round> {
        self.renew().await?;
        let tag = format!("d{:05x}", dice.below(1 << 20));
        let sandboxes = Step::SHARES.into_iter().flat_map(|(step, count)| {
            let tag = &tag;
            (0..count).map(move |n| (step, format!("{tag}-{step}-{n}")))
        });
        let sandboxes: Vec<(Step, String)> = sandboxes.collect();
        let objects = &self.cluster.sandboxes;
        let of = |step| sandboxes.iter().filter(move |(of, _)| *of == step);
        let caller = |(step, name): &(Step, String)| Caller::new(self.door.clone(), name, *step);

        // Those that are in the middle of something need a sandbox first, which is no part of the test.
        let living = sandboxes
            .iter()
            .filter(|(step, _)| !matches!(step, Step::Create | Step::Start | Step::Setup));
        let begun = living.enumerate().map(|(n, each)| begin(caller(each), n, objects));
        let begun =
            try_join_all(begun).await.map_err(|words| anyhow!("before the death: {words}"))?;
        let mut pods = self.pods_of(&tag).await?;

        let enough = Arc::new(AtomicBool::new(false));
        let upload = of(Step::Upload).map(|each| {
            let (mut caller, enough) = (caller(each), enough.clone());
            tokio::spawn(async move {
                let end = caller.upload(&enough).await;
                (caller, end, None)
            })
        });
        let upload: Vec<JoinHandle<Followed>> = upload.collect();
        for each in of(Step::Start).chain(of(Step::Setup)) {
            caller(each)
                .create(false)
                .await
                .map_err(|words| anyhow!("before the death: {words}"))?;
        }
        sleep(Duration::from_millis(dice.below(600))).await;
        let pulse =
            tokio::spawn(pulse(self.door.clone(), begun[0].0.sandbox.clone(), enough.clone()));
        let resumed = begun.into_iter().filter_map(|begun| {
            let name = begun.0.sandbox.clone();
            if begun.0.step.has_disk() {
                return Some((name, rests::follow(begun.0, &self.cluster)));
            }
            Some((name, resume(begun)?))
        });
        let made = of(Step::Start).chain(of(Step::Setup)).chain(of(Step::Create));
        let made = made.map(|each| (each.1.clone(), make(caller(each))));
        let followed: BTreeMap<String, JoinHandle<Followed>> = resumed.chain(made).collect();
        sleep(Duration::from_millis(dice.below(60))).await;

        let died = Instant::now();
        let over = |sandbox: &str| followed.get(sandbox).is_some_and(JoinHandle::is_finished);
        let (kills, hogs) = self.kill(victim, &sandboxes, dice, &over).await?;
        let mut round = Round {
            victim,
            kills,
            steps: Step::SHARES.into(),
            calls: 0,
            errors: BTreeMap::new(),
            words: BTreeMap::new(),
            slowest: (Duration::ZERO, String::new()),
            findings: Vec::new(),
            answers: Duration::ZERO,
            ready: Duration::ZERO,
        };
        let mut ended = Vec::new();
        for task in followed.into_values() {
            ended.push(task.await?);
        }
        enough.store(true, Ordering::Relaxed);
        for task in upload {
            ended.push(task.await?);
        }
        for (caller, claim) in hogs {
            round.findings.extend(judge_hog(victim, &claim));
            round.count(&caller);
        }
        round.answers =
            pulse.await?.map_or(Duration::ZERO, |last| last.saturating_duration_since(died));
        for followed in ended {
            self.weigh(followed, died, &mut round).await?;
        }
        pods.extend(self.pods_of(&tag).await?);
        self.clear(&sandboxes, &mut round).await;
        round.findings.extend(self.remains(&tag, &pods).await?);
        Ok(round)
    }

    /// Judges how one sandbox came through.
    async fn weigh(
        &self,
        (mut caller, end, ready): Followed,
        died: Instant,
        round: &mut Round,
    ) -> anyhow::Result<()> {
        let mut end = end.unwrap_or_else(End::Nothing);
        if let End::Made { pods, .. } | End::Rested { pods, .. } = &mut end {
            *pods = self.pods_of(&caller.sandbox).await?.len();
        }
        let (victim, step) = (round.victim, caller.step);
        round.findings.extend(judge(victim, step, &end));
        if let Some(ready) = ready {
            round.ready = round.ready.max(ready.saturating_duration_since(died));
        }
        if victim == Victim::ContainerMemory && !step.leaves() {
            round.findings.extend(self.unsaid(&mut caller).await);
        }
        round.findings.extend(judge_errors(&victim, step, &caller.errors));
        round.count(&caller);
        Ok(())
    }

    /// Whether a sandbox's status does not say that its container ran out of memory.
    async fn unsaid(&self, caller: &mut Caller) -> Option<Finding> {
        let end = Instant::now() + Duration::from_secs(10);
        let mut last = String::new();
        while Instant::now() < end {
            last = caller.last_termination().await;
            if last.starts_with("OOMKilled: ") {
                return None;
            }
            sleep(Duration::from_millis(200)).await;
        }
        Some((
            Fault::Invented,
            format!("{} ran out of memory, and is said: {last:?}", caller.sandbox),
        ))
    }

    /// Deletes every sandbox through the front end.
    async fn clear(&self, sandboxes: &[(Step, String)], round: &mut Round) {
        let deletions = sandboxes.iter().map(|(_, name)| async {
            let mut caller = Caller::new(self.door.clone(), name, Step::Delete);
            let end = caller.delete().await;
            (caller, end)
        });
        for (caller, end) in join_all(deletions).await {
            if let Err(words) = end {
                let words = format!("{} could not be deleted: {words}", caller.sandbox);
                round.findings.push((Fault::Unresolved, words));
            }
            round.count(&caller);
        }
    }

    /// What is left of the sandboxes of a round: objects that name one, processes of their pods.
    async fn remains(&self, tag: &str, pods: &BTreeSet<String>) -> anyhow::Result<Vec<Finding>> {
        let end = Instant::now() + REMAINS;
        loop {
            let mut left = objects_naming(&format!("{tag}-")).await?;
            let processes = pods.iter().flat_map(|uid| node::processes(uid));
            left.extend(processes.map(|process| format!("process {:?}", process.argv)));
            if left.is_empty() {
                return Ok(Vec::new());
            }
            if Instant::now() > end {
                return Ok(left.into_iter().map(|what| (Fault::Leaked, what)).collect());
            }
            sleep(Duration::from_millis(200)).await;
        }
    }
}

impl Round {
    fn count(&mut self, caller: &Caller) {
        self.calls += caller.calls;
        self.slowest = self.slowest.clone().max(caller.slowest.clone());
        for (code, count) in &caller.errors {
            *self.errors.entry(code.clone()).or_default() += count;
        }
        for (code, words) in &caller.words {
            self.words.entry(code.clone()).or_insert_with(|| words.clone());
        }
    }
}

/// Brings a sandbox into its step; the n-th of its kind takes the n-th program.
async fn begin(
    mut caller: Caller,
    n: usize,
    objects: &Api<CodeSandbox>,
) -> Result<(Caller, Option<Program>), String> {
    caller.create(true).await?;
    if caller.step.has_disk() {
        rests::begin(&mut caller, objects).await?;
        return Ok((caller.anew(), None));
    }
    let program = match caller.step {
        Step::Run => Program::quiet(),
        Step::Stream if n.is_multiple_of(2) => Program::lines(),
        Step::Stream => Program::flood(),
        Step::Delete => Program::endless(),
        _ => return Ok((caller.anew(), None)),
    };
    caller.begin(&program, "work").await?;
    Ok((caller.anew(), Some(program)))
}

/// Follows what has begun to its end.
fn resume((mut caller, program): (Caller, Option<Program>)) -> Option<JoinHandle<Followed>> {
    let program = program?;
    Some(tokio::spawn(async move {
        let end = match caller.step {
            Step::Delete => caller.delete().await.map(|()| End::Gone),
            _ => caller.run(&program, "work").await.map(End::Ran),
        };
        (caller, end, None)
    }))
}

/// Asks for a sandbox until it is ready, then runs something in it.
fn make(mut caller: Caller) -> JoinHandle<Followed> {
    tokio::spawn(async move {
        if let Err(words) = caller.create(true).await {
            return (caller, Err(words), None);
        }
        let ready = Instant::now();
        let end = async {
            let first = caller.run(&Program::short(), "first").await?;
            Ok(End::Made { pods: 0, set_up: caller.is_set_up().await?, first })
        };
        let end = end.await;
        (caller, end, Some(ready))
    })
}

/// Calls a live sandbox again and again; when the last call ended that was not answered, or late.
async fn pulse(door: Arc<Door>, sandbox: String, enough: Arc<AtomicBool>) -> Option<Instant> {
    let mut last = None;
    while !enough.load(Ordering::Relaxed) {
        let began = Instant::now();
        let answer = door.call("file_list", json!({"sandbox_id": sandbox})).await;
        if answer.code().is_some() || began.elapsed() > SLOW {
            last = Some(Instant::now());
        }
        sleep(Duration::from_millis(100)).await;
    }
    last
}

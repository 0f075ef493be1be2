//! `make soak`: the kill matrix over and over, with victims and timing by a seed, and what came of it in `docs/soak.md`.
//!
//! Then so many sandboxes are created and deleted again as `CYCLES` says, and what that leaves on the node is in
//! `docs/cycles.md`. Reads `CODESANDBOX_URL`, `CODESANDBOX_TOKEN`, `MINUTES` (60; 0 kills nothing), `CYCLES` (0; tests.md E16
//! has 10 000, which take about two hours on two cores) and `SEED` (the time).

#![allow(clippy::print_stdout, reason = "a program for a terminal")]

mod report;

use std::{
    env,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, ensure};
use e2e::deaths::{Dice, Matrix, Tally, Victim, node};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    ensure!(node::is_here(), "the soak kills what runs on the node: it takes CLUSTER=embedded");
    let minutes = number("MINUTES")?.unwrap_or(60);
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let seed = number("SEED")?.unwrap_or(now);
    let matrix = Matrix::new().await?;
    let cycles = number("CYCLES")?.unwrap_or(0);
    let deaths = if minutes > 0 { deaths(&matrix, minutes, seed).await? } else { Tally::default() };
    if cycles > 0 {
        println!("{cycles} sandboxes are created and deleted");
        let began = Instant::now();
        let tell = |ended| {
            if ended % 500 == 0 {
                println!("{:>5} s  {ended} of {cycles}", began.elapsed().as_secs());
            }
        };
        let (before, after) = matrix.cycles(cycles, tell).await?;
        let report = report::cycles(minutes, cycles, began.elapsed(), &before, &after)?;
        report::write("cycles.md", &report)?;
        after.no_more_than(&before)?;
    }
    ensure!(deaths.faults.is_empty(), "{} faults", deaths.faults.values().sum::<u64>());
    Ok(())
}

/// Kills every part again and again, and says what came of it.
async fn deaths(matrix: &Matrix, minutes: u64, seed: u64) -> anyhow::Result<Tally> {
    println!("soak for {minutes} min with SEED={seed}");
    let mut dice = Dice::new(seed);
    let keeper = matrix.keeper().await?;
    let before = matrix.usages(&keeper).await?;
    let began = Instant::now();
    let mut tally = Tally::default();
    // In shuffled turns, so that no victim is left out of a short soak.
    let mut victims = Vec::new();
    while began.elapsed() < Duration::from_mins(minutes) {
        if victims.is_empty() {
            victims = Victim::ALL.to_vec();
        }
        let next = usize::try_from(dice.below(victims.len() as u64))?;
        let victim = victims.swap_remove(next);
        let round = matrix
            .round(victim, &mut dice)
            .await
            .with_context(|| format!("{victim}, after {:?} with SEED={seed}", began.elapsed()))?;
        println!("{:>5} s  {round}", began.elapsed().as_secs());
        for (fault, words) in &round.findings {
            println!("         {fault:?}: {words}");
        }
        tally.add(&round);
    }
    let after = matrix.usages(&keeper).await?;
    let lasted = began.elapsed();
    matrix.release(&keeper).await?;
    report::write("soak.md", &report::report(&tally, seed, lasted, &before, &after)?)?;
    Ok(tally)
}

fn number(name: &str) -> anyhow::Result<Option<u64>> {
    let given = env::var(name).ok().filter(|given| !given.is_empty());
    given
        .map(|given| given.parse().with_context(|| format!("{name}={given} is no number")))
        .transpose()
}

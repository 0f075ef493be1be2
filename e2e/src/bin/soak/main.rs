//! `make soak`: the kill matrix over and over, with victims and timing by a seed, and what came of it in `docs/soak.md`.
//!
//! Then so many sandboxes are created and deleted again, one after another, as `CYCLES` says. Reads `CODESANDBOX_URL`,
//! `CODESANDBOX_TOKEN`, `MINUTES` (60), `CYCLES` (0; tests.md E16 has 10 000, which take two hours on two cores) and `SEED` (the time).

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
    println!("soak for {minutes} min with SEED={seed}");

    let mut dice = Dice::new(seed);
    let matrix = Matrix::new().await?;
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
    let cycles = number("CYCLES")?.unwrap_or(0);
    let census = if cycles > 0 {
        println!("{cycles} sandboxes, one after another");
        let began = Instant::now();
        let (before, after) = matrix.cycles(cycles).await?;
        Some((began.elapsed(), before, after))
    } else {
        None
    };
    matrix.release(&keeper).await?;
    let mut report = report::report(&tally, seed, lasted, &before, &after)?;
    if let Some((took, before, after)) = &census {
        report.push_str(&report::cycles(cycles, *took, before, after));
    }
    report::write(&report)?;
    println!("\n{report}");
    if let Some((_, before, after)) = &census {
        after.no_more_than(before)?;
    }
    ensure!(tally.faults.is_empty(), "{} faults", tally.faults.values().sum::<u64>());
    Ok(())
}

fn number(name: &str) -> anyhow::Result<Option<u64>> {
    let given = env::var(name).ok().filter(|given| !given.is_empty());
    given
        .map(|given| given.parse().with_context(|| format!("{name}={given} is no number")))
        .transpose()
}

//! The kill matrix, each victim once with ten sandboxes, and many deaths at once. `make soak` does the former for an hour.

use std::{fmt::Display, io::Write};

use e2e::deaths::{Dice, Matrix, Victim, node};

/// Held by whoever kills something: all of them share the one cluster.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// Past libtest, which shows what is printed only when a test fails.
fn say(what: impl Display) -> anyhow::Result<()> {
    Ok(writeln!(std::io::stderr(), "{what}")?)
}

/// Whether there is something to kill; says so if not.
fn is_here(what: impl Display) -> anyhow::Result<bool> {
    if !node::is_here() {
        say(format!("{what}: not killed, since only CLUSTER=embedded has its node here"))?;
    }
    Ok(node::is_here())
}

fn seed() -> u64 {
    std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1)
}

async fn nothing_false_twice_or_left_after(victim: Victim) -> anyhow::Result<()> {
    if !is_here(victim)? {
        return Ok(());
    }
    let _alone = ALONE.lock().await;
    let matrix = Matrix::new().await?;
    let round = matrix.round(victim, &mut Dice::new(seed() + victim as u64)).await?;
    say(&round)?;
    assert_eq!(round.findings, []);
    assert!(round.kills > 0, "nothing was killed");
    Ok(())
}

/// tests.md A11: front end, exec streams, API server and kubelet, one upon the other and at random.
#[tokio::test(flavor = "multi_thread")]
async fn twenty_deaths_at_random_moments_leave_fifty_runs_whole_and_true() -> anyhow::Result<()> {
    if !is_here("a storm")? {
        return Ok(());
    }
    let _alone = ALONE.lock().await;
    let seed = seed();
    say(format!("a storm with SEED={seed}"))?;
    let storm = Matrix::new().await?.storm(20, &mut Dice::new(seed)).await?;
    say(&storm)?;
    assert_eq!(storm.findings, []);
    assert_eq!((storm.deaths.values().sum::<u64>(), storm.runs), (20, 50));
    Ok(())
}

/// A test for each victim.
macro_rules! deaths {
    ($($name:ident: $victim:ident,)*) => {
        $(#[tokio::test(flavor = "multi_thread")]
        async fn $name() -> anyhow::Result<()> {
            nothing_false_twice_or_left_after(Victim::$victim).await
        })*
    };
}

deaths! {
    a_reset_of_the_front_ends_connections_loses_nothing: FrontEndsConnections,
    a_reset_of_the_kubelets_connections_loses_nothing: KubeletsConnections,
    the_death_of_a_bridge_loses_nothing: Bridge,
    the_death_of_the_agent_loses_what_ran_and_says_so: Agent,
    // tests.md F2: the container, and a process alone.
    a_sandbox_out_of_memory_loses_what_ran_and_says_so: ContainerMemory,
    a_process_out_of_memory_loses_nothing_else: ProcessMemory,
    the_death_of_the_front_end_loses_nothing: FrontEnd,
    the_death_of_the_operator_loses_nothing: Operator,
    the_death_of_the_kubelet_loses_nothing: Kubelet,
    the_death_of_containerd_loses_nothing: Containerd,
    the_death_of_the_api_server_loses_nothing: ApiServer,
    the_death_of_etcd_loses_nothing: Etcd,
}

//! The kill matrix, each victim once with ten sandboxes. `make soak` does the same for an hour.

use std::io::Write;

use e2e::deaths::{Dice, Matrix, Victim, node};

/// Held by whoever kills something: all of them share the one cluster.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

async fn nothing_false_twice_or_left_after(victim: Victim) -> anyhow::Result<()> {
    if !node::is_here() {
        writeln!(
            std::io::stderr(),
            "{victim}: not killed, since only CLUSTER=embedded has its node here"
        )?;
        return Ok(());
    }
    let _alone = ALONE.lock().await;
    let matrix = Matrix::new().await?;
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    let round = matrix.round(victim, &mut Dice::new(seed + victim as u64)).await?;
    // Past libtest, which shows what is printed only when a test fails.
    writeln!(std::io::stderr(), "{round}")?;
    assert_eq!(round.findings, []);
    assert!(round.kills > 0, "nothing was killed");
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

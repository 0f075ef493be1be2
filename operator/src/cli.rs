//! The command line.

use std::{io::Write, net::SocketAddr};

use clap::{Args, Parser, Subcommand};
use kube::CustomResourceExt;

use crate::config::Config;

/// The CodeSandbox operator.
#[derive(Debug, Parser)]
#[command(version, about)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the operator
    Run(Box<RunArgs>),
    /// Print the CustomResourceDefinitions as YAML
    Crd,
}

/// What `operator run` takes. Every flag can be given as an environment variable instead.
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// A namespace to watch; repeat it, or separate several by commas
    #[arg(
        long = "namespace",
        env = "OPERATOR_NAMESPACES",
        value_delimiter = ',',
        required = true,
        num_args = 1
    )]
    pub(crate) namespaces: Vec<String>,

    /// Where to serve metrics and health
    #[arg(long, env = "OPERATOR_LISTEN", default_value = "0.0.0.0:8080")]
    pub(crate) listen: SocketAddr,

    #[command(flatten)]
    pub(crate) election: ElectionArgs,

    #[command(flatten)]
    pub(crate) config: Config,
}

/// How several operators agree on the one that acts.
#[derive(Debug, Args)]
pub(crate) struct ElectionArgs {
    /// Act only while holding a Lease. Without this there must be no other operator of the same class
    #[arg(long, env = "OPERATOR_LEADER_ELECT")]
    pub(crate) leader_elect: bool,

    /// The namespace of the Lease
    #[arg(long, env = "OPERATOR_LEASE_NAMESPACE", required_if_eq("leader_elect", "true"))]
    pub(crate) lease_namespace: Option<String>,

    /// The name of the Lease
    #[arg(long, env = "OPERATOR_LEASE_NAME", default_value = api::names::OPERATOR)]
    pub(crate) lease_name: String,

    /// Our pod, by which the Lease says who holds it
    #[arg(long, env = "OPERATOR_POD_NAME", default_value = api::names::OPERATOR)]
    pub(crate) pod_name: String,
}

/// Prints what `crds/` holds, byte for byte.
pub(crate) fn print_crds(out: &mut impl Write) -> anyhow::Result<()> {
    let crds =
        [api::CodeSandbox::crd(), api::CodeSandboxTemplate::crd(), api::CodeSandboxPool::crd()];
    for (index, crd) in crds.iter().enumerate() {
        if index > 0 {
            writeln!(out, "---")?;
        }
        writeln!(out, "# Generated from api/ by `make crds`.")?;
        write!(out, "{}", serde_yaml::to_string(crd)?)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn namespaces_come_repeated_or_with_commas() {
        let cli = Cli::parse_from([
            "operator",
            "run",
            "--namespace",
            "a,b",
            "--namespace",
            "c",
            "--instance",
            "demo",
            "--agent-image",
            "agent:1",
            "--sandbox-image",
            "python:3",
        ]);
        let Command::Run(args) = cli.command else { panic!("not run") };
        assert_eq!(args.namespaces, ["a", "b", "c"]);
        assert_eq!(args.config.class, api::names::DEFAULT_CLASS);
        assert_eq!(args.config.max_lifetime.as_secs(), 24 * 3600);
    }

    #[test]
    fn the_printed_crds_are_the_committed_ones() {
        let mut printed = Vec::new();
        print_crds(&mut printed).unwrap();
        let committed = [
            include_str!("../../crds/codesandboxes.yaml"),
            include_str!("../../crds/codesandboxtemplates.yaml"),
            include_str!("../../crds/codesandboxpools.yaml"),
        ];
        assert_eq!(String::from_utf8(printed).unwrap(), committed.join("---\n"));
    }
}

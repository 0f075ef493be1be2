//! The CodeSandbox operator: turns CodeSandboxes into pods and network policies, and writes down what became of them.
//!
//! A reconcile is `observe` (reads) → [`plan`] (decides, pure) → `act` (writes). [`plan`] and everything it calls
//! see no clock, no randomness and no environment; what they need comes in as arguments.

mod act;
mod call;
mod cidr;
mod claim;
mod cli;
mod config;
mod controller;
mod elector;
mod events;
mod expiry;
mod gpu;
mod health;
mod http;
mod injection;
mod isolation;
mod label;
mod leaks;
mod lease;
mod memory;
mod metrics;
mod namespace;
mod network;
mod news;
mod observe;
mod plan;
mod pod;
mod pool;
mod probe;
mod restart;
mod run;
mod selector;
mod starting;
mod status;
mod sweep;
mod template;
mod termination;
#[cfg(test)]
mod testing;
mod time;
mod watch;
mod watched;

use clap::Parser;

fn main() -> anyhow::Result<()> {
    match cli::Cli::parse().command {
        cli::Command::Run(args) => run::run(*args),
        cli::Command::Crd => cli::print_crds(&mut std::io::stdout().lock()),
    }
}

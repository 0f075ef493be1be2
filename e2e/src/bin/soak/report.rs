//! What a soak has come to, as `docs/soak.md` and `docs/cycles.md`.

use std::{fs, time::Duration};

use anyhow::Context;
use e2e::deaths::{Census, Fault, Tally, Usage, listed};

const DOCS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs");

/// Says the report and writes it to a file of `docs/`.
pub(crate) fn write(file: &str, text: &str) -> anyhow::Result<()> {
    println!("\n{text}");
    fs::write(format!("{DOCS}/{file}"), text).with_context(|| file.to_owned())
}

/// What so many sandboxes have left on the node.
pub(crate) fn cycles(
    minutes: u64,
    number: u64,
    took: Duration,
    before: &Census,
    after: &Census,
) -> anyhow::Result<String> {
    let (date, machine) = e2e::circumstances()?;
    let rows = before.counts.iter().zip(&after.counts);
    let rows =
        rows.map(|((name, before), (_, after))| format!("| {name} | {before} | {after} |\n"));
    let rows: String = rows.collect();
    Ok(format!(
        "# Created and deleted\n\n\
         Written by `make soak MINUTES={minutes} CYCLES={number}`. Date: {date}. It lasted {} s. Machine: {machine}.\n\n\
         {number} sandboxes, four at a time, through MCP over HTTP: each until it was ready, and then until it was gone. \
         What the node holds:\n\n| | before | after |\n|---|---|---|\n{rows}",
        took.as_secs()
    ))
}

/// What the deaths have come to.
pub(crate) fn report(
    tally: &Tally,
    seed: u64,
    lasted: Duration,
    before: &[(String, Usage)],
    after: &[(String, Usage)],
) -> anyhow::Result<String> {
    let (date, machine) = e2e::circumstances()?;
    let minutes = lasted.as_secs() / 60;
    let deaths: u64 = tally.victims.values().map(|(rounds, _)| rounds).sum();
    let faults = |fault| tally.faults(fault);
    let findings = tally.findings.iter().map(|(fault, words)| format!("* {fault:?}: {words}\n"));
    let findings: String = findings.collect();
    let usage = before.iter().zip(after).map(|((name, before), (_, after))| {
        format!(
            "| {name} | {} / {} | {} / {} |\n",
            before.rss_kib, after.rss_kib, before.files, after.files
        )
    });
    let usage: String = usage.collect();
    let text = format!(
        "# Soak\n\n\
         Written by `make soak MINUTES={minutes} SEED={seed}`. Date: {date}. It lasted {} s. Machine: {machine}.\n\n\
         Each death meets ten sandboxes: one being created, one starting, one being set up, one in a command, two streaming, one being \
         written to, one being suspended, one being resumed, one being deleted. Every step is then followed to its end through MCP over HTTP.\n\n\
         | | |\n|---|---|\n\
         | deaths | {deaths} |\n\
         | sandboxes by step | {} |\n\
         | calls through the front end | {} |\n\
         | outcomes or states that were invented | {} |\n\
         | runs, or sandboxes, made twice | {} |\n\
         | objects, files or processes left behind | {} |\n\
         | steps without an end, errors without a code | {} |\n\
         | errors that callers were told on the way, by code | {} |\n\n\
         {findings}\n\
         ## Deaths and recoveries\n\n\
         \"Answers again\": from the death until a sandbox that was there answered every call again, each within a second. \
         \"New sandboxes ready\": from the death until the five that were being made, or resumed, were ready. A daemon of the cluster is \
         away for one to three seconds before it is started again.\n\n{}\n\
         ## Memory and files, before / after\n\n\
         The front end and the operator are among the victims: what is here after is a later process. The agent is that of a \
         sandbox that lived through all of it.\n\n\
         | process | RSS, KiB | open files |\n|---|---|---|\n{usage}",
        lasted.as_secs(),
        listed(&tally.steps),
        tally.calls,
        faults(Fault::Invented),
        faults(Fault::Twice),
        faults(Fault::Leaked),
        faults(Fault::Unresolved),
        listed(&tally.errors),
        tally.recoveries(),
    );
    Ok(text)
}

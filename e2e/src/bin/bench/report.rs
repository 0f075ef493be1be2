//! What was measured, printed as it comes, and kept as `bench-output/results.json` and `docs/benchmarks.md`.

use std::{fmt::Write as _, fs, path::Path, time::Instant};

use serde_json::{Value, json};

use crate::{
    bulk::Bulk,
    calls::Calls,
    cold::Cold,
    contexts::Contexts,
    starts::{STEPS, Spans},
    warm::{self, Warm},
    writes::Writes,
};

const TOP: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

pub(crate) struct Report {
    began: Instant,
    markdown: String,
    results: Value,
}

/// The p-th percentile, by nearest rank.
fn percentile(values: &[f64], p: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a rank"
    )]
    let rank = ((p / 100.0 * sorted.len() as f64).ceil() as usize).clamp(1, sorted.len());
    sorted[rank - 1]
}

fn spread(values: &[f64]) -> Value {
    json!({
        "n": values.len(),
        "p50": percentile(values, 50.0), "p99": percentile(values, 99.0),
        "min": percentile(values, 0.0), "max": percentile(values, 100.0),
    })
}

/// The steps that were seen, as a table and as values. A watch may miss one of a sandbox, which is then not counted there.
fn steps(spans: &[Spans]) -> (String, Value) {
    let mut text = String::from(
        " Each row: time since the request.\n\n| step | n | p50 | p99 | since the step before, p50 |\n|---|---:|---:|---:|---:|\n",
    );
    let (mut steps, mut before) = (Vec::new(), None);
    let numbers = |values: Vec<f64>| values.into_iter().filter(|value| !value.is_nan()).collect();
    for (index, step) in STEPS.iter().enumerate() {
        let at: Vec<f64> = numbers(spans.iter().map(|span| span[index]).collect());
        if at.is_empty() {
            continue;
        }
        let since = |span: &Spans| span[index] - before.map_or(0.0, |before: usize| span[before]);
        let since: Vec<f64> = numbers(spans.iter().map(since).collect());
        before = Some(index);
        let _ = writeln!(
            text,
            "| {step} | {} | {:.0} | {:.0} | {:.0} |",
            at.len(),
            percentile(&at, 50.0),
            percentile(&at, 99.0),
            percentile(&since, 50.0)
        );
        steps.push(json!({"step": step, "ms": spread(&at)}));
    }
    (text, steps.into())
}

impl Report {
    pub(crate) fn new() -> anyhow::Result<Self> {
        let (date, machine) = e2e::circumstances()?;
        let load = fs::read_to_string("/proc/loadavg")?;
        let load = load.split(' ').next().unwrap_or_default();
        let machine = format!("{machine}; load {load} at the start");
        let markdown = format!(
            "# Benchmarks\n\nWritten by `make bench`. Date: {date}. Machine: {machine}.\n\
             Times are milliseconds unless they say otherwise; percentiles by nearest rank.\n"
        );
        println!("{markdown}");
        let results = json!({"date": date, "command": "make bench", "machine": machine});
        Ok(Self { began: Instant::now(), markdown, results })
    }

    pub(crate) fn say(&self, what: &str) {
        eprintln!("[{:>4} s] {what}", self.began.elapsed().as_secs());
    }

    fn section(&mut self, text: &str) {
        println!("{text}");
        self.markdown.push('\n');
        self.markdown.push_str(text);
    }

    pub(crate) fn cold(&mut self, runtime: &str, cold: &Cold) {
        let mut text = format!(
            "## Cold create → first output, {runtime}\n\nOne sandbox at a time, image present, through `client`; n = {}.",
            cold.spans.len()
        );
        let (table, steps) = steps(&cold.spans);
        text.push_str(&table);
        self.results["cold"][runtime] = steps;
        if !cold.idle_kib.is_empty() {
            let of = |kib: &[f64]| {
                let (p50, most) = (percentile(kib, 50.0), percentile(kib, 100.0));
                format!("p50 {p50:.0} KiB, at most {most:.0} KiB")
            };
            let (fresh, idle) = (of(&cold.fresh_kib), of(&cold.idle_kib));
            let _ = writeln!(
                text,
                "\nThe agent's memory (RSS) when somebody has come and nothing has been run: {idle}; before that: {fresh}."
            );
            self.results["agent_idle_kib"][runtime] = spread(&cold.idle_kib);
            self.results["agent_fresh_kib"][runtime] = spread(&cold.fresh_kib);
        }
        self.section(&text);
    }

    pub(crate) fn warm(&mut self, warm: &Warm) {
        let mut text = format!(
            "## Warm create → first output, runc\n\nTwo sandboxes a second from a pool of {} pods ({} CPUs each) that is refilled meanwhile, through `client`; n = {}. \
             {} more found no pod ready and started cold.",
            warm::REPLICAS,
            warm::CPU,
            warm.spans.len(),
            warm.cold
        );
        let (table, steps) = steps(&warm.spans);
        text.push_str(&table);
        self.results["warm"] = json!({"cold": warm.cold, "steps": steps});
        self.section(&text);
    }

    pub(crate) fn calls(&mut self, runtime: &str, calls: &Calls) {
        self.timed(
            &format!("Calls on a live sandbox, {runtime}"),
            "Through MCP, one at a time over one HTTP connection, protocol 2026-07-28, JSON answers.",
            calls,
        );
    }

    pub(crate) fn contexts(&mut self, runtime: &str, contexts: &Contexts) {
        self.timed(
            &format!("Contexts, {runtime}"),
            "Python, through `client` and the kube API, one at a time. The last row: while all of the output is read.",
            &contexts.calls,
        );
        let (rate, read) = contexts.flood;
        let text = format!(
            "\nA copy had {} KiB for itself when it was made. The 1 GiB was written at {rate:.0} MiB/s; {} MiB of it are kept and were read.\n",
            contexts.own_kib,
            read >> 20
        );
        self.results["contexts"][runtime] =
            json!({"own_kib": contexts.own_kib, "flood_mib_per_s": rate, "flood_read": read});
        self.section(&text);
    }

    pub(crate) fn trivial(&mut self, calls: &Calls) {
        self.timed(
            "Calls that reach no sandbox",
            "Through MCP as above. The answer comes as a stream of events where its caller wants to hear of progress.",
            calls,
        );
    }

    pub(crate) fn floors(&mut self, runtime: &str, calls: &Calls) {
        self.timed(
            &format!("For comparison, {runtime}"),
            "Not ours, in the same run: what a call costs without an agent, and without any sandbox.",
            calls,
        );
    }

    fn timed(&mut self, title: &str, how: &str, calls: &Calls) {
        let mut text = format!(
            "## {title}\n\n{how}\n\n| call | n | p50 | p99 | max |\n|---|---:|---:|---:|---:|\n"
        );
        for (what, times) in calls {
            let _ = writeln!(
                text,
                "| {what} | {} | {:.2} | {:.2} | {:.2} |",
                times.len(),
                percentile(times, 50.0),
                percentile(times, 99.0),
                percentile(times, 100.0)
            );
            self.results["calls"][title][what] = spread(times);
        }
        self.section(&text);
    }

    pub(crate) fn bulk(&mut self, runtime: &str, bulk: &Bulk) {
        let text = format!(
            "## 100 MiB, {runtime}\n\nThrough the kube API on the bulk stream, sha256 checked both ways; n = {}.\n\n| direction | p50 MiB/s | min MiB/s |\n|---|---:|---:|\n| up | {:.0} | {:.0} |\n| down | {:.0} | {:.0} |\n",
            bulk.up.len(),
            percentile(&bulk.up, 50.0),
            percentile(&bulk.up, 0.0),
            percentile(&bulk.down, 50.0),
            percentile(&bulk.down, 0.0),
        );
        self.results["bulk_mib_per_s"][runtime] =
            json!({"up": spread(&bulk.up), "down": spread(&bulk.down)});
        self.section(&text);
    }

    pub(crate) fn writes(&mut self, title: &str, how: &str, writes: &Writes) {
        #[expect(clippy::cast_precision_loss, reason = "small counts")]
        let each = |count: usize| count as f64 / writes.lives as f64;
        let all: usize = writes.by.values().sum();
        let ours = writes.by.iter().filter(|((who, _), _)| Writes::is_ours(who));
        let ours: usize = ours.map(|(_, count)| count).sum();
        let mut text = format!(
            "## {title}\n\n{how}; {} lives; from the audit log (Leases excluded) and etcd's own count (Leases and Events included).\n\n| who | writes a life |\n|---|---:|\n| our own | {:.1} |\n| all components | {:.1} |\n",
            writes.lives,
            each(ours),
            each(all)
        );
        if let Some(puts) = writes.etcd_puts {
            #[expect(clippy::cast_precision_loss, reason = "small counts")]
            let _ = writeln!(text, "| etcd puts | {:.1} |", puts / writes.lives as f64);
        }
        text.push_str("\n| who | what | a life |\n|---|---|---:|\n");
        let mut by = serde_json::Map::new();
        for ((who, what), count) in &writes.by {
            let _ = writeln!(text, "| {who} | {what} | {:.1} |", each(*count));
            by.insert(format!("{who}: {what}"), each(*count).into());
        }
        self.results["writes"][title] = json!({
            "lives": writes.lives, "ours": each(ours), "all": each(all), "by": by, "etcd_puts": writes.etcd_puts,
        });
        self.section(&text);
    }

    pub(crate) fn save(self) -> anyhow::Result<()> {
        let top = Path::new(TOP);
        fs::create_dir_all(top.join("bench-output"))?;
        let json = serde_json::to_string_pretty(&self.results)?;
        fs::write(top.join("bench-output/results.json"), json + "\n")?;
        fs::write(top.join("docs/benchmarks.md"), self.markdown)?;
        Ok(())
    }
}

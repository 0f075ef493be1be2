//! Many deaths in few numbers.

use std::{collections::BTreeMap, fmt::Write as _, time::Duration};

use super::{Fault, Finding, Round, Step, Victim};

/// How many findings are kept in words.
const KEPT: usize = 50;

/// What many rounds have come to.
#[derive(Debug, Default)]
pub struct Tally {
    /// Rounds and kills by victim.
    pub victims: BTreeMap<Victim, (u64, u64)>,
    /// Sandboxes by the step in which the death met them.
    pub steps: BTreeMap<Step, u64>,
    /// Calls through the front end.
    pub calls: u64,
    /// Errors by code.
    pub errors: BTreeMap<String, u64>,
    /// Faults.
    pub faults: BTreeMap<Fault, u64>,
    /// The first of them, in words.
    pub findings: Vec<Finding>,
    answers: BTreeMap<Victim, Vec<Duration>>,
    ready: BTreeMap<Victim, Vec<Duration>>,
}

impl Tally {
    /// Takes in one round.
    pub fn add(&mut self, round: &Round) {
        let victim = self.victims.entry(round.victim).or_default();
        victim.0 += 1;
        victim.1 += round.kills as u64;
        for (step, count) in &round.steps {
            *self.steps.entry(*step).or_default() += *count as u64;
        }
        self.calls += round.calls;
        for (code, count) in &round.errors {
            *self.errors.entry(code.clone()).or_default() += count;
        }
        for finding in &round.findings {
            *self.faults.entry(finding.0).or_default() += 1;
            if self.findings.len() < KEPT {
                self.findings.push(finding.clone());
            }
        }
        self.answers.entry(round.victim).or_default().push(round.answers);
        self.ready.entry(round.victim).or_default().push(round.ready);
    }

    /// The number of faults of a kind.
    pub fn faults(&self, fault: Fault) -> u64 {
        self.faults.get(&fault).copied().unwrap_or_default()
    }

    /// Deaths and recoveries by victim, as a table of Markdown.
    pub fn recoveries(&self) -> String {
        let mut table = String::from(
            "| victim | deaths | processes or connections ended | answers again after, p50 / p99 | new sandboxes ready after, p50 / p99 |\n|---|---|---|---|---|\n",
        );
        for (victim, (rounds, kills)) in &self.victims {
            let spread = |of: &BTreeMap<Victim, Vec<Duration>>| {
                let values = of.get(victim).map(Vec::as_slice).unwrap_or_default();
                let [p50, p99] = [50, 99].map(|p| percentile(values, p).as_secs_f64());
                format!("{p50:.1} / {p99:.1} s")
            };
            let _ = writeln!(
                table,
                "| {victim} | {rounds} | {kills} | {} | {} |",
                spread(&self.answers),
                spread(&self.ready)
            );
        }
        table
    }
}

/// The p-th percentile by nearest rank; 0 of nothing.
fn percentile(values: &[Duration], p: usize) -> Duration {
    let mut sorted = values.to_vec();
    sorted.sort();
    let rank = (p * sorted.len()).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default()
}

/// Counts as `A 1, B 2`, or `none`.
pub fn listed<K: std::fmt::Display>(counts: &BTreeMap<K, u64>) -> String {
    if counts.is_empty() {
        return "none".into();
    }
    counts.iter().map(|(key, count)| format!("{key} {count}")).collect::<Vec<_>>().join(", ")
}

impl std::fmt::Display for Round {
    /// One line of a table, and under it the first words of each error.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let faults = |fault| self.findings.iter().filter(|finding| finding.0 == fault).count();
        write!(
            f,
            "{:<36} {:>3} ended  answers again {:>5.1} s  new ready {:>5.1} s  invented {} twice {} leaked {} unresolved {}  {}",
            self.victim.to_string(),
            self.kills,
            self.answers.as_secs_f64(),
            self.ready.as_secs_f64(),
            faults(Fault::Invented),
            faults(Fault::Twice),
            faults(Fault::Leaked),
            faults(Fault::Unresolved),
            listed(&self.errors),
        )?;
        let (seconds, call) = (self.slowest.0.as_secs_f64(), &self.slowest.1);
        write!(f, "\n         slowest call {seconds:.1} s, {call}")?;
        self.words
            .iter()
            .try_for_each(|(code, words)| write!(f, "\n         {code}, first by {words}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_one_of_the_values() {
        let values: Vec<_> = (1..=200).rev().map(Duration::from_secs).collect();
        assert_eq!(percentile(&values, 50), Duration::from_secs(100));
        assert_eq!(percentile(&values, 99), Duration::from_secs(198));
        assert_eq!(percentile(&values[..1], 99), Duration::from_secs(200));
        assert_eq!(percentile(&[], 50), Duration::ZERO);
    }
}

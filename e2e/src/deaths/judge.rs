//! What a victim's death may cost and what it may not: judged from what was seen, and nothing else.

use std::{collections::BTreeMap, fmt};

use super::{Step, Victim};

/// What a caller was told in the end of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Claim {
    /// It ended with this code, and all of its output is known.
    Exited(i64),
    /// It was lost with the agent.
    Lost,
    /// It was ended for want of memory.
    OomKilled,
    /// Nobody can tell, asked again and again.
    Unknown,
    /// Something else, in the answer's words.
    Other(String),
    /// Nothing that is an outcome, within the test's patience; the last words.
    Nothing(String),
}

/// Output beside what the program writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Output {
    /// Every byte of it.
    Whole,
    /// A beginning of it, nothing twice.
    Begun,
    /// Something else.
    Wrong,
}

/// A run: what was said of it, and what it has left in its sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ran {
    /// What was said of it.
    pub claim: Claim,
    /// What came of its output.
    pub output: Output,
    /// How often it has begun, by its own count.
    pub starts: usize,
    /// How often it has come to its end, by its own count.
    pub finishes: usize,
}

/// What a step has come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// A sandbox that was asked for: how many pods it has, whether its setup was done, and a first run in it.
    Made {
        /// Its pods.
        pods: usize,
        /// Whether there is what its setup makes, if it had one.
        set_up: bool,
        /// A run in it.
        first: Ran,
    },
    /// A sandbox that was suspended or resumed: how many pods it had while its status said that there is none, how many it
    /// has since, whether its disk is as it was, and a first run in the new pod.
    Rested {
        /// Its pods meanwhile.
        meanwhile: usize,
        /// Its pods since.
        pods: usize,
        /// Whether the file is there that it had before.
        kept: bool,
        /// A run in it.
        first: Ran,
    },
    /// A run, streaming or not.
    Ran(Ran),
    /// A file that was written over and over.
    Written {
        /// How often it was neither what it had been nor what was being written.
        torn: usize,
        /// Files of ours that were left beside it.
        strays: usize,
    },
    /// A deletion: whether nothing answers to the name any more.
    Gone,
    /// Nothing within the test's patience; the last words.
    Nothing(String),
}

/// What must never be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// An outcome, or a state, that is not so.
    Invented,
    /// A run that happened more than once.
    Twice,
    /// Something that outlives what it belongs to.
    Leaked,
    /// A step without an end, or an error without a code.
    Unresolved,
}

/// A fault and what it was.
pub type Finding = (Fault, String);

/// What is wrong with how a step ended under this victim's death.
pub(super) fn judge(victim: Victim, step: Step, end: &End) -> Vec<Finding> {
    let mut findings = match end {
        End::Made { pods, set_up, first } => {
            let mut findings = judge_run(victim, first);
            if !set_up {
                findings.push((Fault::Invented, "it was ready and not set up".into()));
            }
            if *pods != 1 {
                findings.push((Fault::Twice, format!("{pods} pods")));
            }
            findings
        }
        End::Rested { meanwhile, pods, kept, first } => {
            let mut findings = judge_run(victim, first);
            if *meanwhile != 0 {
                findings.push((Fault::Invented, format!("suspended with {meanwhile} pods")));
            }
            if *pods != 1 {
                findings.push((Fault::Twice, format!("{pods} pods")));
            }
            if !kept {
                findings.push((Fault::Invented, "its file is gone".into()));
            }
            findings
        }
        End::Ran(ran) => judge_run(victim, ran),
        End::Written { torn, strays } => {
            let mut findings = Vec::new();
            if *torn > 0 {
                findings.push((Fault::Invented, format!("{torn} torn files")));
            }
            if *strays > 0 {
                findings.push((Fault::Leaked, format!("{strays} temporary files")));
            }
            findings
        }
        End::Gone => Vec::new(),
        End::Nothing(words) => vec![(Fault::Unresolved, words.clone())],
    };
    for (_, words) in &mut findings {
        *words = format!("{victim} × {step}: {words}");
    }
    findings
}

/// What is wrong with how a run ended under this victim's death.
pub(super) fn judge_run(victim: Victim, ran: &Ran) -> Vec<Finding> {
    let mut findings = Vec::new();
    let Ran { claim, output, starts, finishes } = ran;
    if *starts > 1 {
        findings.push((Fault::Twice, format!("it began {starts} times")));
    }
    let fine = match claim {
        Claim::Exited(0) => (*starts, *finishes, *output) == (1, 1, Output::Whole),
        // An agent that dies tells nobody how its runs would have ended, and even one that has
        // finished may be lost: only then is its caller told so.
        Claim::Lost | Claim::Unknown => victim.ends_agents() && *output != Output::Wrong,
        Claim::OomKilled => victim == Victim::ContainerMemory && *output != Output::Wrong,
        Claim::Exited(_) | Claim::Other(_) => false,
        Claim::Nothing(words) => {
            findings.push((Fault::Unresolved, words.clone()));
            true
        }
    };
    if !fine {
        findings.push((
            Fault::Invented,
            format!("{claim:?} with {output:?} output, begun {starts}, ended {finishes}"),
        ));
    }
    findings
}

/// What is wrong with the errors a caller was told on the way.
pub(super) fn judge_errors(
    victim: &dyn fmt::Display,
    step: Step,
    errors: &BTreeMap<String, u64>,
) -> Vec<Finding> {
    let fault = |code: &str| match code {
        "UNCODED" => Some(Fault::Unresolved),
        // Until it is deleted each of them is there, and none of their pods is ever replaced.
        "SANDBOX_NOT_FOUND" | "SANDBOX_FINISHED" | "SANDBOX_REPLACED" if step != Step::Delete => {
            Some(Fault::Invented)
        }
        _ => None,
    };
    errors
        .iter()
        .filter_map(|(code, count)| {
            Some((fault(code)?, format!("{victim} × {step}: {code} × {count}")))
        })
        .collect()
}

/// What is wrong with how the run was told that has used up the memory.
pub(super) fn judge_hog(victim: Victim, claim: &Claim) -> Option<Finding> {
    let fine = match claim {
        Claim::OomKilled => true,
        Claim::Lost | Claim::Unknown => victim == Victim::ContainerMemory,
        _ => false,
    };
    (!fine).then(|| (Fault::Invented, format!("{victim}: a run beyond the memory is {claim:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ran(claim: Claim, output: Output, starts: usize, finishes: usize) -> End {
        End::Ran(Ran { claim, output, starts, finishes })
    }

    fn faults(victim: Victim, end: &End) -> Vec<Fault> {
        judge(victim, Step::Run, end).into_iter().map(|(fault, _)| fault).collect()
    }

    #[test]
    fn only_what_is_so_may_be_said_of_a_run() {
        use Claim::{Exited, Lost, Nothing, OomKilled, Other, Unknown};
        use Fault::{Invented, Twice, Unresolved};
        use Output::{Begun, Whole, Wrong};
        for (victim, end, expected) in [
            (Victim::FrontEnd, ran(Exited(0), Whole, 1, 1), vec![]),
            (Victim::FrontEnd, ran(Exited(0), Whole, 1, 0), vec![Invented]),
            (Victim::FrontEnd, ran(Exited(0), Begun, 1, 1), vec![Invented]),
            (Victim::FrontEnd, ran(Exited(0), Whole, 2, 2), vec![Twice, Invented]),
            (Victim::FrontEnd, ran(Exited(1), Whole, 1, 1), vec![Invented]),
            (Victim::FrontEnd, ran(Lost, Begun, 1, 0), vec![Invented]),
            (Victim::FrontEnd, ran(Unknown, Begun, 1, 1), vec![Invented]),
            (Victim::FrontEnd, ran(Nothing("gone".into()), Begun, 1, 1), vec![Unresolved]),
            (Victim::Agent, ran(Lost, Begun, 1, 0), vec![]),
            (Victim::Agent, ran(Unknown, Begun, 1, 1), vec![]),
            (Victim::Agent, ran(Lost, Wrong, 1, 0), vec![Invented]),
            (Victim::Agent, ran(OomKilled, Begun, 1, 0), vec![Invented]),
            (Victim::Agent, ran(Other("status=signaled".into()), Begun, 1, 0), vec![Invented]),
            (Victim::ContainerMemory, ran(OomKilled, Begun, 1, 0), vec![]),
            (Victim::ProcessMemory, ran(OomKilled, Begun, 1, 0), vec![Invented]),
        ] {
            assert_eq!(faults(victim, &end), expected, "{victim}: {end:?}");
        }
    }

    #[test]
    fn other_steps_are_judged_by_what_is_there() {
        let first = Ran { claim: Claim::Exited(0), output: Output::Whole, starts: 1, finishes: 1 };
        for (end, expected) in [
            (End::Made { pods: 1, set_up: true, first: first.clone() }, vec![]),
            (End::Made { pods: 2, set_up: true, first: first.clone() }, vec![Fault::Twice]),
            (End::Made { pods: 1, set_up: false, first: first.clone() }, vec![Fault::Invented]),
            (End::Rested { meanwhile: 0, pods: 1, kept: true, first: first.clone() }, vec![]),
            (
                End::Rested { meanwhile: 1, pods: 2, kept: false, first },
                vec![Fault::Invented, Fault::Twice, Fault::Invented],
            ),
            (End::Written { torn: 0, strays: 0 }, vec![]),
            (End::Written { torn: 1, strays: 1 }, vec![Fault::Invented, Fault::Leaked]),
            (End::Gone, vec![]),
            (End::Nothing("UNAVAILABLE".into()), vec![Fault::Unresolved]),
        ] {
            assert_eq!(faults(Victim::Agent, &end), expected, "{end:?}");
        }
    }

    #[test]
    fn a_sandbox_that_is_there_may_not_be_said_to_be_gone() {
        let faults = |step, code: &str| {
            let errors = BTreeMap::from([(code.to_owned(), 1), ("UNAVAILABLE".into(), 7)]);
            let findings = judge_errors(&Victim::ApiServer, step, &errors);
            findings.into_iter().map(|(fault, _)| fault).collect::<Vec<_>>()
        };
        assert_eq!(faults(Step::Run, "SANDBOX_NOT_FOUND"), [Fault::Invented]);
        assert_eq!(faults(Step::Delete, "SANDBOX_NOT_FOUND"), []);
        assert_eq!(faults(Step::Delete, "UNCODED"), [Fault::Unresolved]);
        assert_eq!(faults(Step::Run, "NO_ANSWER"), []);
    }

    #[test]
    fn who_uses_up_the_memory_is_told_so() {
        let fine = |victim, claim| judge_hog(victim, &claim).is_none();
        assert!(fine(Victim::ProcessMemory, Claim::OomKilled));
        assert!(!fine(Victim::ProcessMemory, Claim::Lost));
        assert!(!fine(Victim::ProcessMemory, Claim::Exited(0)));
        assert!(fine(Victim::ContainerMemory, Claim::Lost));
    }
}

//! The status of a sandbox: what its pod and its policies say, in conditions.
//!
//! Nothing in it moves by itself: the same observation gives the same status, so that a settled cluster is not written to.

use api::{
    CodeSandbox, CodeSandboxStatus, Rest, Start, StartMode, Termination, TerminationReason,
    condition, names, reason, start,
};
use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{ContainerStatus, Pod, PodCondition},
    apimachinery::pkg::apis::meta::v1::{Condition, Time},
};
use kube::ResourceExt;

use crate::{
    config::Config,
    gpu, isolation,
    observe::Observed,
    plan::{self, Situation},
    pod, restart,
    starting::{self, hindrance},
    template, termination,
};

mod pending;

pub(crate) use pending::{is_quota, missing_runtime_class};

/// How much of somebody else's words goes into a message, in bytes.
const MAX_WORDS: usize = 600;

/// What a condition is to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) status: &'static str,
    pub(crate) reason: String,
    pub(crate) message: String,
}

impl Verdict {
    pub(crate) fn yes(reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self { status: "True", reason: reason.into(), message: message.into() }
    }

    pub(crate) fn no(reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self { status: "False", reason: reason.into(), message: message.into() }
    }

    fn unknown(reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self { status: "Unknown", reason: reason.into(), message: message.into() }
    }
}

/// The status that follows from what was observed.
pub(crate) fn status(
    sandbox: &CodeSandbox,
    observed: &Observed,
    situation: &Situation<'_>,
    config: &Config,
    now: Timestamp,
) -> CodeSandboxStatus {
    let old = sandbox.status.clone().unwrap_or_default();
    let attempt = old.attempt.unwrap_or(1);
    let mut new = CodeSandboxStatus {
        attempt: Some(attempt),
        expires_at: sandbox.expires_at().map(Time),
        observed_generation: sandbox.metadata.generation,
        template: old.template.clone().map(|bound| Box::new(template::renewed(*bound, observed))),
        ..old.clone()
    };
    let verdicts = match situation {
        Situation::Over | Situation::BackingOff(_) => return renewed(new),
        Situation::Lost(pod, lost) => {
            let losses = old.lost_pods().saturating_add(1);
            let next = next_attempt(&mut new, losses);
            new.last_termination = Some(lost.clone());
            let since = since(&old.conditions, condition::NETWORK_ISOLATED, "Unknown", now);
            Verdicts::lost(*pod, lost, &restart::announced(sandbox, next, losses, since.0))
        }
        Situation::Retiring(rest, end) => {
            next_attempt(&mut new, old.lost_pods());
            new.last_wake = sandbox.annotations().get(names::WAKE).cloned();
            new.last_termination = end.clone().or(new.last_termination);
            Verdicts::resting(sandbox, *rest, false)
        }
        Situation::Forgoing(said) => {
            next_attempt(&mut new, old.lost_pods());
            new.without_gpu = true;
            Verdicts::without_pod(gpu::goes_on(said))
        }
        Situation::Resting(rest) => {
            Verdicts::resting(sandbox, *rest, plan::leaving(sandbox, observed).is_none())
        }
        Situation::Absent => Verdicts::without_pod(pending::absent(sandbox, observed)),
        Situation::Emptied => {
            new.set_up = false;
            Verdicts::without_pod(pending::emptied(sandbox))
        }
        Situation::Unbound(template) => {
            new.template = Some(template.clone());
            let said = format!("the sandbox is made from CodeSandboxTemplate {}", template.name);
            Verdicts::without_pod(Verdict::no(reason::TEMPLATE_BOUND, said))
        }
        Situation::Barred(verdict) | Situation::Forbidden(verdict) => {
            Verdicts::without_pod(verdict.clone())
        }
        Situation::Taken(taken) => Verdicts::without_pod(pending::name_taken(taken)),
        Situation::Ended(pod, end) => {
            if let Some(pod) = pod {
                describe(&mut new, pod);
            }
            new.last_termination = Some(end.clone());
            Verdicts::ended(
                end,
                pod.map(|pod| {
                    (scheduled(pod), isolation::isolated(sandbox, pod, observed, config))
                }),
            )
        }
        Situation::Alive(pod) => {
            describe(&mut new, pod);
            new.last_termination = termination::restarted(pod).or(new.last_termination);
            new.set_up |= pod::setup::is_done_for_good(sandbox, pod);
            let started = starting::ready(pod, now);
            let started = hindrance::told(pod, started, &observed.warnings, now);
            let mut ready = gpu::told(sandbox, started);
            if let Some(policy) = plan::policies::needless(sandbox, observed, config, Some(pod)) {
                let said = format!(
                    "NetworkPolicy {} still opens public addresses, which spec.setup alone was to reach",
                    policy.name_any()
                );
                ready = Verdict::no(reason::SETTING_UP, said);
            }
            let isolated = if ready.reason == reason::NOT_ISOLATED {
                Verdict::no(reason::NOT_ENFORCED, ready.message.clone())
            } else {
                isolation::isolated(sandbox, pod, observed, config)
            };
            let scheduled = scheduled(pod);
            Verdicts { ready, scheduled, isolated, finished: lives(), suspended: None }
        }
    };
    new.conditions = verdicts.conditions(&old.conditions, sandbox.metadata.generation, now);
    new
}

/// Goes on to the next attempt. It is written down before its pod is made, so that the one before never stands in its way.
fn next_attempt(status: &mut CodeSandboxStatus, losses: u32) -> u32 {
    let next = status.attempt.unwrap_or(1).saturating_add(1);
    (status.attempt, status.losses) = (Some(next), Some(losses));
    (status.pod_name, status.pod_uid, status.node, status.start) = (None, None, None, None);
    // Each asks for its GPUs anew.
    status.without_gpu = false;
    next
}

/// What the conditions are to say.
struct Verdicts {
    ready: Verdict,
    scheduled: Verdict,
    isolated: Verdict,
    finished: Verdict,
    /// Where there is something to say of it.
    suspended: Option<Verdict>,
}

impl Verdicts {
    fn without_pod(ready: Verdict) -> Self {
        let none = || Verdict::unknown(ready.reason.clone(), "there is no pod");
        Self { scheduled: none(), isolated: none(), finished: lives(), suspended: None, ready }
    }

    /// Of a sandbox that is to have no pod, and has none any more or is about to have none.
    fn resting(sandbox: &CodeSandbox, rest: Rest, gone: bool) -> Self {
        let ready = pending::resting(sandbox, rest, gone);
        let said = (rest.reason(), ready.message.clone());
        let suspended =
            if gone { Verdict::yes(said.0, said.1) } else { Verdict::no(said.0, said.1) };
        Self { suspended: Some(suspended), ..Self::without_pod(ready) }
    }

    fn lost(pod: Option<&Pod>, lost: &Termination, next: &str) -> Self {
        let reason = match (pod, lost.reason) {
            (Some(_), TerminationReason::Killed) => reason::TERMINATING,
            _ => reason::POD_LOST,
        };
        Self::without_pod(Verdict::no(reason, format!("{}; {next}", lost.message)))
    }

    /// Of a sandbox that has ended, and what its pod says where there still is one.
    fn ended(end: &Termination, pod: Option<(Verdict, Verdict)>) -> Self {
        let reason = format!("{:?}", end.reason);
        let finished = Verdict::yes(reason.clone(), end.message.clone());
        let none = Self::without_pod(Verdict::no(reason, end.message.clone()));
        let (scheduled, isolated) = pod.unwrap_or((none.scheduled, none.isolated));
        Self { scheduled, isolated, finished, ..none }
    }

    fn conditions(
        self,
        old: &[Condition],
        generation: Option<i64>,
        now: Timestamp,
    ) -> Vec<Condition> {
        // One that never was suspended says nothing of it.
        let was = old.iter().any(|one| one.type_ == condition::SUSPENDED);
        let suspended = self.suspended.or_else(|| was.then(resumed));
        [
            (condition::READY, self.ready),
            (condition::POD_SCHEDULED, self.scheduled),
            (condition::NETWORK_ISOLATED, self.isolated),
            (condition::FINISHED, self.finished),
        ]
        .into_iter()
        .chain(suspended.map(|suspended| (condition::SUSPENDED, suspended)))
        .map(|(type_, verdict)| set(old, type_, verdict, generation, now))
        .collect()
    }
}

/// A condition with a verdict: its time is kept until its status flips.
pub(crate) fn set(
    old: &[Condition],
    type_: &str,
    verdict: Verdict,
    generation: Option<i64>,
    now: Timestamp,
) -> Condition {
    Condition {
        last_transition_time: since(old, type_, verdict.status, now),
        type_: type_.into(),
        status: verdict.status.into(),
        reason: verdict.reason,
        message: verdict.message,
        observed_generation: generation,
    }
}

/// Since when a condition has had a status that it has now.
fn since(old: &[Condition], type_: &str, status: &str, now: Timestamp) -> Time {
    let before = old.iter().find(|one| one.type_ == type_ && one.status == status);
    before.map_or_else(|| whole_seconds(now), |one| one.last_transition_time.clone())
}

/// Kubernetes' times have no fractions: with them, what is read back would never be what was written.
fn whole_seconds(now: Timestamp) -> Time {
    Time(Timestamp::from_second(now.as_second()).unwrap_or(now))
}

/// The status of a sandbox that is finished, or waits for its next attempt: it says what it said, of the spec as it is now.
fn renewed(mut status: CodeSandboxStatus) -> CodeSandboxStatus {
    for condition in &mut status.conditions {
        condition.observed_generation = status.observed_generation;
    }
    status
}

/// Writes down which pod it is, and where.
fn describe(status: &mut CodeSandboxStatus, pod: &Pod) {
    status.pod_name = Some(pod.name_any());
    status.pod_uid = pod.uid();
    status.node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
    status.start = Some(start(pod));
}

/// How a pod came to its sandbox, which it says itself: an operator that has just started knows it as well.
fn start(pod: &Pod) -> Start {
    if pod.labels().contains_key(names::POOL) {
        return Start { mode: StartMode::Warm, reason: start::CLAIMED.into() };
    }
    let why = pod.annotations().get(names::START).map_or(start::NO_POOL, String::as_str);
    Start { mode: StartMode::Cold, reason: why.into() }
}

fn lives() -> Verdict {
    Verdict::no(reason::RUNNING, "the sandbox has not ended")
}

fn resumed() -> Verdict {
    Verdict::no(reason::RESUMED, "the sandbox is to run")
}

/// PodScheduled, as the pod has it.
fn scheduled(pod: &Pod) -> Verdict {
    let Some(mirrored) = pod_condition(pod, condition::POD_SCHEDULED) else {
        return Verdict::unknown(reason::CREATING, "the scheduler has not said anything");
    };
    let message = mirrored.message.as_deref().map(words).unwrap_or_default();
    let said = mirrored.reason.clone().filter(|reason| !reason.is_empty());
    match mirrored.status.as_str() {
        "True" => Verdict::yes(said.unwrap_or_else(|| reason::SCHEDULED.into()), message),
        "False" => Verdict::no(said.unwrap_or_else(|| reason::UNSCHEDULABLE.into()), message),
        _ => Verdict::unknown(said.unwrap_or_else(|| reason::CREATING.into()), message),
    }
}

/// Whether two statuses say the same. The order of conditions means nothing, and others' conditions are not ours to remove.
pub(crate) fn same(old: Option<&CodeSandboxStatus>, new: &CodeSandboxStatus) -> bool {
    let Some(old) = old else { return false };
    let known = |one: &&Condition| new.conditions.iter().any(|own| own.type_ == one.type_);
    let kept: Vec<_> = old.conditions.iter().filter(known).collect();
    let conditions =
        kept.len() == new.conditions.len() && new.conditions.iter().all(|own| kept.contains(&own));
    let rest = CodeSandboxStatus { conditions: new.conditions.clone(), ..old.clone() };
    conditions && rest == *new
}

/// The condition of a pod.
pub(crate) fn pod_condition<'a>(pod: &'a Pod, type_: &str) -> Option<&'a PodCondition> {
    pod.status.as_ref()?.conditions.iter().flatten().find(|one| one.type_ == type_)
}

/// The status of the container user code runs in.
pub(crate) fn container(pod: &Pod) -> Option<&ContainerStatus> {
    pod.status
        .as_ref()?
        .container_statuses
        .iter()
        .flatten()
        .find(|one| one.name == names::CONTAINER)
}

/// The status of a container of this name that comes before it.
pub(crate) fn init_container<'a>(pod: &'a Pod, name: &str) -> Option<&'a ContainerStatus> {
    let mut statuses = pod.status.as_ref()?.init_container_statuses.iter().flatten();
    statuses.find(|one| one.name == name)
}

/// Somebody else's words, shortened where they are long, which is said.
pub(crate) fn words(text: &str) -> String {
    let text = text.trim().trim_end_matches('.');
    if text.len() <= MAX_WORDS {
        return text.into();
    }
    format!("{} [cut]", &text[..text.floor_char_boundary(MAX_WORDS)])
}

/// The same of words of which the end says most, as that of a log.
pub(crate) fn last_words(text: &str) -> String {
    let text = text.trim();
    match text.len().checked_sub(MAX_WORDS) {
        None | Some(0) => text.into(),
        Some(more) => format!("[cut] {}", &text[text.ceil_char_boundary(more)..]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::at;

    fn condition(type_: &str, status: &'static str, seconds: i64) -> Condition {
        let verdict = Verdict { status, reason: "Because".into(), message: "so it is".into() };
        set(&[], type_, verdict, Some(1), at(seconds))
    }

    #[test]
    fn a_conditions_time_moves_only_when_its_status_flips() {
        let old = [condition("Ready", "False", 10)];
        let stays = set(&old, "Ready", Verdict::no("Other", "words"), Some(2), at(20));
        assert_eq!(stays.last_transition_time.0, at(10));
        assert_eq!((stays.reason.as_str(), stays.observed_generation), ("Other", Some(2)));

        let flips = set(&old, "Ready", Verdict::yes("Good", "words"), Some(2), at(20));
        assert_eq!(flips.last_transition_time.0, at(20));
    }

    #[test]
    fn times_survive_being_written_and_read() {
        let now = at(10) + jiff::SignedDuration::from_millis(345);
        let written = set(&[], "Ready", Verdict::yes("Good", "words"), None, now);
        let json = serde_json::to_string(&written).unwrap();
        assert_eq!(serde_json::from_str::<Condition>(&json).unwrap(), written);
    }

    #[test]
    fn neither_the_order_of_conditions_nor_those_of_others_are_differences() {
        let (ready, finished) = (condition("Ready", "True", 1), condition("Finished", "False", 1));
        let new = CodeSandboxStatus {
            conditions: vec![ready.clone(), finished.clone()],
            ..CodeSandboxStatus::default()
        };
        let mut old = CodeSandboxStatus {
            conditions: vec![condition("Theirs", "True", 1), finished, ready],
            ..CodeSandboxStatus::default()
        };
        assert!(same(Some(&old), &new));
        assert!(!same(None, &new));

        old.conditions[1].message = "otherwise".into();
        assert!(!same(Some(&old), &new));
        old.conditions.remove(1);
        assert!(!same(Some(&old), &new));
    }

    #[test]
    fn long_words_are_cut_between_characters_and_it_is_said() {
        assert_eq!(words(" short. "), "short");
        let cut = words(&"ä".repeat(400));
        assert!(cut.ends_with("ä [cut]") && cut.len() <= MAX_WORDS + 6, "{}", cut.len());

        assert_eq!(last_words(" done. "), "done.");
        assert_eq!(last_words(&"ä".repeat(300)), "ä".repeat(300));
        let cut = last_words(&format!("{}no such package", "ä".repeat(400)));
        assert!(cut.starts_with("[cut] ä") && cut.ends_with("no such package"), "{cut}");
        assert!(cut.len() <= MAX_WORDS + 6, "{}", cut.len());
    }
}

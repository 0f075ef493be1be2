use futures::{FutureExt, StreamExt};

use super::*;
use crate::testing::{at, config, pod_with, running, sandbox};

fn named(name: &str, class: Option<&str>) -> CodeSandbox {
    let mut sandbox = sandbox();
    sandbox.metadata.name = Some(name.into());
    sandbox.spec.settings.runtime_class_name = class.map(Into::into);
    sandbox
}

fn auto() -> Runtimes {
    Runtimes::new(AgentInjection::Auto)
}

/// A sandbox's pod that runs.
fn ready_pod(sandbox: &CodeSandbox, way: Way) -> Pod {
    let mut pod = pod::pod(sandbox, &config(), way, 1);
    pod.status = pod_with(&running()).status;
    pod
}

const IMAGE: Injection = Injection::By(Way::ImageVolume);
const INIT: Injection = Injection::By(Way::InitContainer);

#[test]
fn what_the_administrator_chose_is_not_asked_about() {
    for (chosen, injection) in
        [(AgentInjection::ImageVolume, IMAGE), (AgentInjection::InitContainer, INIT)]
    {
        let runtimes = Runtimes::new(chosen);
        runtimes.settle(&sandbox(), &Verdict::Unclear(String::new()), at(0));
        assert_eq!(runtimes.injection(&sandbox(), at(0)), injection);
    }
    assert_eq!(auto().injection(&sandbox(), at(0)), Injection::Unknown);
}

#[test]
fn one_sandbox_of_a_runtime_asks_and_the_others_wait_for_what_it_finds() {
    for (verdict, injection) in [(Verdict::Works, IMAGE), (Verdict::Fails("noexec".into()), INIT)] {
        let runtimes = auto();
        let (first, second, other) =
            (named("a", None), named("b", None), named("c", Some("gvisor")));
        assert_eq!(runtimes.ask(&first, at(0)), Injection::Asking(at(75)));
        assert_eq!(runtimes.ask(&first, at(1)), Injection::Asking(at(75)), "not anew each time");
        assert_eq!(runtimes.ask(&second, at(1)), Injection::Waiting(at(90)));
        assert_eq!(runtimes.injection(&second, at(1)), Injection::Waiting(at(90)));
        assert_eq!(runtimes.ask(&other, at(1)), Injection::Asking(at(76)), "each runtime its own");

        runtimes.settle(&first, &verdict, at(2));
        for sandbox in [&first, &second] {
            assert_eq!(runtimes.injection(sandbox, at(9999)), injection);
            assert_eq!(runtimes.ask(sandbox, at(9999)), injection);
        }
    }
}

#[test]
fn a_namesake_in_another_namespace_is_another_sandbox() {
    let (runtimes, first) = (auto(), named("a", None));
    let mut namesake = first.clone();
    namesake.metadata.namespace = Some("elsewhere".into());
    runtimes.ask(&first, at(0));
    assert_eq!(runtimes.injection(&namesake, at(0)), Injection::Waiting(at(90)));
    runtimes.release("elsewhere", "a");
    assert_eq!(runtimes.injection(&namesake, at(0)), Injection::Waiting(at(90)));
}

#[test]
fn who_asked_and_is_gone_holds_up_nobody() {
    let (runtimes, first, second) = (auto(), named("a", None), named("b", None));
    runtimes.ask(&first, at(0));
    runtimes.release("demo", "a");
    assert_eq!(runtimes.ask(&second, at(1)), Injection::Asking(at(76)));

    // Who asks and is not heard of any more: its own time and then some.
    assert_eq!(runtimes.ask(&first, at(76 + 14)), Injection::Waiting(at(91)));
    assert_eq!(runtimes.ask(&first, at(76 + 15)), Injection::Asking(at(91 + 75)));
}

#[test]
fn without_an_answer_the_init_container_does_and_it_is_asked_again_later() {
    let (runtimes, first) = (auto(), named("a", None));
    runtimes.ask(&first, at(0));
    runtimes.settle(&first, &Verdict::Unclear("0/1 nodes".into()), at(10));
    assert_eq!(runtimes.injection(&first, at(69)), INIT);
    assert_eq!(runtimes.injection(&first, at(70)), Injection::Unknown);
}

#[test]
fn no_wait_outlives_a_clock_that_was_set_back() {
    let (first, second) = (named("a", None), named("b", None));
    for sandbox in [&first, &second] {
        let runtimes = auto();
        runtimes.ask(&first, at(7200));
        assert_eq!(runtimes.injection(sandbox, at(0)), Injection::Unknown);
        runtimes.settle(&first, &Verdict::Unclear("0/1 nodes".into()), at(7200));
        assert_eq!(runtimes.injection(sandbox, at(0)), Injection::Unknown);
    }
}

#[test]
fn a_sandbox_that_runs_from_an_image_volume_answers_for_free() {
    let sandbox = sandbox();
    let mut unready = ready_pod(&sandbox, Way::ImageVolume);
    unready.status = None;
    let mut unmarked = ready_pod(&sandbox, Way::ImageVolume);
    unmarked.metadata.labels = None;
    let mut foreign = ready_pod(&sandbox, Way::ImageVolume);
    foreign.metadata.owner_references = None;
    for (pod, injection) in [
        (Some(ready_pod(&sandbox, Way::ImageVolume)), IMAGE),
        (Some(ready_pod(&sandbox, Way::InitContainer)), Injection::Unknown),
        (Some(unready), Injection::Unknown),
        (Some(unmarked), Injection::Unknown),
        (Some(foreign), Injection::Unknown),
        (None, Injection::Unknown),
    ] {
        let runtimes = auto();
        runtimes.saw(&sandbox, pod.as_ref());
        assert_eq!(runtimes.injection(&sandbox, at(0)), injection, "{pod:?}");
    }
}

#[test]
fn what_failed_since_is_probed_again_whatever_runs_still() {
    let (runtimes, sandbox) = (auto(), sandbox());
    let pod = ready_pod(&sandbox, Way::ImageVolume);
    runtimes.saw(&sandbox, Some(&pod));
    runtimes.doubt(&sandbox, at(0));
    runtimes.saw(&sandbox, Some(&pod));
    assert_eq!(runtimes.injection(&sandbox, at(0)), Injection::Unknown);

    // What a probe has shown holds for a while: the pod may be to blame.
    runtimes.settle(&sandbox, &Verdict::Works, at(0));
    runtimes.doubt(&sandbox, at(599));
    assert_eq!(runtimes.injection(&sandbox, at(599)), IMAGE);
    runtimes.doubt(&sandbox, at(600));
    assert_eq!(runtimes.injection(&sandbox, at(600)), Injection::Unknown);

    // Where the init container is the way, a failure says nothing about image volumes.
    runtimes.settle(&sandbox, &Verdict::Fails("noexec".into()), at(0));
    runtimes.doubt(&sandbox, at(9999));
    runtimes.saw(&sandbox, Some(&pod));
    assert_eq!(runtimes.injection(&sandbox, at(0)), INIT);
}

#[test]
fn those_who_wait_hear_of_a_finding_and_of_one_who_gave_up_and_of_nothing_else() {
    let (runtimes, first) = (auto(), named("a", None));
    let mut news = Box::pin(runtimes.news());
    let mut heard = || news.next().now_or_never().is_some();
    runtimes.ask(&first, at(0));
    runtimes.release("demo", "b");
    assert!(!heard());
    runtimes.release("demo", "a");
    assert!(heard() && !heard());
    for verdict in [Verdict::Works, Verdict::Unclear(String::new())] {
        runtimes.settle(&first, &verdict, at(1));
        assert!(heard() && !heard(), "{verdict:?}");
    }
}

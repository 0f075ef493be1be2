//! What is stored and cannot be decoded, such as what a later version wrote: it is passed over and hides no other object.

use std::collections::HashSet;

use kube::{
    core::{DeserializeGuard, error_boundary::InvalidObject},
    runtime::watcher::Event,
};

use crate::{CodeSandbox, CodeSandboxSpec};

/// Turns what a watch says into what it says of objects that can be decoded.
#[derive(Debug, Default)]
pub struct Decoder {
    /// The UIDs of those that could not be decoded, each of which is told of once.
    known: HashSet<String>,
    /// Those of the list that is coming in.
    listed: HashSet<String>,
}

impl Decoder {
    /// The event, unless there is nothing in it that can be told without decoding. `tell` hears of an object that
    /// cannot be decoded, once until it can be again.
    ///
    /// One that could be decoded before is as good as gone: what it once was is not what it is.
    pub fn decode(
        &mut self,
        event: Event<DeserializeGuard<CodeSandbox>>,
        tell: impl FnOnce(&InvalidObject),
    ) -> Option<Event<CodeSandbox>> {
        match event {
            Event::Init => {
                self.listed.clear();
                Some(Event::Init)
            }
            Event::InitDone => {
                self.known = std::mem::take(&mut self.listed);
                Some(Event::InitDone)
            }
            Event::InitApply(DeserializeGuard(Ok(sandbox))) => Some(Event::InitApply(sandbox)),
            Event::InitApply(DeserializeGuard(Err(invalid))) => {
                let uid = uid(&invalid);
                if !self.known.contains(&uid) {
                    tell(&invalid);
                }
                self.listed.insert(uid);
                None
            }
            Event::Apply(DeserializeGuard(Ok(sandbox))) => {
                self.known.remove(sandbox.metadata.uid.as_deref().unwrap_or_default());
                Some(Event::Apply(sandbox))
            }
            Event::Apply(DeserializeGuard(Err(invalid))) => {
                if self.known.insert(uid(&invalid)) {
                    tell(&invalid);
                }
                Some(Event::Delete(husk(invalid)))
            }
            Event::Delete(DeserializeGuard(sandbox)) => {
                let sandbox = sandbox.unwrap_or_else(husk);
                self.known.remove(sandbox.metadata.uid.as_deref().unwrap_or_default());
                Some(Event::Delete(sandbox))
            }
        }
    }
}

fn uid(invalid: &InvalidObject) -> String {
    invalid.metadata.uid.clone().unwrap_or_default()
}

/// What has the identity of an object and nothing else, for a deletion.
fn husk(invalid: InvalidObject) -> CodeSandbox {
    CodeSandbox { metadata: invalid.metadata, spec: CodeSandboxSpec::default(), status: None }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A sandbox whose spec is as given: an object can be decoded, a number cannot.
    fn stored(name: &str, spec: &serde_json::Value) -> DeserializeGuard<CodeSandbox> {
        let object = json!({"metadata": {"name": name, "uid": name}, "spec": spec});
        serde_json::from_value(object).unwrap()
    }

    /// What is passed on of events, as `Apply(good)`, and of whom was told.
    fn decode(
        decoder: &mut Decoder,
        events: Vec<Event<DeserializeGuard<CodeSandbox>>>,
    ) -> (Vec<String>, Vec<String>) {
        let (mut passed, mut told) = (vec![], vec![]);
        for event in events {
            let event = decoder.decode(event, |invalid| told.push(uid(invalid)));
            passed.extend(event.map(|event| event.to_string()));
        }
        (passed, told)
    }

    fn strings<const N: usize>(strings: [&str; N]) -> Vec<String> {
        strings.map(ToOwned::to_owned).into()
    }

    #[test]
    fn one_bad_object_in_a_list_hides_no_other_and_is_told_of_once() {
        let mut decoder = Decoder::default();
        let list = || {
            vec![
                Event::Init,
                Event::InitApply(stored("bad", &json!(7))),
                Event::InitApply(stored("good", &json!({}))),
                Event::InitDone,
            ]
        };
        let shown = strings(["Init", "InitApply(good)", "InitDone"]);
        assert_eq!(decode(&mut decoder, list()), (shown.clone(), strings(["bad"])));
        assert_eq!(decode(&mut decoder, list()), (shown, vec![]), "not at each resync");
    }

    #[test]
    fn one_that_turns_bad_is_gone_until_it_is_good_again() {
        let mut decoder = Decoder::default();
        let apply = |spec| Event::Apply(stored("box", spec));
        let (good, bad) = (json!({}), json!(7));
        let events = vec![apply(&good), apply(&bad), apply(&bad), apply(&good), apply(&bad)];
        let passed =
            strings(["Apply(box)", "Delete(box)", "Delete(box)", "Apply(box)", "Delete(box)"]);
        assert_eq!(decode(&mut decoder, events), (passed, strings(["box", "box"])));
    }

    #[test]
    fn a_bad_one_that_is_deleted_is_deleted_and_forgotten() {
        let mut decoder = Decoder::default();
        let bad = || stored("box", &json!(7));
        let events = vec![Event::Apply(bad()), Event::Delete(bad())];
        let passed = strings(["Delete(box)", "Delete(box)"]);
        assert_eq!(decode(&mut decoder, events), (passed, strings(["box"])));
        assert!(decoder.known.is_empty());

        decode(&mut decoder, vec![Event::Apply(bad()), Event::Init, Event::InitDone]);
        assert!(decoder.known.is_empty(), "not in the next list either");
    }
}

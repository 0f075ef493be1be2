//! What a watch touches, what went unseen included.
//!
//! A watch that has to begin anew, as after a restart of the API server, brings a list of what is there. What was deleted
//! between its end and that list is in neither, and kube's own `touched_objects` says nothing of it: a sandbox that waits for
//! the end of its former pod would wait until something else happens to it.

use std::collections::HashMap;

use futures::{Stream, StreamExt, stream};
use kube::{
    Resource, ResourceExt,
    runtime::watcher::{Event, Result},
};

/// Each object that is touched, and of each list that is made anew what it has no more.
pub(super) fn touched<K>(
    events: impl Stream<Item = Result<Event<K>>> + Send,
) -> impl Stream<Item = Result<K>> + Send
where
    K: Resource + Clone + Send,
{
    let mut known = Known::default();
    events.flat_map(move |event| {
        let touched = match event {
            Ok(event) => known.see(event).into_iter().map(Ok).collect(),
            Err(error) => vec![Err(error)],
        };
        stream::iter(touched)
    })
}

/// The objects that a watch has shown last, by name.
struct Known<K> {
    there: HashMap<String, K>,
    /// Those of before, which the list that is being made has not named so far.
    before: HashMap<String, K>,
}

impl<K> Default for Known<K> {
    fn default() -> Self {
        Self { there: HashMap::new(), before: HashMap::new() }
    }
}

impl<K: Resource + Clone> Known<K> {
    /// Takes note of an event; gives what it touches.
    fn see(&mut self, event: Event<K>) -> Vec<K> {
        match event {
            Event::Init => {
                // Of one that broke off nothing is known to be gone.
                self.before.extend(std::mem::take(&mut self.there));
                Vec::new()
            }
            Event::InitApply(object) | Event::Apply(object) => {
                let name = object.name_any();
                self.before.remove(&name);
                self.there.insert(name, object.clone());
                vec![object]
            }
            Event::InitDone => std::mem::take(&mut self.before).into_values().collect(),
            Event::Delete(object) => {
                self.there.remove(&object.name_any());
                vec![object]
            }
        }
    }
}

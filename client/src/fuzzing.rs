//! What judges an agent's words, for `fuzz/`. Nobody else should call it.

use wire::v1::{OutputReply, OutputRequest, RunEvent, run_event::Event};

use crate::{run::Totals, runs};

/// A run's events, to its outcome or the first lie.
pub fn events(events: impl IntoIterator<Item = RunEvent>) {
    let mut totals = Totals::from(0);
    for event in events {
        let lie = totals.account("r", &event).is_err();
        if lie || matches!(event.event, Some(Event::Outcome(_))) {
            return;
        }
    }
}

/// A part of a run's output: one that is believed is no longer than what was asked for, and goes on
/// behind itself.
pub fn output(request: &OutputRequest, reply: &OutputReply) {
    if runs::lie(request, reply).is_none() {
        assert!(reply.offset <= reply.next && reply.next <= reply.kept);
        assert!(reply.data.len() <= 2 << 20);
    }
}

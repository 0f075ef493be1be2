//! What who asks for more than there is room for is told.

use api::quantity::written;

use super::{Limits, Taken};

/// What room is wanted for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Wish<'a> {
    /// A new sandbox.
    Make,
    /// The sandbox of this name, which is paused.
    Wake(&'a str),
}

/// An amount of which there would be too much.
struct Over {
    unit: &'static str,
    asks: f64,
    has: f64,
    most: f64,
}

impl Limits {
    /// Why there is no room for what a sandbox asks for beside what its owner's have; of that a part may be its own already.
    pub(crate) fn refusal(
        &self,
        wish: Wish<'_>,
        asks: Taken,
        has: Taken,
        own: Taken,
    ) -> Option<String> {
        let over = self.over(asks, has, own);
        let never: Vec<_> = over.iter().filter(|one| one.asks > one.most).collect();
        if !never.is_empty() {
            return Some(too_large(wish, &never));
        }
        // One that is woken has its place, though the watch may not show it yet.
        let is_new = matches!(wish, Wish::Make) && asks.sandboxes > own.sandboxes;
        if let Some(most) = self.sandboxes.filter(|most| is_new && has.sandboxes >= *most) {
            return Some(too_many(has.sandboxes, most));
        }
        (!over.is_empty()).then(|| too_much(wish, &over))
    }

    /// The amounts of which there would be too much. Who asks for nothing of one is not to blame for it.
    fn over(&self, asks: Taken, has: Taken, own: Taken) -> Vec<Over> {
        let thousandths = |count: u32| f64::from(count) * 1000.0;
        let gpus = [asks.gpus, has.gpus, own.gpus].map(thousandths);
        let amounts = [
            ("CPUs", self.cpu, [asks.cpu, has.cpu, own.cpu]),
            ("of memory", self.memory, [asks.memory, has.memory, own.memory]),
            ("GPUs", self.gpus.map(thousandths), gpus),
        ];
        let over = amounts.into_iter().filter_map(|(unit, most, [asks, has, own])| {
            let (most, more) = (most?, asks - own);
            (more > 0.0 && has + more > most).then_some(Over { unit, asks, has, most })
        });
        over.collect()
    }
}

/// That a sandbox alone is more than its owner may have.
fn too_large(wish: Wish<'_>, over: &[&Over]) -> String {
    let asked = over.iter().map(|Over { unit, asks, most, .. }| {
        format!("{} {unit}, of at most {}", written(*asks), written(*most))
    });
    let asked = asked.collect::<Vec<_>>().join(", and ");
    match wish {
        Wish::Make => format!(
            "this one asks for {asked} for all your sandboxes together, so it can never be made. Ask for less."
        ),
        Wish::Wake(name) => format!(
            "sandbox {name} is paused and can never be woken, since it asks for {asked} for all your sandboxes together. Tell the administrator, or create one that asks for less."
        ),
    }
}

fn too_many(has: u32, most: u32) -> String {
    format!(
        "you have {has} sandboxes, of at most {most} at once. Delete those that are not needed (sandbox_list has them), or wait for the end of their ttl."
    )
}

fn too_much(wish: Wish<'_>, over: &[Over]) -> String {
    let held = over.iter().map(|Over { unit, asks, has, most }| {
        let [asks, has, most] = [asks, has, most].map(|amount| written(*amount));
        format!("{has} of at most {most} {unit}, and this one asks for {asks}")
    });
    let held = held.collect::<Vec<_>>().join("; ");
    match wish {
        Wish::Make => format!(
            "your sandboxes have {held}. Ask for less, delete those that are not needed (sandbox_list has them), or wait for the end of their ttl."
        ),
        Wish::Wake(name) => format!(
            "sandbox {name} is paused and cannot be woken now: your sandboxes have {held}. Delete those that are not needed (sandbox_list has them), or wait until others end or are paused."
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GI: f64 = 1_073_741_824e3;
    const LIMITS: Limits =
        Limits { sandboxes: Some(3), cpu: Some(8e3), memory: Some(16.0 * GI), gpus: Some(2) };

    /// What so many sandboxes take: CPUs, GiB of memory and GPUs.
    fn taken(sandboxes: u32, cpu: f64, memory: f64, gpus: u32) -> Taken {
        Taken { sandboxes, cpu: cpu * 1e3, memory: memory * GI, gpus }
    }

    const DELETE: &str = "elete those that are not needed (sandbox_list has them), or wait";

    #[test]
    fn who_makes_one_is_told_what_there_is_no_room_for() {
        let none = Taken::default();
        let two = taken(2, 6.0, 14.0, 1);
        let more = |held: &str| {
            format!("your sandboxes have {held}. Ask for less, d{DELETE} for the end of their ttl.")
        };
        let never = |asked: &str| {
            format!(
                "this one asks for {asked} for all your sandboxes together, so it can never be made. Ask for less."
            )
        };
        let three = format!(
            "you have 3 sandboxes, of at most 3 at once. D{DELETE} for the end of their ttl."
        );
        for (has, asks, said) in [
            (none, taken(1, 8.0, 16.0, 2), None),
            (two, taken(1, 2.0, 2.0, 1), None),
            (
                two,
                taken(1, 2.5, 2.0, 1),
                Some(more("6 of at most 8 CPUs, and this one asks for 2.5")),
            ),
            (
                two,
                taken(1, 2.0, 2.5, 1),
                Some(more("14Gi of at most 16Gi of memory, and this one asks for 2.5Gi")),
            ),
            (
                two,
                taken(1, 2.0, 2.0, 2),
                Some(more("1 of at most 2 GPUs, and this one asks for 2")),
            ),
            (
                two,
                taken(1, 3.0, 3.0, 0),
                Some(more(
                    "6 of at most 8 CPUs, and this one asks for 3; 14Gi of at most 16Gi of memory, and this one asks for 3Gi",
                )),
            ),
            (none, taken(1, 9.0, 1.0, 0), Some(never("9 CPUs, of at most 8"))),
            // What waiting mends is not said beside what it does not.
            (
                two,
                taken(1, 9.0, 16.5, 2),
                Some(never("9 CPUs, of at most 8, and 16.5Gi of memory, of at most 16Gi")),
            ),
            (taken(3, 3.0, 3.0, 0), taken(1, 9.0, 1.0, 0), Some(never("9 CPUs, of at most 8"))),
            (taken(3, 3.0, 3.0, 0), taken(1, 1.0, 1.0, 0), Some(three.clone())),
            (taken(3, 8.0, 3.0, 0), taken(1, 1.0, 1.0, 0), Some(three)),
            // More than there may be, since the limits were others once.
            (taken(2, 2.0, 2.0, 4), taken(1, 1.0, 1.0, 0), None),
        ] {
            assert_eq!(LIMITS.refusal(Wish::Make, asks, has, none), said, "{has:?} {asks:?}");
        }
        assert_eq!(Limits::default().refusal(Wish::Make, taken(1, 9.0, 99.0, 9), two, none), None);
    }

    #[test]
    fn who_wakes_one_is_asked_for_what_it_takes_and_not_for_its_place() {
        let (own, asks) = (taken(1, 0.0, 0.0, 0), taken(1, 4.0, 4.0, 1));
        for (has, said) in [
            (taken(9, 4.0, 4.0, 1), None),
            (
                taken(2, 4.0, 4.0, 2),
                Some(format!(
                    "sandbox a is paused and cannot be woken now: your sandboxes have 2 of at most 2 GPUs, and this one asks for 1. D{DELETE} until others end or are paused."
                )),
            ),
        ] {
            assert_eq!(LIMITS.refusal(Wish::Wake("a"), asks, has, own), said);
        }
        let less = Limits { gpus: Some(0), ..LIMITS };
        assert_eq!(
            less.refusal(Wish::Wake("a"), asks, own, own).unwrap(),
            "sandbox a is paused and can never be woken, since it asks for 1 GPUs, of at most 0 for all your sandboxes together. Tell the administrator, or create one that asks for less."
        );
    }

    #[test]
    fn what_a_sandbox_has_already_it_does_not_ask_for_again() {
        let own = taken(1, 4.0, 4.0, 1);
        assert_eq!(LIMITS.refusal(Wish::Make, own, taken(3, 8.0, 16.0, 2), own), None);
    }
}

//! How much a caller's sandboxes may take together, and how much each takes.

use std::{iter::Sum, ops::Add};

use api::{CodeSandbox, CodeSandboxTemplate, Effective, condition, quantity};
use kube::ResourceExt;

mod refusal;

pub(crate) use refusal::Wish;

/// What the sandboxes of one caller may take together. What is absent has no bound here.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Limits {
    /// How many there may be at once, those that rest among them.
    pub sandboxes: Option<u32>,
    /// Processors, in thousandths, as [`api::quantity`] reads them.
    pub cpu: Option<f64>,
    /// Bytes of memory, in thousandths as well.
    pub memory: Option<f64>,
    /// GPUs of whatever resource.
    pub gpus: Option<u32>,
}

/// What sandboxes take, in the units of [`Limits`].
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Taken {
    pub(crate) sandboxes: u32,
    pub(crate) cpu: f64,
    pub(crate) memory: f64,
    pub(crate) gpus: u32,
}

impl Add for Taken {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            sandboxes: self.sandboxes + other.sandboxes,
            cpu: self.cpu + other.cpu,
            memory: self.memory + other.memory,
            gpus: self.gpus + other.gpus,
        }
    }
}

impl Sum for Taken {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), Add::add)
    }
}

/// What a sandbox takes as it is: nothing once it has finished, its place alone while it rests, and else what its pod may use.
pub(crate) fn taken(
    sandbox: &CodeSandbox,
    default_template: Option<&str>,
    templates: &[CodeSandboxTemplate],
) -> Taken {
    if sandbox.status.as_ref().is_some_and(|status| status.is_true(condition::FINISHED)) {
        return Taken::default();
    }
    match sandbox.rest() {
        Some(_) => Taken { sandboxes: 1, ..Taken::default() },
        None => wanted(sandbox, default_template, templates),
    }
}

/// What a sandbox takes while it has a pod, or waits for one. A GPU that is optional counts where it could not be had, too:
/// the next pod asks for it again.
pub(crate) fn wanted(
    sandbox: &CodeSandbox,
    default_template: Option<&str>,
    templates: &[CodeSandboxTemplate],
) -> Taken {
    let Effective { cpu, memory, gpu, .. } = asked(sandbox, default_template, templates);
    Taken {
        sandboxes: 1,
        // What cannot be read the API server refuses.
        cpu: quantity::of(&cpu).unwrap_or_default(),
        memory: quantity::of(&memory).unwrap_or_default(),
        gpus: gpu.map_or(0, |gpu| gpu.count.into()),
    }
}

/// How a sandbox is made, or will be once it has taken down its template. Of one that is not there nothing is known.
fn asked(
    sandbox: &CodeSandbox,
    default_template: Option<&str>,
    templates: &[CodeSandboxTemplate],
) -> Effective {
    let awaited = sandbox.awaits_template(default_template);
    match awaited.and_then(|name| templates.iter().find(|one| one.name_any() == name)) {
        Some(template) => {
            sandbox.spec.settings.clone().over(template.spec.defaults.clone()).complete()
        }
        None => sandbox.asked(),
    }
}

impl Limits {
    /// Whether more is bounded than the number: for the rest one has to know templates.
    pub(crate) fn bound_amounts(&self) -> bool {
        self.cpu.is_some() || self.memory.is_some() || self.gpus.is_some()
    }
}

#[cfg(test)]
mod tests;

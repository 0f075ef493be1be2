//! The verbs about sandboxes. Each authorises the handle it is given: an id is a name, not a capability.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use api::{CodeSandbox, CodeSandboxTemplate, Rest};
use client::{End, Sandboxes};
use kube::ResourceExt;

use crate::{
    Code, Create, Error, Limits, Principal, Queue,
    limits::{Wish, taken, wanted},
    queue,
    quota::{Place, Quota, Shown},
    request::is_same,
};

/// What the verbs need to know.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The class of the sandboxes that are made and seen.
    pub class: String,
    /// What a caller's sandboxes may take together.
    pub limits: Limits,
    /// The template of sandboxes that name none, as the operator has it.
    pub default_template: Option<String>,
}

/// What callers may do with the sandboxes of one namespace.
pub struct Service {
    pub(crate) sandboxes: Arc<Sandboxes>,
    config: Config,
    quota: Quota,
}

impl Service {
    /// The verbs over a namespace's sandboxes.
    pub fn new(sandboxes: Arc<Sandboxes>, config: Config) -> Self {
        let quota = Quota::new(config.limits.clone());
        Self { sandboxes, config, quota }
    }

    /// Whether the service can answer: its cache has been filled.
    pub async fn ready(&self) -> bool {
        self.sandboxes.synced(Duration::from_millis(100)).await
    }

    /// How many exec streams to sandboxes are open.
    pub fn streams(&self) -> usize {
        self.sandboxes.streams()
    }

    /// Creates a sandbox. With a name it is idempotent: asked for once more in the same words,
    /// the same sandbox is the answer.
    pub async fn create(
        &self,
        principal: &Principal,
        request: &Create,
    ) -> Result<Arc<CodeSandbox>, Error> {
        let name = request.name.clone().unwrap_or_else(new_name);
        let object = request.object(&name, principal, &self.config.class);
        let error = match self.made(principal, &object).await {
            Ok(created) => return Ok(Arc::new(created)),
            Err(error) => error,
        };
        // One that is there takes no place.
        let may_exist = error.code == Code::QuotaExceeded && request.name.is_some();
        if error.code != Code::SandboxExists && !may_exist {
            return Err(error);
        }
        match self.found(principal, &name).await {
            Ok(Some(existing)) if is_same(&existing.spec, &object.spec) => {
                self.wake(principal, &existing).await?;
                Ok(existing)
            }
            Ok(Some(_)) => Err(Error::new(
                Code::SandboxExists,
                format!(
                    "sandbox {name} exists with other settings. Use it as it is, delete it first, or choose another name."
                ),
            )),
            Ok(None) | Err(_) if may_exist => Err(error),
            Ok(None) | Err(_) => Err(Error::new(
                Code::SandboxExists,
                format!("the name {name} is taken. Choose another name, or none."),
            )),
        }
    }

    /// The sandbox, if its owner may have one more.
    async fn made(
        &self,
        principal: &Principal,
        object: &CodeSandbox,
    ) -> Result<CodeSandbox, Error> {
        let place = self.place(principal, object, Wish::Make).await?;
        let created = self.sandboxes.create(object).await;
        // Where nobody said no it may be there, and is counted for as long as the watch may take to show it.
        if created.as_ref().err().is_none_or(|error| !was_refused(error)) {
            place.keep(Instant::now());
        }
        Ok(created?)
    }

    /// What a sandbox takes that is to be made or woken, if its owner may have that, too.
    pub(crate) async fn place(
        &self,
        principal: &Principal,
        sandbox: &CodeSandbox,
        wish: Wish<'_>,
    ) -> Result<Place<'_>, Error> {
        let default = self.config.default_template.as_deref();
        let templates = self.templates(principal, sandbox).await?;
        let shown = |one: Arc<CodeSandbox>| Shown {
            taken: taken(&one, default, &templates),
            paused: one.rest() == Some(Rest::Paused),
        };
        let has = self.list(principal).into_iter().map(|one| (one.name_any(), shown(one)));
        let has: HashMap<_, _> = has.collect();
        let asks = wanted(sandbox, default, &templates);
        self.quota.take(principal, &sandbox.name_any(), (wish, asks), &has, Instant::now())
    }

    /// The templates, where they say what there is to count.
    async fn templates(
        &self,
        principal: &Principal,
        sandbox: &CodeSandbox,
    ) -> Result<Vec<CodeSandboxTemplate>, Error> {
        let default = self.config.default_template.as_deref();
        let awaits = |one: &CodeSandbox| one.awaits_template(default).is_some();
        let needed = self.config.limits.bound_amounts()
            && (awaits(sandbox) || self.list(principal).iter().any(|one| awaits(one)));
        if !needed {
            return Ok(Vec::new());
        }
        Ok(self.sandboxes.templates(&sandbox.name_any()).await?)
    }

    /// The caller's sandboxes, by name.
    pub fn list(&self, principal: &Principal) -> Vec<Arc<CodeSandbox>> {
        let all = self.sandboxes.list().into_values();
        all.filter(|sandbox| self.visible(principal, sandbox)).collect()
    }

    /// One of the caller's sandboxes.
    pub async fn get(&self, principal: &Principal, name: &str) -> Result<Arc<CodeSandbox>, Error> {
        self.find(principal, name).await
    }

    /// The place of a sandbox of the caller's among all that wait for such a GPU, if it does. Others' are counted and not named.
    pub fn queue(&self, sandbox: &CodeSandbox) -> Option<Queue> {
        let resource = queue::waits_for(sandbox)?;
        let all = self.sandboxes.list();
        Some(queue::place(sandbox, &resource, all.values().map(AsRef::as_ref)))
    }

    /// Deletes a sandbox and everything in it. One that is gone already is fine.
    pub async fn delete(&self, principal: &Principal, name: &str) -> Result<(), Error> {
        if let Some(sandbox) = self.found(principal, name).await? {
            self.sandboxes.delete(name, sandbox.uid()).await?;
            self.quota.free(name);
        }
        Ok(())
    }

    pub(crate) async fn find(
        &self,
        principal: &Principal,
        name: &str,
    ) -> Result<Arc<CodeSandbox>, Error> {
        let found = self.found(principal, name).await?;
        self.or_its_end(principal, name, found).await
    }

    /// One of the caller's sandboxes as the API server has it now.
    pub(crate) async fn look(
        &self,
        principal: &Principal,
        name: &str,
    ) -> Result<Arc<CodeSandbox>, Error> {
        let found = self.sandboxes.look(name).await?;
        let found = found.filter(|sandbox| self.visible(principal, sandbox));
        self.or_its_end(principal, name, found).await
    }

    /// What was found; or that there is no such sandbox, and how it ended if the caller may hear it.
    async fn or_its_end(
        &self,
        principal: &Principal,
        name: &str,
        found: Option<Arc<CodeSandbox>>,
    ) -> Result<Arc<CodeSandbox>, Error> {
        if let Some(found) = found {
            return Ok(found);
        }
        let may_hear = |end: &End| {
            end.class.as_ref() == Some(&self.config.class) && principal.is(end.owner.as_ref())
        };
        let end = if is_name(name) { self.sandboxes.end(name, may_hear).await } else { None };
        Err(not_found(name, end.as_ref()))
    }

    /// A sandbox, where there is one that the principal may see. Somebody else's and none at all are told apart to nobody.
    async fn found(
        &self,
        principal: &Principal,
        name: &str,
    ) -> Result<Option<Arc<CodeSandbox>>, Error> {
        // It becomes a part of a request's path, where `a/status` or `a?watch=1` would be another request.
        let found = if is_name(name) { self.sandboxes.get(name).await? } else { None };
        Ok(found.filter(|sandbox| self.visible(principal, sandbox)))
    }

    pub(crate) fn visible(&self, principal: &Principal, sandbox: &CodeSandbox) -> bool {
        sandbox.spec.class_name == self.config.class && principal.owns(sandbox)
    }
}

/// That there is no such sandbox, and how it ended where that is known.
pub(crate) fn not_found(name: &str, end: Option<&End>) -> Error {
    let what = match end {
        Some(End { at, how, .. }) => format!("sandbox {name} is gone since {at:.0}: {how}"),
        None => format!(
            "there is no sandbox {name}: it was deleted, its ttl has ended, or it never was"
        ),
    };
    Error::new(
        Code::SandboxNotFound,
        format!(
            "{what}. Call sandbox_create and try again with the new id; its files and variables have to be made anew."
        ),
    )
}

/// Whether an object could have this name.
fn is_name(name: &str) -> bool {
    let allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.');
    name.bytes().all(allowed) && name.bytes().any(|byte| byte != b'.') && name.len() <= 253
}

/// A name nobody has: 40 random bits, in letters a person can read out.
fn new_name() -> String {
    const LETTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
    let random: [u8; 8] = rand::random();
    let letters = random.map(|byte| char::from(LETTERS[usize::from(byte) % LETTERS.len()]));
    format!("sbx-{}", letters.iter().collect::<String>())
}

/// Whether the API server said that it did not do it.
fn was_refused(error: &client::Error) -> bool {
    let client::Error::Kube { source, .. } = error else { return false };
    matches!(&**source, kube::Error::Api(status) if status.code < 500)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_not_name_an_object_is_none() {
        for name in ["a", "sbx-a1", "a.b"] {
            assert!(is_name(name), "{name}");
        }
        for name in ["", ".", "..", "a/status", "a?watch=1", "../pods/a", "a%2fb", "A", "é", "a b"]
        {
            assert!(!is_name(name), "{name}");
        }
        assert!(!is_name(&"a".repeat(254)));
    }

    #[test]
    fn a_new_name_is_one_the_crd_takes() {
        let name = new_name();
        assert!(
            name.len() == 12 && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'),
            "{name}"
        );
    }
}

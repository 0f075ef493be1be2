//! One request to the API server: its deadline, its name in errors, its place in the metrics.

use std::{fmt, time::Duration};

use kube::{Api, Client, Resource, core::NamespaceResourceScope};
use prometheus_client::encoding::EncodeLabelValue;

use crate::metrics::Metrics;

/// How long a request may take. The client itself waits for ever.
pub(crate) const DEADLINE: Duration = Duration::from_secs(10);

/// What a request does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub(crate) enum Verb {
    Get,
    List,
    Create,
    Update,
    Apply,
    Patch,
    Delete,
}

/// What a request is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub(crate) enum Kind {
    CodeSandbox,
    CodeSandboxStatus,
    CodeSandboxTemplate,
    CodeSandboxTemplateStatus,
    CodeSandboxPool,
    CodeSandboxPoolStatus,
    Pod,
    PersistentVolumeClaim,
    NetworkPolicy,
    Event,
    Lease,
    Version,
}

/// Something did not work and is to be tried again later. Nothing else is an error here.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    // With its source, which is kube's and says its own: the JSON log prints errors without their sources.
    #[error("could not {call}: {source}")]
    Api { call: Call, source: Box<kube::Error> },

    #[error("could not {call}: no answer within {} s", after.as_secs())]
    Deadline { call: Call, after: Duration },

    #[error("did not {call}: it has changed meanwhile")]
    Conflict { call: Call },

    #[error("the network policies of namespace {namespace} are not known yet")]
    PoliciesUnknown { namespace: String },

    #[error("the pods of pools of namespace {namespace} are not known yet")]
    MembersUnknown { namespace: String },

    #[error("NetworkPolicy or Pod of {object} does not become what was applied")]
    Unsettled { object: String },
}

impl Error {
    /// The API server's own words, where it answered with an error.
    pub(crate) fn answer(&self) -> Option<&kube::core::Status> {
        match self {
            Self::Api { source, .. } => match source.as_ref() {
                kube::Error::Api(status) => Some(status),
                _ => None,
            },
            _ => None,
        }
    }

    /// Whether the API server answered with this code. kube's `is_not_found` and its like know but the reason (in 5.0
    /// they look up their own), which an answer that is no Status has not.
    pub(crate) fn has_code(&self, code: u16) -> bool {
        self.answer().is_some_and(|status| status.code == code)
    }
}

/// A request, as errors name it: `create Pod demo/box-1`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Call {
    pub(crate) verb: Verb,
    pub(crate) kind: Kind,
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = format!("{:?}", self.verb).to_lowercase();
        write!(f, "{verb} {:?} {}/{}", self.kind, self.namespace, self.name)
    }
}

/// Makes requests about the objects of one namespace.
#[derive(Clone)]
pub(crate) struct Caller {
    pub(crate) client: Client,
    pub(crate) namespace: String,
    pub(crate) metrics: Metrics,
}

impl Caller {
    /// The API of a kind in our namespace.
    pub(crate) fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Waits for a request, up to its deadline.
    pub(crate) async fn request<T>(
        &self,
        verb: Verb,
        kind: Kind,
        name: &str,
        request: impl Future<Output = kube::Result<T>>,
    ) -> Result<T, Error> {
        self.request_within(DEADLINE, verb, kind, name, request).await
    }

    /// Waits for a request, up to a deadline of its own.
    pub(crate) async fn request_within<T>(
        &self,
        after: Duration,
        verb: Verb,
        kind: Kind,
        name: &str,
        request: impl Future<Output = kube::Result<T>>,
    ) -> Result<T, Error> {
        self.metrics.request(verb, kind);
        let call = || Call { verb, kind, namespace: self.namespace.clone(), name: name.into() };
        match tokio::time::timeout(after, request).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(kube::Error::Api(status)))
                if status.code == 409 && !status.is_already_exists() =>
            {
                Err(Error::Conflict { call: call() })
            }
            Ok(Err(source)) => Err(Error::Api { call: call(), source: Box::new(source) }),
            Err(_) => Err(Error::Deadline { call: call(), after }),
        }
    }
}

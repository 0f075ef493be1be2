//! The environment of everything that runs in a sandbox.

use api::{Effective, names};
use k8s_openapi::api::core::v1::{
    EnvVar, EnvVarSource, ObjectFieldSelector, ResourceFieldSelector, SecretKeySelector,
};

use crate::config::Config;

/// How many threads programs make, where they would make one for each processor of the node: OpenMP, and with it
/// OpenBLAS, MKL, NumExpr and `nproc`; Go before 1.25; Python from 3.13 on. Others look at their cgroup themselves.
const THREADS: [&str; 3] = ["OMP_NUM_THREADS", "GOMAXPROCS", "PYTHON_CPU_COUNT"];

/// Ours first, then the user's, who may have HOME or LANG otherwise. Reserved names are left out, though the schema
/// refuses them: by the kubelet's variables, which a pod's own take the place of, the agent knows its canary.
pub(super) fn env(effective: &Effective, config: &Config) -> Vec<EnvVar> {
    let users = effective.env.iter().filter(|user| !is_reserved(&user.name));
    let users: Vec<_> = users.collect();
    let ours = ours(effective, config)
        .into_iter()
        .filter(|ours| users.iter().all(|user| user.name != ours.name));
    ours.chain(users.iter().copied().map(users_own)).collect()
}

fn is_reserved(name: &str) -> bool {
    names::RESERVED_ENV.iter().any(|prefix| name.starts_with(prefix))
}

fn ours(effective: &Effective, config: &Config) -> Vec<EnvVar> {
    let uid = from(
        names::POD_UID_ENV,
        EnvVarSource {
            field_ref: Some(ObjectFieldSelector {
                field_path: "metadata.uid".into(),
                ..ObjectFieldSelector::default()
            }),
            ..EnvVarSource::default()
        },
    );
    let fixed = [
        (names::WORKDIR_ENV, effective.working_dir.as_str()),
        ("HOME", names::HOME),
        ("TMPDIR", "/tmp"),
        ("LANG", "C.UTF-8"),
    ];
    let fixed = fixed.map(|(name, text)| value(name, text));
    let idle = effective
        .idle_timeout
        .as_ref()
        .map(|timeout| value(names::IDLE_TIMEOUT_ENV, &timeout.as_std().as_millis().to_string()));
    let canary = config.require_network_isolation.then(|| {
        let named = config.network_canary.map(|canary| canary.to_string());
        value(names::CANARY_ENV, named.as_deref().unwrap_or(names::API_SERVER_CANARY))
    });
    let resolver = super::refuses_names(effective)
        .then(|| value(names::RESOLVER_PORT_ENV, &super::RESOLVER_PORT.to_string()));
    [uid]
        .into_iter()
        .chain(fixed)
        .chain(canary)
        .chain(resolver)
        .chain(idle)
        .chain(THREADS.map(processors))
        .collect()
}

/// The sandbox's processors, rounded up, as the kubelet knows them: the cgroup is not to be seen under every runtime.
fn processors(name: &str) -> EnvVar {
    let limit = ResourceFieldSelector {
        container_name: Some(names::CONTAINER.into()),
        resource: "limits.cpu".into(),
        ..ResourceFieldSelector::default()
    };
    from(name, EnvVarSource { resource_field_ref: Some(limit), ..EnvVarSource::default() })
}

fn from(name: &str, source: EnvVarSource) -> EnvVar {
    EnvVar { name: name.into(), value_from: Some(source), ..EnvVar::default() }
}

fn users_own(variable: &api::EnvVar) -> EnvVar {
    let Some(source) = &variable.value_from else {
        return value(&variable.name, variable.value.as_deref().unwrap_or_default());
    };
    let key = SecretKeySelector {
        name: source.secret_key_ref.name.clone(),
        key: source.secret_key_ref.key.clone(),
        ..SecretKeySelector::default()
    };
    of_secret(&variable.name, key)
}

/// The value that a Secret has.
pub(super) fn of_secret(name: &str, key: SecretKeySelector) -> EnvVar {
    from(name, EnvVarSource { secret_key_ref: Some(key), ..EnvVarSource::default() })
}

/// A value taken as it is: the kubelet expands `$(NAME)` and turns `$$` into `$`, so every `$` is doubled.
pub(super) fn value(name: &str, text: &str) -> EnvVar {
    EnvVar { name: name.into(), value: Some(text.replace('$', "$$")), ..EnvVar::default() }
}

//! The environment of everything that runs in a sandbox.

use api::{CodeSandbox, names};
use k8s_openapi::api::core::v1::{EnvVar, EnvVarSource, ObjectFieldSelector, SecretKeySelector};

/// Ours first, then the user's, who may have HOME or LANG otherwise. Names that begin with `CODESANDBOX_` cannot be
/// among the user's: the schema refuses them.
pub(super) fn env(sandbox: &CodeSandbox) -> Vec<EnvVar> {
    let users = sandbox.spec.env.as_deref().unwrap_or_default();
    let ours =
        ours(sandbox).into_iter().filter(|ours| users.iter().all(|user| user.name != ours.name));
    ours.chain(users.iter().map(users_own)).collect()
}

fn ours(sandbox: &CodeSandbox) -> Vec<EnvVar> {
    let uid = EnvVar {
        name: names::POD_UID_ENV.into(),
        value_from: Some(EnvVarSource {
            field_ref: Some(ObjectFieldSelector {
                field_path: "metadata.uid".into(),
                ..ObjectFieldSelector::default()
            }),
            ..EnvVarSource::default()
        }),
        ..EnvVar::default()
    };
    let fixed = [
        (names::WORKDIR_ENV, sandbox.spec.working_dir.as_str()),
        ("HOME", names::HOME),
        ("TMPDIR", "/tmp"),
        ("LANG", "C.UTF-8"),
    ];
    [uid].into_iter().chain(fixed.map(|(name, text)| value(name, text))).collect()
}

fn users_own(variable: &api::EnvVar) -> EnvVar {
    let Some(source) = &variable.value_from else {
        return value(&variable.name, variable.value.as_deref().unwrap_or_default());
    };
    EnvVar {
        name: variable.name.clone(),
        value_from: Some(EnvVarSource {
            secret_key_ref: Some(SecretKeySelector {
                name: source.secret_key_ref.name.clone(),
                key: source.secret_key_ref.key.clone(),
                ..SecretKeySelector::default()
            }),
            ..EnvVarSource::default()
        }),
        ..EnvVar::default()
    }
}

/// A value taken as it is: the kubelet expands `$(NAME)` and turns `$$` into `$`, so every `$` is doubled.
fn value(name: &str, text: &str) -> EnvVar {
    EnvVar { name: name.into(), value: Some(text.replace('$', "$$")), ..EnvVar::default() }
}

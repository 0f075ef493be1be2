//! How far a sandbox may differ from its template.

use api::{CodeSandboxTemplateSpec, Settings, names, quantity};
use globset::Glob;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

mod network;

/// What a sandbox asks for and its template does not allow, each with the bound.
pub(crate) fn forbidden(asked: &Settings, template: &CodeSandboxTemplateSpec) -> Vec<String> {
    let (defaults, allow) = (&template.defaults, &template.allow);
    let mut found = Vec::new();
    if let Some(image) =
        asked.image.as_deref().filter(|image| defaults.image.as_deref() != Some(image))
        && !allow.images.iter().any(|pattern| matches(pattern, image))
    {
        found.push(format!("spec.image {image} (allowed: {})", listed(&allow.images)));
    }
    if let Some(class) = &asked.runtime_class_name
        && defaults.runtime_class_name.as_ref() != Some(class)
        && !allow.runtime_class_names.contains(class)
    {
        let allowed = listed(&allow.runtime_class_names);
        found.push(format!("spec.runtimeClassName {class} (allowed: {allowed})"));
    }
    let class = |settings: &Settings| settings.workspace.as_ref()?.storage_class_name.clone();
    if let Some(asked) = class(asked).filter(|asked| class(defaults).as_ref() != Some(asked))
        && !allow.storage_class_names.contains(&asked)
    {
        let allowed = listed(&allow.storage_class_names);
        found.push(format!("spec.workspace.storageClassName {asked} (allowed: {allowed})"));
    }
    found.extend(network::internet(asked, template));
    found.extend(network::places(asked, template));
    let variables = asked.env.iter().flatten().filter_map(|one| one.value_from.as_ref());
    let variables = variables.map(|source| ("env of", &source.secret_key_ref.name));
    let git = asked.setup.iter().filter_map(|setup| setup.git.as_ref()?.secret_ref.as_ref());
    let git = git.filter(|_| asked.setup != defaults.setup);
    for (what, name) in variables.chain(git.map(|secret| ("setup.git with", &secret.name))) {
        if !name.starts_with(names::SECRET_PREFIX) && !allow.secrets.contains(name) {
            let prefix = names::SECRET_PREFIX;
            found.push(format!("spec.{what} Secret {name} (allowed: {prefix}*)"));
        }
    }
    found.extend(shared(asked, template));
    found.extend(too_much(asked, template));
    found
}

/// The GPU of a sandbox of several tenants' template, whoever names it, where other pods have it, too.
fn shared(asked: &Settings, template: &CodeSandboxTemplateSpec) -> Option<String> {
    let gpu =
        asked.clone().over(template.defaults.clone()).gpu.filter(|_| template.multi_tenant)?;
    let is_shared = gpu.resource.ends_with(names::SHARED_GPU);
    is_shared.then(|| {
        format!(
            "spec.gpu.resource {} (it is shared, and the template is multiTenant)",
            gpu.resource
        )
    })
}

/// The amounts that are too large.
fn too_much(asked: &Settings, template: &CodeSandboxTemplateSpec) -> Vec<String> {
    let Some(max) = &template.allow.max else { return Vec::new() };
    // The defaults, too: what is not said is asked for all the same.
    let effective = asked.clone().over(template.defaults.clone()).complete();
    let disk = effective.workspace.as_ref().map(|workspace| &workspace.size);
    let amounts = [
        ("resources.cpu", Some(&effective.cpu), &max.cpu),
        ("resources.memory", Some(&effective.memory), &max.memory),
        ("resources.ephemeralStorage", Some(&effective.ephemeral_storage), &max.ephemeral_storage),
        ("workspace.size", disk, &max.workspace),
    ];
    let over = amounts.into_iter().filter_map(|(name, asked, max)| {
        let asked = asked?;
        let max = max.as_ref().filter(|max| exceeds(asked, max))?;
        Some(format!("spec.{name} {} (at most {})", asked.0, max.0))
    });
    let gpus = effective.gpu.map_or(0, |gpu| gpu.count);
    let gpu = max.gpus.filter(|most| gpus > *most);
    let gpu = gpu.map(|most| format!("spec.gpu.count {gpus} (at most {most})"));
    over.chain(gpu).collect()
}

/// Whether an amount is larger than another. One that cannot be read, which the schema refuses, is.
fn exceeds(amount: &Quantity, max: &Quantity) -> bool {
    match (quantity::of(amount), quantity::of(max)) {
        (Some(amount), Some(max)) => amount > max,
        _ => true,
    }
}

/// Whether an image is one that a pattern stands for. A pattern that is none allows nothing.
fn matches(pattern: &str, image: &str) -> bool {
    Glob::new(pattern).is_ok_and(|glob| glob.compile_matcher().is_match(image))
}

fn listed(allowed: &[String]) -> String {
    if allowed.is_empty() { "the template's own".into() } else { allowed.join(", ") }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    pub(super) fn check(asked: Value, template: Value) -> Vec<String> {
        let asked = serde_json::from_value(asked).unwrap();
        forbidden(&asked, &serde_json::from_value(template).unwrap())
    }

    #[test]
    fn nothing_asked_for_is_always_allowed() {
        assert!(check(json!({}), json!({})).is_empty());
        let own = json!({"image": "a:1", "runtimeClassName": "gvisor", "network": {"egress": "Internet"}});
        assert!(check(own.clone(), json!({"defaults": own})).is_empty());
    }

    #[test]
    fn an_image_is_the_templates_or_one_that_it_allows() {
        let asked = json!({"image": "reg.example/team/a:1"});
        for (allowed, fits) in [
            (json!(["*"]), true),
            (json!(["reg.example/team/*"]), true),
            (json!(["reg.example/*", "x"]), true),
            (json!(["reg.example/team"]), false),
            (json!(["*/b:*"]), false),
            (json!(["[", "{"]), false),
            (json!([]), false),
        ] {
            let found = check(asked.clone(), json!({"allow": {"images": allowed}}));
            assert_eq!(found.is_empty(), fits, "{allowed}: {found:?}");
        }
        let found = check(asked, json!({"allow": {"images": ["a", "b"]}}));
        assert_eq!(found, ["spec.image reg.example/team/a:1 (allowed: a, b)"]);
    }

    #[test]
    fn a_runtime_class_or_a_wider_network_is_to_be_allowed() {
        let asked = json!({"runtimeClassName": "runc", "network": {"egress": "Internet"}});
        let found = check(asked.clone(), json!({"defaults": {"runtimeClassName": "gvisor"}}));
        assert_eq!(
            found,
            [
                "spec.runtimeClassName runc (allowed: the template's own)",
                "spec.network.egress Internet"
            ]
        );
        let allow = json!({"runtimeClassNames": ["runc"], "egress": "Internet"});
        assert!(check(asked, json!({"allow": allow})).is_empty());
        let setup = json!({"setup": {"commands": ["true"], "egress": "Internet"}});
        assert_eq!(check(setup.clone(), json!({})), ["spec.setup.egress Internet"]);
        assert!(check(setup.clone(), json!({"allow": {"egress": "Internet"}})).is_empty());
        assert!(check(setup.clone(), json!({"defaults": setup})).is_empty());
        let others = json!({"defaults": {"setup": {"commands": ["false"], "egress": "Internet"}}});
        assert_eq!(check(setup.clone(), others), ["spec.setup.egress Internet"]);
        // Less than the template's own is nobody's harm.
        let deny = json!({"network": {"egress": "Deny"}});
        assert!(check(deny, json!({"defaults": {"network": {"egress": "Internet"}}})).is_empty());
    }

    #[test]
    fn a_storage_class_is_the_templates_or_one_that_it_allows() {
        let asked = json!({"workspace": {"size": "1Gi", "storageClassName": "fast"}});
        assert_eq!(
            check(asked.clone(), json!({"allow": {"storageClassNames": ["slow"]}})),
            ["spec.workspace.storageClassName fast (allowed: slow)"]
        );
        assert!(check(asked.clone(), json!({"defaults": asked})).is_empty());
        assert!(check(asked, json!({"allow": {"storageClassNames": ["fast"]}})).is_empty());
        let silent = json!({"workspace": {"size": "1Gi"}});
        assert!(check(silent, json!({"allow": {"storageClassNames": []}})).is_empty());
    }

    #[test]
    fn a_secret_is_the_sandboxes_or_one_that_is_allowed() {
        let of = |name: &str| json!({"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": name, "key": "k"}}}]});
        assert!(check(of("sandbox-a"), json!({})).is_empty());
        assert_eq!(check(of("db"), json!({})), ["spec.env of Secret db (allowed: sandbox-*)"]);
        assert!(check(of("db"), json!({"allow": {"secrets": ["db"]}})).is_empty());
        let git = |name: &str| json!({"setup": {"git": {"url": "https://example.com/a", "secretRef": {"name": name}}}});
        assert!(check(git("sandbox-a"), json!({})).is_empty());
        assert_eq!(
            check(git("db"), json!({})),
            ["spec.setup.git with Secret db (allowed: sandbox-*)"]
        );
        assert!(check(git("db"), json!({"allow": {"secrets": ["db"]}})).is_empty());
        assert!(
            check(git("db"), json!({"defaults": git("db")})).is_empty(),
            "it is the template's"
        );
    }

    #[test]
    fn amounts_are_bounded_whoever_names_them() {
        let max = json!({"cpu": "2", "memory": "4Gi", "ephemeralStorage": "4G", "workspace": "10Gi", "gpus": 1});
        let template = json!({"allow": {"max": max}});
        assert!(
            check(json!({"resources": {"cpu": "2000m", "memory": "4096Mi"}}), template.clone())
                .is_empty()
        );
        let max = json!({"allow": {"max": {"cpu": "2.01"}}});
        assert!(check(json!({"resources": {"cpu": "2010m"}}), max).is_empty());
        let asked = json!({"resources": {"cpu": "2.1", "memory": "5G", "ephemeralStorage": "4Gi"},
            "workspace": {"size": "11Gi"}, "gpu": {"count": 2}});
        assert_eq!(
            check(asked, template),
            [
                "spec.resources.cpu 2.1 (at most 2)",
                "spec.resources.memory 5G (at most 4Gi)",
                "spec.resources.ephemeralStorage 4Gi (at most 4G)",
                "spec.workspace.size 11Gi (at most 10Gi)",
                "spec.gpu.count 2 (at most 1)",
            ]
        );
        let none = json!({"defaults": {"gpu": {"count": 1}}, "allow": {"max": {"gpus": 0}}});
        assert_eq!(check(json!({}), none), ["spec.gpu.count 1 (at most 0)"]);
    }

    #[test]
    fn no_tenant_of_several_has_a_gpu_that_others_have_too() {
        let of = |resource: &str| json!({"gpu": {"count": 1, "resource": resource}});
        let several = json!({"multiTenant": true});
        for (resource, shared) in [
            ("nvidia.com/gpu.shared", true),
            ("nvidia.com/mig-1g.10gb.shared", true),
            ("nvidia.com/gpu", false),
            ("nvidia.com/mig-1g.10gb", false),
            ("example.com/shared", false),
        ] {
            let said = format!(
                "spec.gpu.resource {resource} (it is shared, and the template is multiTenant)"
            );
            let expected: Vec<_> = shared.then_some(said).into_iter().collect();
            assert_eq!(check(of(resource), several.clone()), expected);
            let own = json!({"multiTenant": true, "defaults": of(resource)});
            assert_eq!(check(json!({}), own), expected, "the template's own no less");
            assert!(check(of(resource), json!({})).is_empty(), "one tenant may share with itself");
        }
    }
}

use api::{CodeSandboxStatus, EnvSource, EnvVar, Gpu, ImagePullPolicy, Network, SecretKeyRef};

use super::*;
use crate::testing::{asking, bound, config, sandbox};

#[test]
fn an_empty_spec_makes_a_hardened_pod() {
    insta::assert_yaml_snapshot!(pod(&sandbox(), &config(), Way::ImageVolume, 1));
}

#[test]
fn everything_asked_for_is_in_the_pod() {
    let mut sandbox = sandbox();
    sandbox.spec.settings.image = Some("ghcr.io/acme/cuda:12".into());
    sandbox.spec.settings.image_pull_policy = Some(ImagePullPolicy::Always);
    sandbox.spec.settings.image_pull_secrets =
        Some(vec![api::LocalObjectReference { name: "pull".into() }]);
    sandbox.spec.settings.env = Some(vec![
        EnvVar { name: "PRICE".into(), value: Some("$(HOME) costs 5$".into()), value_from: None },
        EnvVar { name: "LANG".into(), value: Some("de_DE.UTF-8".into()), value_from: None },
        EnvVar { name: "OMP_NUM_THREADS".into(), value: Some("7".into()), value_from: None },
        // Were it taken, the user would name the canary.
        EnvVar {
            name: "KUBERNETES_SERVICE_HOST".into(),
            value: Some("::1".into()),
            value_from: None,
        },
        EnvVar {
            name: "TOKEN".into(),
            value: None,
            value_from: Some(EnvSource {
                secret_key_ref: SecretKeyRef { name: "sandbox-demo".into(), key: "token".into() },
            }),
        },
    ]);
    sandbox.spec.settings.working_dir = Some("/workspace/src".into());
    sandbox.spec.settings.gpu = Some(Gpu {
        product: Some("NVIDIA-H100-80GB-HBM3".into()),
        memory: Some(Quantity("40Gi".into())),
        ..Gpu::new(2, names::DEFAULT_GPU)
    });
    sandbox.spec.settings.network =
        Some(Network { egress: Some(Egress::Internet), ..Network::default() });
    sandbox.spec.settings.runtime_class_name = Some("gvisor".into());
    sandbox.spec.settings.idle_timeout = Some("90s".into());
    insta::assert_yaml_snapshot!(pod(&sandbox, &config(), Way::ImageVolume, 3));
}

#[test]
fn nothing_of_a_pod_speaks_of_a_gpu_that_its_sandbox_does_without() {
    let (mut without, mut forgone) = (sandbox(), sandbox());
    let gpu = Gpu { product: Some("H100".into()), ..Gpu::new(1, names::DEFAULT_GPU) };
    forgone.spec.settings.gpu = Some(gpu);
    let pod = |sandbox: &CodeSandbox| pod(sandbox, &config(), Way::ImageVolume, 2);
    assert_ne!(pod(&forgone), pod(&without));
    let status = CodeSandboxStatus { without_gpu: true, ..CodeSandboxStatus::default() };
    (without.status, forgone.status) = (Some(status.clone()), Some(status));
    assert_eq!(pod(&forgone), pod(&without));
}

#[test]
fn an_init_container_installs_the_agent_where_an_image_volume_does_not_do() {
    let mut sandbox = sandbox();
    // One that has its processors to itself, and leaves them to the sandbox.
    sandbox.spec.settings.gpu = Some(Gpu::new(1, names::DEFAULT_GPU));
    insta::assert_yaml_snapshot!(pod(&sandbox, &config(), Way::InitContainer, 1));
}

/// tests.md E7: a pod ends by itself even where nobody is left to end it.
#[test]
fn a_pod_lives_as_long_as_operator_and_template_let_it() {
    let deadline = |template: &str| {
        let mut sandbox = sandbox();
        let max = serde_json::json!({"allow": {"max": {"lifetime": template}}});
        sandbox.status = Some(bound(&max));
        let pod = pod(&sandbox, &config(), Way::ImageVolume, 1);
        pod.spec.unwrap().active_deadline_seconds
    };
    assert_eq!(deadline("2h"), Some(7200));
    assert_eq!(deadline("48h"), Some(24 * 3600), "the operator's own bound holds too");
}

#[test]
fn a_sandbox_tells_those_in_it_what_they_may_reach() {
    let network = serde_json::json!({"egress": "Deny", "allow": [{"cidr": "10.1.2.0/24", "ports": [{"port": 80}]}],
        "ports": [{"port": 53, "protocol": "UDP", "from": [{"podSelector": {"matchLabels": {"app": "web"}}}]}]});
    let pod = pod(&asking(&network), &config(), Way::ImageVolume, 1);
    let machine = &pod.metadata.annotations.unwrap()[names::MACHINE];
    let machine: serde_json::Value = serde_json::from_str(machine).unwrap();
    assert_eq!(machine["network"], network);
}

/// The port on which a sandbox's agent is told to refuse names.
fn refusing(spec: &PodSpec) -> Option<&str> {
    let mut env = spec.containers[0].env.iter().flatten();
    env.find(|one| one.name == names::RESOLVER_PORT_ENV)?.value.as_deref()
}

#[test]
fn under_deny_the_agent_refuses_names_whatever_is_allowed() {
    let allow = serde_json::json!({"allow": [{"cidr": "10.96.0.0/16", "ports": [{"port": 443}]}, {"cidr": "10.1.0.0/16"}]});
    for network in [serde_json::json!({}), allow] {
        let spec = pod(&asking(&network), &config(), Way::ImageVolume, 1).spec.unwrap();
        assert_eq!(refusing(&spec), Some("53"), "{network}");
        assert_eq!((spec.dns_policy.as_deref(), spec.dns_config), (Some("None"), Some(no_dns())));
    }
}

#[test]
fn the_agent_takes_its_resolvers_port_from_nobody() {
    let open = |port, protocol| serde_json::json!({"ports": [{"port": port, "protocol": protocol, "from": [{"cidr": "10.0.0.0/8"}]}]});
    let allow = |ports| serde_json::json!({"allow": [{"cidr": "10.96.0.10/32", "ports": [ports]}]});
    for (network, refuses) in [
        (serde_json::json!({"egress": "Internet"}), false),
        (open(53, "UDP"), false),
        (open(53, "TCP"), true),
        (open(5353, "UDP"), true),
        (allow(serde_json::json!({"port": 53, "protocol": "UDP"})), false),
        (allow(serde_json::json!({"port": 50, "endPort": 53, "protocol": "UDP"})), false),
        (allow(serde_json::json!({"port": 53})), true),
        (allow(serde_json::json!({"port": 54, "protocol": "UDP"})), true),
    ] {
        let spec = pod(&asking(&network), &config(), Way::ImageVolume, 1).spec.unwrap();
        assert_eq!(refusing(&spec), refuses.then_some("53"), "{network}");
    }
}

#[test]
fn the_resolvers_are_the_administrators_or_the_nodes() {
    let mut config = config();
    assert_eq!(dns(Egress::Internet, &config).0, "None");
    config.dns_servers.clear();
    assert_eq!(dns(Egress::Internet, &config), ("Default", None));
}

#[test]
fn an_object_is_ours_by_its_controllers_uid_alone() {
    let sandbox = sandbox();
    let mut metadata = pod(&sandbox, &config(), Way::ImageVolume, 1).metadata;
    assert!(is_owned(&metadata, &sandbox));

    let mut namesake = sandbox.clone();
    namesake.metadata.uid = Some("another".into());
    assert!(!is_owned(&metadata, &namesake));

    metadata.owner_references.as_mut().unwrap()[0].controller = None;
    assert!(!is_owned(&metadata, &sandbox));
}

#[test]
fn a_part_of_the_cpu_is_reserved_and_never_none_of_it() {
    for (cpu, percent, expected) in [
        ("1", 10, Some("100m")),
        ("1.5", 10, Some("150m")),
        ("250m", 10, Some("25m")),
        ("1m", 10, Some("1m")),
        ("2", 100, Some("2000m")),
        ("much", 10, None),
    ] {
        let part = part_of_cpu(&Quantity(cpu.into()), percent);
        assert_eq!(part, expected.map(|part| Quantity(part.into())), "{cpu} {percent}");
    }
}

#[test]
fn what_is_on_a_disk_is_the_workspace_and_the_home() {
    let mut sandbox = sandbox();
    let size = k8s_openapi::apimachinery::pkg::api::resource::Quantity("10Gi".into());
    let workspace = api::Workspace { size, storage_class_name: None, retain: None };
    sandbox.spec.settings.workspace = Some(workspace);
    let pod = pod(&sandbox, &config(), Way::ImageVolume, 2);
    let spec = pod.spec.unwrap();
    let volumes = spec.volumes.unwrap();
    let disk = volumes.iter().find(|one| one.persistent_volume_claim.is_some()).unwrap();
    assert_eq!(disk.persistent_volume_claim.as_ref().unwrap().claim_name, "box-workspace");
    let mounts = spec.containers[0].volume_mounts.as_ref().unwrap();
    let on_disk = mounts.iter().filter(|one| one.name == disk.name);
    let on_disk: Vec<_> =
        on_disk.map(|one| (one.mount_path.as_str(), one.sub_path.as_deref())).collect();
    assert_eq!(on_disk, [("/workspace", Some("workspace")), ("/home/sandbox", Some("home"))]);
    for mount in mounts {
        assert!(volumes.iter().any(|one| one.name == mount.name), "{}", mount.name);
    }
    let machine = &pod.metadata.annotations.unwrap()[names::MACHINE];
    let machine: serde_json::Value = serde_json::from_str(machine).unwrap();
    assert_eq!(machine["persistent"], serde_json::json!(["/workspace", "/home/sandbox"]));
}

#[test]
fn a_setup_has_all_that_the_sandbox_has_but_gpus_and_resolvers_of_its_own() {
    let mut sandbox = sandbox();
    sandbox.spec.settings.gpu = Some(Gpu::new(1, names::DEFAULT_GPU));
    sandbox.spec.settings.setup = Some(api::Setup {
        commands: vec!["echo $HOME $(id -u) > 'a b'".into()],
        auto: Some(true),
        egress: Some(Egress::Internet),
        timeout: Some("90s".into()),
        ..api::Setup::default()
    });
    let pod = pod(&sandbox, &config(), Way::InitContainer, 1);
    let spec = pod.spec.unwrap();
    let [installer, setup] = &spec.init_containers.unwrap()[..] else { panic!("two come first") };
    assert_eq!((installer.name.as_str(), setup.name.as_str()), ("install-agent", "setup"));
    insta::assert_yaml_snapshot!(setup);
    // The pod's resolvers are the setup's; the sandbox has none.
    assert_eq!(spec.dns_config.unwrap().nameservers.unwrap().len(), 2);
    let of = |mounts: &Option<Vec<k8s_openapi::api::core::v1::VolumeMount>>| {
        mounts.iter().flatten().any(|one| one.mount_path == "/etc/resolv.conf")
    };
    assert!(of(&spec.containers[0].volume_mounts) && !of(&setup.volume_mounts));
    let annotations = pod.metadata.annotations.unwrap();
    assert_eq!(annotations[names::RESOLV_CONF], "nameserver 127.0.0.1\n");
}

/// Of all of it the sandbox that follows has nothing but what it left.
#[test]
fn a_setup_alone_has_its_files_and_who_clones() {
    let setup = |setup: serde_json::Value| {
        let mut sandbox = sandbox();
        sandbox.spec.settings.setup = serde_json::from_value(setup).unwrap();
        let spec = pod(&sandbox, &config(), Way::ImageVolume, 1).spec.unwrap();
        let [container] = &spec.containers[..] else { panic!("it has one") };
        let variables = container.env.iter().flatten().map(|one| one.name.as_str());
        assert!(variables.clone().all(|name| !name.contains("SETUP") && !name.contains("GIT")));
        let mounts = container.volume_mounts.iter().flatten().map(|one| one.name.as_str());
        assert!(mounts.clone().all(|name| name != "setup-files"));
        let setup = spec.init_containers.unwrap().remove(0);
        let env = setup.env.unwrap().into_iter().filter(|one| {
            one.name.starts_with("CODESANDBOX_SETUP") || one.name.starts_with("CODESANDBOX_GIT")
        });
        let volume = spec.volumes.unwrap().into_iter().find(|one| one.name == "setup-files");
        let mount = setup.volume_mounts.unwrap().into_iter().find(|one| one.name == "setup-files");
        (env.collect::<Vec<_>>(), volume, mount)
    };
    let all = setup(serde_json::json!({
        "git": {"url": "https://example.com/a.git", "revision": "v1", "secretRef": {"name": "sandbox-git"}},
        "files": [
            {"path": "a", "content": "$HOME\n"},
            {"path": "/home/sandbox/b", "configMapKeyRef": {"name": "settings", "key": "b.json"}},
            {"path": "c", "configMapKeyRef": {"name": "others", "key": "c"}},
        ],
    }));
    insta::assert_yaml_snapshot!(all);
    let (env, volume, mount) = setup(serde_json::json!({"files": [{"path": "a", "content": ""}]}));
    assert_eq!(
        env.iter().map(|one| one.name.as_str()).collect::<Vec<_>>(),
        ["CODESANDBOX_SETUP", "CODESANDBOX_SETUP_FILE_0"]
    );
    assert_eq!((volume, mount), (None, None));
}

/// For the sandbox that follows it to know what is to be out of reach by then.
#[test]
fn a_setup_is_told_what_its_sandbox_keeps_of_the_network_where_it_has_more_itself() {
    let kept = |network: serde_json::Value, egress: &str| {
        let mut sandbox = asking(&network);
        sandbox.spec.settings.setup =
            serde_json::from_value(serde_json::json!({"commands": ["true"], "egress": egress}))
                .unwrap();
        let spec = pod(&sandbox, &config(), Way::ImageVolume, 1).spec.unwrap();
        let env = spec.init_containers.unwrap().remove(0).env.unwrap();
        let kept = env.into_iter().find(|one| one.name == names::SETUP_KEPT_ENV)?.value.unwrap();
        let kept: serde_json::Value = serde_json::from_str(&kept).unwrap();
        kept.as_array().cloned()
    };
    let range =
        serde_json::json!({"cidr": "198.51.100.0/24", "ports": [{"port": 80, "endPort": 90}]});
    let allow = serde_json::json!({"allow": [range]});
    let told = kept(allow.clone(), "Internet").unwrap();
    assert!(told.contains(&range) && told.contains(&serde_json::json!({"cidr": "10.0.0.0/8"})));
    assert_eq!(kept(allow, "Deny"), None);
    assert_eq!(kept(serde_json::json!({"egress": "Deny"}), "Internet"), None);
}

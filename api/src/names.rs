//! The names that shape objects, settled for good: labels, annotations, managers, paths.
//!
//! This is the only file that spells them.

/// The label that says who manages an object.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// The value of [`MANAGED_BY`] on everything we make.
pub const MANAGER: &str = "codesandbox";
/// The label that says which installation an object belongs to: the Helm release's name.
pub const INSTANCE: &str = "app.kubernetes.io/instance";
/// The label that holds a sandbox's name on its pod. On a pod of a pool it is empty until a sandbox claims it: the deny policy
/// selects whatever has the label.
pub const SANDBOX: &str = "codesandbox.dev/sandbox";
/// The label that holds a sandbox's UID on its pod and selects it in its own policy.
pub const SANDBOX_UID: &str = "codesandbox.dev/sandbox-uid";
/// The label that holds a pool's name on its pods, also once they are a sandbox's.
pub const POOL: &str = "codesandbox.dev/pool";
/// The label on a pool's pod that stands for all that is in it. A sandbox claims one that is what its own would be.
pub const POD_HASH: &str = "codesandbox.dev/pod-hash";
/// The annotation on a CodeSandbox that holds the principal who made it.
pub const OWNER: &str = "codesandbox.dev/owner";
/// The annotation on the last event about a CodeSandbox that holds its class; the owner is beside it.
pub const CLASS: &str = "codesandbox.dev/class";
/// The annotation on a CodeSandbox that wakes it when it is paused: by any value that it had not when it was paused.
pub const WAKE: &str = "codesandbox.dev/wake";

/// The operator's field manager.
pub const OPERATOR: &str = "codesandbox-operator";
/// The front end's field manager.
pub const FRONTEND: &str = "codesandbox-frontend";
/// The kubectl plugin's field manager.
pub const PLUGIN: &str = "kubectl-sandbox";

/// The `className` of a CodeSandbox that names none.
pub const DEFAULT_CLASS: &str = "codesandbox";
/// The GPU resource of a CodeSandbox that names none.
pub const DEFAULT_GPU: &str = "nvidia.com/gpu";
/// What ends the name of a resource whose devices several pods have at once, where the device plugin renames such.
pub const SHARED_GPU: &str = ".shared";
/// The container in which user code runs.
pub const CONTAINER: &str = "sandbox";
/// The directory user code starts in; the only one that is meant to hold its files.
pub const WORKSPACE: &str = "/workspace";
/// Where the agent's volume is mounted, read-only.
pub const AGENT_DIR: &str = "/.codesandbox/bin";
/// The agent in a sandbox. The admission policy for `pods/exec` spells it too.
pub const AGENT: &str = "/.codesandbox/bin/agent";
/// The init container that installs the agent where nodes cannot execute it from an image volume.
pub const INSTALL_CONTAINER: &str = "install-agent";
/// The init container that does what a sandbox is to be set up with.
pub const SETUP_CONTAINER: &str = "setup";
/// The variable that tells it what, as JSON.
pub const SETUP_ENV: &str = "CODESANDBOX_SETUP";
/// The variable that tells it what the sandbox may reach as well as it, as JSON. No part of what is to be done, which is not
/// done again where only this is another.
pub const SETUP_KEPT_ENV: &str = "CODESANDBOX_SETUP_KEPT";
/// The annotation on a sandbox's pod that holds the resolvers of its container, where those of its setup are others.
pub const RESOLV_CONF: &str = "codesandbox.dev/resolv-conf";
/// Where the agent keeps the logs of runs.
pub const RUNS_DIR: &str = "/.codesandbox/runs";
/// The home directory of user code.
pub const HOME: &str = "/home/sandbox";
/// What begins the names of environment variables that are ours, or Kubernetes' own.
pub const RESERVED_ENV: [&str; 2] = ["CODESANDBOX_", "KUBERNETES_"];
/// The variable that tells the agent its pod's UID, which it proves to clients with.
pub const POD_UID_ENV: &str = "CODESANDBOX_POD_UID";
/// The variable that tells the agent in which directory commands start.
pub const WORKDIR_ENV: &str = "CODESANDBOX_WORKDIR";
/// The variable that tells the agent how long nobody may use the sandbox, in milliseconds.
pub const IDLE_TIMEOUT_ENV: &str = "CODESANDBOX_IDLE_TIMEOUT_MS";
/// The variable that tells the agent that this time begins with the first call, whatever its value: its pod waits in a pool.
pub const AWAITS_CALL_ENV: &str = "CODESANDBOX_AWAITS_CALL";
/// The variable that tells the agent by which address it sees that the network is closed: [`API_SERVER_CANARY`], or address and port.
pub const CANARY_ENV: &str = "CODESANDBOX_CANARY";
/// The value of [`CANARY_ENV`] that stands for the API server's Service.
pub const API_SERVER_CANARY: &str = "kubernetes";
/// The variable that tells the agent on which port of 127.0.0.1 it refuses names: its sandbox has no other resolver.
pub const RESOLVER_PORT_ENV: &str = "CODESANDBOX_RESOLVER_PORT";
/// The variables that tell the agent what to write into each file of the setup: with the file's number behind it.
pub const SETUP_FILE_ENV: &str = "CODESANDBOX_SETUP_FILE_";
/// The directory that has, by their numbers, the files of the setup that come from ConfigMaps.
pub const SETUP_FILES_DIR: &str = "/.codesandbox/files";
/// The variables that tell git, and nobody else, who is cloning: by the keys of a Secret of type kubernetes.io/basic-auth.
pub const GIT_ENV: [(&str, &str); 2] =
    [("username", "CODESANDBOX_GIT_USERNAME"), ("password", "CODESANDBOX_GIT_PASSWORD")];
/// The annotation on a sandbox's pod that describes the machine, as JSON.
pub const MACHINE: &str = "codesandbox.dev/machine";
/// The annotation on the pod of a sandbox that names a pool and has none of its pods: why.
pub const START: &str = "codesandbox.dev/start";
/// The file in a sandbox that holds it.
pub const MACHINE_FILE: &str = "/etc/codesandbox.json";
/// What begins the name of every Secret a CodeSandbox may read from.
pub const SECRET_PREFIX: &str = "sandbox-";
/// The one policy of a namespace that denies all traffic of every sandbox pod.
pub const DENY_POLICY: &str = "codesandbox-deny";
/// The longest name of a CodeSandbox, in bytes: with `-` and an attempt it has to fit into a label value (63).
pub const MAX_NAME: usize = 50;

/// The name of a sandbox's pod for an attempt: a function of both, so that a pod which
/// is terminating or lost never blocks its successor.
pub fn pod(sandbox: &str, attempt: u32) -> String {
    format!("{sandbox}-{attempt}")
}

/// The name of the pod that finds out for a sandbox how the agent gets into its own. No attempt's pod is called so.
pub fn probe(sandbox: &str) -> String {
    format!("{sandbox}-probe")
}

/// The name of a pool's pod by its number. No sandbox's pod is called so: those end in a number alone.
pub fn member(pool: &str, number: u32) -> String {
    format!("{pool}-m{number}")
}

/// What selects the pods of a pool that no sandbox has claimed.
pub fn unclaimed(pool: &str) -> String {
    format!("{POOL}={pool},!{SANDBOX_UID}")
}

/// The name of the pod that shows whether the API server takes those of a template. It is never made.
pub fn trial(template: &str) -> String {
    format!("{template}-trial")
}

/// The name of the policy that lets a sandbox reach what it may, and be reached. It cannot be [`DENY_POLICY`]: it ends
/// differently. The Internet was all that it could open at first; renamed, those of living sandboxes would be nobody's.
pub fn internet_policy(sandbox: &str) -> String {
    format!("{sandbox}-internet")
}

/// The name of the claim for a sandbox's disk, the same for all of its pods.
pub fn workspace(sandbox: &str) -> String {
    format!("{sandbox}-workspace")
}

/// The name of the last event about a sandbox. All others end in a hexadecimal number, which has no `n`.
pub fn last_event(sandbox: &str) -> String {
    format!("{sandbox}.ended")
}

/// The label that holds the product of a node's GPUs: NVIDIA's feature discovery, AMD's node labeller and Intel's rules
/// each have their own way to spell it. Of parts of GPUs and of shared ones it is the same label.
pub fn gpu_product(resource: &str) -> String {
    let vendor = resource.split('/').next().unwrap_or_default();
    match vendor {
        "amd.com" => format!("{vendor}/gpu.product-name"),
        "gpu.intel.com" => format!("{vendor}/product"),
        _ => format!("{vendor}/gpu.product"),
    }
}

/// The label that holds the memory of each of a node's GPUs in MiB, or of each part where parts of a kind are a resource
/// of their own (MIG). Only NVIDIA's feature discovery gives it as a number. One that is shared is known by its own name.
pub fn gpu_memory(resource: &str) -> Option<String> {
    let nvidia = resource.starts_with("nvidia.com/");
    nvidia.then(|| format!("{}.memory", resource.strip_suffix(SHARED_GPU).unwrap_or(resource)))
}

/// The command that `pods/exec` starts: a bridge between its stdio and the agent's socket.
pub fn connect_command() -> [&'static str; 2] {
    [AGENT, "connect"]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_of_gpus_follow_from_their_resource() {
        for (resource, product, memory) in [
            ("nvidia.com/gpu", "nvidia.com/gpu.product", Some("nvidia.com/gpu.memory")),
            ("nvidia.com/gpu.shared", "nvidia.com/gpu.product", Some("nvidia.com/gpu.memory")),
            (
                "nvidia.com/mig-1g.10gb",
                "nvidia.com/gpu.product",
                Some("nvidia.com/mig-1g.10gb.memory"),
            ),
            ("amd.com/gpu", "amd.com/gpu.product-name", None),
            ("gpu.intel.com/i915", "gpu.intel.com/product", None),
            ("example.com/gpu", "example.com/gpu.product", None),
        ] {
            let labels = (gpu_product(resource), gpu_memory(resource));
            assert_eq!(labels, (product.into(), memory.map(Into::into)), "{resource}");
        }
    }

    #[test]
    fn the_longest_name_fits_into_a_label_value() {
        assert!(pod(&"a".repeat(MAX_NAME), u32::MAX).len() <= 63);
    }
}

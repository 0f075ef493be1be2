//! What hostile code tries in a sandbox: it fails, the sandbox says so where it has to, and lives on.

use std::collections::BTreeMap;

use anyhow::Context;
use api::{Settings, TerminationReason, condition};
use e2e::{Cluster, Ran, Sandbox, is, kubectl, kubectl_with, run};
use serde_json::json;
use wire::v1::{Command, RunSpec, outcome::How, run_spec::What};

/// Tries each, and prints what came of it: `allowed`, or the error's name.
const ATTEMPTS: &str = r#"
import ctypes, errno, json, os, socket, stat, time
libc = ctypes.CDLL(None, use_errno=True)
def call(result):
    if result == -1:
        raise OSError(ctypes.get_errno(), "")
def write(path, text):
    with open(path, "w") as file:
        file.write(text)
attempts = {
    "raw socket": lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP),
    "packet socket": lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW),
    "mount": lambda: call(libc.mount(b"none", b"/tmp", b"tmpfs", 0, None)),
    "user namespace": lambda: call(libc.unshare(0x10000000)),
    "attach to PID 1": lambda: (call(libc.ptrace(16, 1, 0, 0)), os.waitpid(1, 0x40000000), libc.ptrace(17, 1, 0, 0)),
    "memory of PID 1": lambda: open("/proc/1/mem", "rb"),
    "variables of PID 1": lambda: open("/proc/1/environ", "rb"),
    "device node": lambda: os.mknod("/tmp/zero", 0o600 | stat.S_IFCHR, os.makedev(1, 5)),
    "become root": lambda: os.setuid(0),
    "give away a file": lambda: (write("/tmp/own", ""), os.chown("/tmp/own", 1, 1)),
    "change root": lambda: os.chroot("/tmp"),
    "set the clock": lambda: time.clock_settime(time.CLOCK_REALTIME, time.time()),
    "core pattern": lambda: write("/proc/sys/kernel/core_pattern", "|/tmp/own"),
    "sysrq": lambda: write("/proc/sysrq-trigger", "h"),
    "write to /sys": lambda: write("/sys/kernel/mm/ksm/run", "0"),
    "new control group": lambda: os.mkdir("/sys/fs/cgroup/own"),
    "load a module": lambda: call(libc.syscall(313, -1, b"", 0)),
    "load a BPF program": lambda: call(libc.syscall(321, 5, None, 0)),
    "the image's files": lambda: write("/etc/passwd", ""),
    "the agent": lambda: write("/.codesandbox/bin/agent", ""),
    "beside the agent": lambda: write("/.codesandbox/bin/other", ""),
}
came = {}
for name, attempt in attempts.items():
    # In a process of its own: one that succeeds may change what the next is allowed.
    child = os.fork()
    if child == 0:
        try:
            attempt()
            os._exit(0)
        except OSError as error:
            os._exit(error.errno)
        except BaseException:
            os._exit(255)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    came[name] = errno.errorcode.get(code, str(code)) if code else "allowed"
print(json.dumps(came))
"#;

/// What root in an ordinary pod may do of it, so that it is the sandbox that forbids it and not the attempt that is wrong.
const ALLOWED_ELSEWHERE: [&str; 10] = [
    "attach to PID 1",
    "become root",
    "change root",
    "device node",
    "give away a file",
    "memory of PID 1",
    "packet socket",
    "raw socket",
    "the image's files",
    "user namespace",
];
/// What gVisor's own kernel allows within itself.
const HARMLESS_UNDER_GVISOR: [&str; 1] = ["user namespace"];

async fn python(sandbox: &Sandbox, source: &str) -> anyhow::Result<Ran> {
    let argv = ["python3", "-c", source].map(String::from).into();
    let command = Command { argv, ..Command::default() };
    run(&sandbox.session(), RunSpec { what: Some(What::Command(command)), ..RunSpec::default() })
        .await
}

/// The same attempts of root in a pod with a sandbox's image that nobody hardens.
async fn control(cluster: &Cluster, sandbox: &Sandbox) -> anyhow::Result<BTreeMap<String, String>> {
    let pod = cluster.pods.get(&sandbox.pod()).await?;
    let container = pod.spec.and_then(|spec| spec.containers.into_iter().next());
    let image = container.and_then(|container| container.image).context("the pod has an image")?;
    kubectl(&["delete", "pod", "e2e-root", "-n", "default", "--ignore-not-found", "--now"]).await?;
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "e2e-root", "namespace": "default"},
        "spec": {"terminationGracePeriodSeconds": 0, "restartPolicy": "Never", "securityContext": {"runAsUser": 0},
            "containers": [{"name": "main", "image": image, "imagePullPolicy": "IfNotPresent",
                "command": ["python3", "-c", ATTEMPTS]}]},
    });
    kubectl_with(&["apply", "-f", "-"], &pod.to_string()).await?;
    let over = [
        "wait",
        "pod",
        "e2e-root",
        "-n",
        "default",
        "--for=jsonpath={.status.phase}=Succeeded",
        "--timeout=60s",
    ];
    kubectl(&over).await?;
    let said = kubectl(&["logs", "e2e-root", "-n", "default"]).await?;
    kubectl(&["delete", "pod", "e2e-root", "-n", "default", "--now"]).await?;
    serde_json::from_str(&said).with_context(|| said)
}

fn allowed(came: &BTreeMap<String, String>) -> Vec<&str> {
    assert!(came.values().all(|came| came != "255"), "an attempt is wrong: {came:?}");
    let allowed = came.iter().filter(|(_, came)| *came == "allowed");
    allowed.map(|(name, _)| name.as_str()).collect()
}

#[tokio::test]
async fn what_a_sandbox_must_not_do_fails_and_the_sandbox_lives_on() -> anyhow::Result<()> {
    let cluster = Cluster::connect().await?;
    for (name, runtime) in [("abuse-runc", None), ("abuse-gvisor", Some("gvisor"))] {
        let spec = Settings { runtime_class_name: runtime.map(Into::into), ..e2e::spec() };
        let sandbox = cluster.ready(name, spec).await?;
        if runtime.is_none() {
            let came = control(&cluster, &sandbox).await?;
            let allowed = allowed(&came);
            let lacks = ALLOWED_ELSEWHERE.iter().find(|one| !allowed.contains(one));
            assert_eq!(lacks, None, "the control has to be allowed it: {came:?}");
        }
        let ran = python(&sandbox, ATTEMPTS).await?;
        let came = serde_json::from_slice(&ran.stdout).with_context(|| format!("{ran:?}"))?;
        let harmless = if runtime.is_some() { &HARMLESS_UNDER_GVISOR[..] } else { &[] };
        assert_eq!(allowed(&came), harmless, "{name}: {came:?}");
        assert_eq!(sandbox.shell("echo alive").await?.text(), "alive\n");
        sandbox.delete().await?;
    }
    Ok(())
}

/// All descriptors, and a hundred thousand files: whoever asks next is answered, and nothing is left of it.
#[tokio::test]
async fn descriptors_and_files_run_out_for_the_sandbox_alone() -> anyhow::Result<()> {
    let cluster = Cluster::connect().await?;
    let sandbox = cluster.ready("abuse-many", e2e::spec()).await?;
    let hoard = "import os, errno\nheld = []\ntry:\n    while len(held) < 2_000_000:\n        held.append(os.dup(0))\nexcept OSError as error:\n    print(errno.errorcode[error.errno])";
    let ran = python(&sandbox, hoard).await?;
    assert!(["EMFILE\n", "ENFILE\n"].contains(&&*ran.text()), "{ran:?}");
    let files = "import os\nos.mkdir('many')\nfor i in range(100_000):\n    open(f'many/{i}', 'w').close()\nprint(len(os.listdir('many')))";
    assert_eq!(python(&sandbox, files).await?.text(), "100000\n");
    let page = sandbox.session().list("many", 1, 10).await?;
    assert!(page.len() == 10 && page[9].truncated, "{page:?}");
    let object = sandbox.object.clone();
    sandbox.delete().await?;
    assert_eq!(cluster.left_of(&object).await?, Vec::<String>::new());
    Ok(())
}

/// Who ends the agent ends what runs, its own run among it, and not the sandbox: that is started again with its files.
#[tokio::test]
async fn a_kill_of_the_agent_starts_the_sandbox_again_with_its_files() -> anyhow::Result<()> {
    let cluster = Cluster::connect().await?;
    let sandbox = cluster.ready("abuse-kill", e2e::spec()).await?;
    // PID 1 is deaf to it, as the kernel has it.
    assert_eq!(sandbox.shell("echo kept >kept; kill -9 1; echo alive").await?.text(), "alive\n");
    let ran = sandbox.shell("kill 1; sleep 60").await?;
    assert!(matches!(ran.outcome.how, Some(How::Lost(_))), "{ran:?}");
    let again = cluster
        .wait("abuse-kill", "started again", |s| {
            let status = s.status.as_ref();
            is(s, condition::READY)
                && status.is_some_and(|status| status.last_termination.is_some())
        })
        .await?;
    let last = again.status.unwrap().last_termination.unwrap();
    assert_eq!((last.reason, last.exit_code), (TerminationReason::Unknown, Some(128 + 15)));
    assert!(last.message.contains("was started again"), "{}", last.message);
    assert_eq!(sandbox.shell("cat kept").await?.text(), "kept\n");
    sandbox.delete().await
}

use super::*;

/// Of a machine with one H200, as its files and nvidia-smi said.
const VERSION: &str = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.159.04  Release Build  (nixbld@)  \nGCC version:  gcc version 15.3.0 (GCC) \n";
const INFORMATION: &str = "Model: \t\t NVIDIA H200\nIRQ:   \t\t 41\nGPU UUID: \t GPU-01234567-89ab-cdef-0123-456789abcdef\nVideo BIOS: \t 96.00.a5.00.1a\nBus Type: \t PCIe\nDMA Size: \t 52 bits\nDMA Mask: \t 0xfffffffffffff\nBus Location: \t 0000:00:06.0\nDevice Minor: \t 0\nGPU Firmware: \t 580.159.04\nGPU Excluded:\t No\n";
const SMI_SAID: &str =
    "GPU-01234567-89ab-cdef-0123-456789abcdef, NVIDIA H200, 143771, 0, 580.159.04\n";

fn h200() -> Gpu {
    Gpu {
        uuid: "GPU-01234567-89ab-cdef-0123-456789abcdef".into(),
        name: "NVIDIA H200".into(),
        ..Gpu::default()
    }
}

#[test]
fn what_nvidia_smi_says_is_taken_apart() {
    let memory = (143_771 << 20, 0);
    let of = |uuid: &str, name: &str, (memory_bytes, used_bytes)| Gpu {
        uuid: uuid.into(),
        name: name.into(),
        memory_bytes,
        used_bytes,
    };
    for (said, driver, gpus) in [
        (SMI_SAID, "580.159.04", vec![of(&h200().uuid, "NVIDIA H200", memory)]),
        (
            "GPU-1, A, 10, 1, 5.1\nGPU-2, B, 20, 2, 5.1\n",
            "5.1",
            vec![of("GPU-1", "A", (10 << 20, 1 << 20)), of("GPU-2", "B", (20 << 20, 2 << 20))],
        ),
        (
            "GPU-1, One, and another, 10, 1, 5.1",
            "5.1",
            vec![of("GPU-1", "One, and another", (10 << 20, 1 << 20))],
        ),
        ("GPU-1, GB10, [N/A], [N/A], 580.95.05", "580.95.05", vec![of("GPU-1", "GB10", (0, 0))]),
        ("GPU-1, A, 99999999999999999999, 1, 5.1", "5.1", vec![of("GPU-1", "A", (0, 0))]),
        ("", "", vec![]),
        ("No devices were found\n", "", vec![]),
        ("GPU-1, A, 10, 5.1", "", vec![]),
    ] {
        assert_eq!(rows(said), GpusReply { driver: driver.into(), gpus }, "{said}");
    }
}

#[test]
fn what_is_said_of_gpus_is_within_bounds() {
    let long = "é".repeat(MAX_GPU_TEXT);
    let said = format!("{long}, {long}, 10, 1, {long}\n").repeat(MAX_GPUS + 1);
    let reply = rows(&said);
    assert_eq!(reply.gpus.len(), MAX_GPUS);
    let longest = reply.gpus.iter().flat_map(|gpu| [&gpu.uuid, &gpu.name]);
    assert!(longest.chain([&reply.driver]).all(|text| text.len() == MAX_GPU_TEXT));
}

#[test]
fn the_version_is_found_between_words_that_change() {
    for (text, found) in [
        (VERSION, Some("580.159.04")),
        (
            "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.129.03  Thu Oct 19 18:56:32 UTC 2023\n",
            Some("535.129.03"),
        ),
        ("NVRM version: NVIDIA UNIX x86_64 Kernel Module\n", None),
        ("version 1.2", None),
        ("", None),
    ] {
        assert_eq!(version(text).as_deref(), found, "{text}");
    }
}

#[test]
fn an_information_file_tells_which_device_node_it_is_of() {
    assert_eq!(information(INFORMATION), Some((0, h200())));
    let unused = INFORMATION.replace(&h200().uuid, "GPU-????????-????-????-????-????????????");
    assert_eq!(information(&unused), Some((0, Gpu { uuid: String::new(), ..h200() })));
    assert_eq!(information("Model: \t NVIDIA H200\n"), None);
}

#[test]
fn the_nodes_that_are_there_are_the_sandbox_s_own() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    let write = |path: &str, text: &str| {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    assert_eq!(seen(root), GpusReply::default());

    // The driver is there, and no GPU of it is ours.
    let other = INFORMATION.replace("Minor: \t 0", "Minor: \t 1").replace("H200", "H100");
    write("proc/driver/nvidia/version", VERSION);
    write("proc/driver/nvidia/gpus/0000:00:06.0/information", INFORMATION);
    write("proc/driver/nvidia/gpus/0000:00:07.0/information", &other);
    for node in ["nvidiactl", "nvidia-uvm", "nvidia", "nvidia+1", "null"] {
        write(&format!("dev/{node}"), "");
    }
    let none = GpusReply { driver: "580.159.04".into(), gpus: vec![] };
    assert_eq!(seen(root), none);

    write("dev/nvidia0", "");
    assert_eq!(seen(root), GpusReply { gpus: vec![h200()], ..none.clone() });

    // As under gVisor, where the driver has no such files.
    write("dev/nvidia10", "");
    write("dev/nvidia2", "");
    let unnamed = vec![h200(), Gpu::default(), Gpu::default()];
    assert_eq!(seen(root), GpusReply { gpus: unnamed, ..none });
}

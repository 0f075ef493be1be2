//! The committed CRD is the one the code describes.

use kube::CustomResourceExt;

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../crds/codesandboxes.yaml");

/// Client-side `kubectl apply` keeps the whole object in an annotation of at most 256 KiB;
/// a CRD a person can read stays far below.
const MAX_BYTES: usize = 20 * 1024;

fn generated() -> String {
    let crd = api::CodeSandbox::crd();
    format!(
        "# Generated from api/ by `make crds`.\n{}",
        serde_yaml::to_string(&crd).expect("a CRD is YAML")
    )
}

#[test]
fn the_committed_crd_is_the_generated_one() {
    let generated = generated();
    if std::env::var_os("UPDATE_CRDS").is_some() {
        std::fs::write(PATH, &generated).unwrap();
    }
    let committed = std::fs::read_to_string(PATH).unwrap_or_default();
    assert!(committed == generated, "crds/codesandboxes.yaml is stale: run `make crds`");
}

#[test]
fn the_crd_is_small() {
    let bytes = generated().len();
    assert!(bytes <= MAX_BYTES, "{bytes} bytes, at most {MAX_BYTES}");
}

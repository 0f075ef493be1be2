//! Generates the messages and both ends of the service from `proto/agent.proto`.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = protox::compile(["proto/agent.proto"], ["proto"])?;
    tonic_prost_build::configure()
        .bytes(".")
        .btree_map(".")
        .build_transport(false)
        .compile_fds(files)?;
    println!("cargo::rerun-if-changed=proto");
    Ok(())
}

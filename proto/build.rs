//! Generates the messages and services of `leadsman/registry`, with the protoc that etcd-client needs too.

#[cfg(feature = "registry")]
fn main() -> std::io::Result<()> {
    const ROOT: &str = env!("CARGO_MANIFEST_DIR");
    println!("cargo::rerun-if-changed={ROOT}/leadsman/registry");
    tonic_prost_build::configure().build_transport(false).compile_protos(
        &[format!("{ROOT}/leadsman/registry/v1/registry.proto")],
        &[ROOT.to_owned()],
    )
}

#[cfg(not(feature = "registry"))]
fn main() {}

//! Compiles the .proto files of this folder without a system `protoc`.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = ["cri.proto", "admin.proto"];
    let descriptors = protox::compile(files, ["."])?;
    tonic_prost_build::configure()
        // What a message holds in order stays in order, on the wire too.
        .btree_map(".")
        .generate_default_stubs(true)
        .codec_path("crate::RequestCodec")
        .compile_fds(descriptors)?;
    for file in files {
        println!("cargo::rerun-if-changed={file}");
    }
    Ok(())
}

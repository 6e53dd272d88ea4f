//! How the daemon is linked.

fn main() {
    // A tenth of a megabyte of relocations, read once and resident ever after, becomes a few kilobytes. A linker that
    // does not know the word ignores it.
    println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    println!("cargo::rerun-if-changed=build.rs");
}

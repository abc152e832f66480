//! What `Cargo.toml` cannot say: what the linker can leave out of the least of programs.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=no_unwind_tables.ld");
    let target = |what: &str| std::env::var(format!("CARGO_CFG_TARGET_{what}")).unwrap_or_default();
    if target("OS") != "linux" {
        return;
    }
    // Relocations that only add where the program lies take bits, and not 24 bytes each. Needs
    // binutils 2.38, and glibc 2.36 to run.
    println!("cargo:rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    // Nobody unwinds where a panic aborts; and without names, which are stripped, a backtrace
    // is empty with these tables, too.
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/no_unwind_tables.ld");
    println!("cargo:rustc-link-arg-bins=-Wl,--no-eh-frame-hdr,-T,{script}");
    if target("ENV") == "gnu" {
        // What std wants of libgcc_s: 20 kB here, and one library less to load.
        println!("cargo:rustc-link-lib=static:-bundle=gcc_eh");
    }
}

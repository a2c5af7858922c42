//! The `postern` command.

/// A call is some two hundred small allocations, most of them given back within the same round. The C library's
/// allocator serves threads other than the first from arenas that grow by a page and a system call at a time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    host::cli::main()
}

//! The `postern` command.

#[global_allocator]
static ALLOCATOR: host::allocator::Allocator = host::allocator::Allocator;

fn main() -> std::process::ExitCode {
    host::cli::main()
}
